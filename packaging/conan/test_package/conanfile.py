"""Builds and runs the consumer of tests/consumer/find_package against the package."""

import os

from conan import ConanFile
from conan.tools.build import can_run
from conan.tools.cmake import CMake, cmake_layout
from conan.tools.files import copy


class MtpTest(ConanFile):
    settings = "os", "arch", "compiler", "build_type"
    generators = "CMakeDeps", "CMakeToolchain"

    def requirements(self):
        self.requires(self.tested_reference_str)

    def layout(self):
        cmake_layout(self)

    def build(self):
        consumer = os.path.join(self.recipe_folder, *[os.pardir] * 3, "tests", "consumer")
        sources = os.path.join(self.build_folder, "sources")
        copy(self, "*", os.path.join(consumer, "find_package"), sources)
        copy(self, "main.cpp", consumer, sources)
        cmake = CMake(self)
        cmake.configure(build_script_folder=sources)
        cmake.build()

    def test(self):
        if can_run(self):
            for name in ("program", "checkpoint"):
                self.run(os.path.join(self.build_folder, name), env="conanrun")
