"""Stands for Conan Center's eigen or nlohmann_json with what the system has, to check without network."""

import os

from conan import ConanFile


class SystemConan(ConanFile):
    package_type = "header-library"

    def package_id(self):
        self.info.clear()

    def package_info(self):
        include = os.path.join(os.environ["MTP_SYSTEM_PREFIX"], "include")
        if self.name == "eigen":
            self.cpp_info.includedirs = [os.path.join(include, "eigen3")]
            self.cpp_info.set_property("cmake_file_name", "Eigen3")
            self.cpp_info.set_property("cmake_target_name", "Eigen3::Eigen")
        else:
            self.cpp_info.includedirs = [include]
            self.cpp_info.set_property("cmake_file_name", "nlohmann_json")
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
