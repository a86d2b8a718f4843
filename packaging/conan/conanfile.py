"""Packages the headers of the source tree that this file lies in, for Conan 2."""

import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy, load

required_conan_version = ">=2.0"


class MtpConan(ConanFile):
    name = "mtp"
    description = "Tensors and multi-token-prediction layers, header only"
    license = "MIT"
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    no_copy_source = True

    @property
    def _root(self):
        return os.path.join(self.recipe_folder, os.pardir, os.pardir)

    def set_version(self):
        header = load(self, os.path.join(self._root, "include", "mtp", "core", "config.hpp"))
        numbers = re.findall(r"^#define MTP_VERSION_\w+ (\d+)$", header, re.MULTILINE)
        self.version = ".".join(numbers)

    def export_sources(self):
        for pattern in ("LICENSE", "include/*"):
            copy(self, pattern, self._root, self.export_sources_folder)

    def requirements(self):
        self.requires("eigen/[>=3.4.0 <6]", transitive_headers=True)
        self.requires("nlohmann_json/[>=3.10 <4]", transitive_headers=True)

    def validate(self):
        check_min_cppstd(self, 20)

    def package(self):
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        copy(self, "include/*", self.source_folder, self.package_folder)

    def package_id(self):
        self.info.clear()

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "mtp")

        core = self.cpp_info.components["core"]
        core.set_property("cmake_target_name", "mtp::mtp")
        core.set_property("pkg_config_name", "mtp")
        core.requires = ["eigen::eigen"]
        if self.settings.get_safe("os") in ("Linux", "FreeBSD"):
            core.system_libs = ["pthread"]

        io = self.cpp_info.components["io"]
        io.set_property("cmake_target_name", "mtp::io")
        io.set_property("pkg_config_name", "mtp-io")
        io.requires = ["core", "nlohmann_json::nlohmann_json"]

        for info in (self.cpp_info, core, io):
            info.bindirs = []
            info.libdirs = []
