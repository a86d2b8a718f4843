# Defaults for a build of this repository by itself. Projects that include it never read this file.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Kind of build" FORCE)
endif()
set(CMAKE_CXX_EXTENSIONS OFF)

find_program(MTP_CCACHE ccache)
mark_as_advanced(MTP_CCACHE)
if(MTP_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${MTP_CCACHE}")
endif()
if(MTP_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER "${MTP_CCACHE}")
endif()

# `scripts/setup --prefix .deps` puts the dependencies here; they win over installed ones.
set(mtp_deps "${PROJECT_SOURCE_DIR}/.deps/usr")
if(IS_DIRECTORY "${mtp_deps}")
  message(STATUS "mtp: dependencies are taken from .deps first")
  list(PREPEND CMAKE_PREFIX_PATH "${mtp_deps}")
  # A build folder that is older than .deps remembers where it found them before.
  foreach(package IN ITEMS Eigen3 doctest benchmark CLI11 fmt nlohmann_json)
    cmake_path(IS_PREFIX mtp_deps "${${package}_DIR}" is_inside)
    if(NOT is_inside)
      unset(${package}_DIR CACHE)
    endif()
  endforeach()
endif()
