# Flags for tests, examples and benchmarks. Neither target is exported, and `mtp` links neither.

add_library(mtp_warnings INTERFACE)
set(werror $<BOOL:${MTP_WERROR}>)
target_compile_options(mtp_warnings INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wconversion -Wshadow $<${werror}:-Werror>>
    # The host compiler sees what nvcc generates, which is not pedantic.
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wconversion,-Wshadow
        $<${werror}:-Werror=all-warnings>>)

# g++ 12 takes the deliberately undefined registers of its own AVX-512 intrinsics for mistakes, and
# some of its own string concatenations for overlapping copies.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(mtp_warnings INTERFACE
      $<$<COMPILE_LANGUAGE:CXX>:-Wno-uninitialized -Wno-maybe-uninitialized -Wno-restrict>
      $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wno-maybe-uninitialized,-Wno-restrict>)
endif()

add_library(mtp_native INTERFACE)
if(MTP_NATIVE)
  include(CheckCXXSourceCompiles)
  target_compile_options(mtp_native INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-march=native>)

  # Before version 13, g++ does not know the newer AVX-512 processors and tunes for an older one;
  # Eigen's matrix product is 1.2 times as fast with this tuning.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    set(CMAKE_REQUIRED_FLAGS -march=native)
    check_cxx_source_compiles("
        #ifndef __AVX512F__
        #error no AVX-512
        #endif
        int main() {}" MTP_HAS_AVX512F)
    unset(CMAKE_REQUIRED_FLAGS)
    if(MTP_HAS_AVX512F)
      target_compile_options(mtp_native INTERFACE
          $<$<COMPILE_LANGUAGE:CXX>:-mtune=skylake-avx512>)
    endif()
  endif()
endif()

add_library(mtp_own INTERFACE)
target_link_libraries(mtp_own INTERFACE mtp::io mtp_warnings mtp_native)
# Collecting garbage less often, g++ compiles these files in five sixths to nine tenths of the time, in half as much memory again.
target_compile_options(mtp_own INTERFACE
    "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:SHELL:--param ggc-min-expand=300>"
    "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:SHELL:--param ggc-min-heapsize=1000000>")
