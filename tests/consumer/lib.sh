# shellcheck shell=bash
# Shared by the tests beside it. Each gets a folder of its own, which it enters and finds empty. The folder is the same
# in each run, so that a compiler cache recognizes what has not changed.

: "${MTP_SOURCE_DIR:?must name the root of the source tree}"
: "${MTP_EXAMPLES_DIR:?must name the folder of the built examples}"

consumer=$MTP_SOURCE_DIR/tests/consumer
warnings=(-Wall -Wextra -Wconversion -Wshadow -Wpedantic -Werror)

scratch=$(dirname "$MTP_EXAMPLES_DIR")/consumer/$(basename "$0" _test.sh)
rm -rf "$scratch"
mkdir -p "$scratch"
cd "$scratch" || exit

# What a compilation by hand begins with.
# shellcheck disable=SC2034  # used by those who source this file
compiler=("${CXX:=c++}")
if command -v ccache >/dev/null; then
  # shellcheck disable=SC2034  # likewise
  compiler=(ccache "$CXX")
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache
fi
export CXX CMAKE_GENERATOR=Ninja

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

skip() {
  echo "skipped: $*"
  exit 77
}

# quietly COMMAND...: its output is shown only if it fails.
quietly() {
  "$@" >output.txt 2>&1 || {
    cat output.txt >&2
    fail "$*"
  }
}

# What a user who downloads the library has of it.
copy_library() { # copy_library FOLDER
  mkdir "$1"
  cp -r "$MTP_SOURCE_DIR"/{CMakeLists.txt,LICENSE,cmake,include} "$1"
}

install_library() { # install_library PREFIX
  quietly cmake -S "$MTP_SOURCE_DIR" -B library -DMTP_BUILD_TESTS=OFF -DMTP_BUILD_EXAMPLES=OFF \
    -DMTP_BUILD_BENCHMARKS=OFF
  quietly cmake --install library --prefix "$1"
  rm -rf library
}

# The folder of Eigen's headers, as CMake finds it.
eigen_headers() {
  mkdir -p eigen
  cat >eigen/CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.25)
project(eigen LANGUAGES NONE)
find_package(Eigen3 CONFIG REQUIRED)
get_target_property(folder Eigen3::Eigen INTERFACE_INCLUDE_DIRECTORIES)
file(WRITE folder.txt "${folder}")
END
  quietly cmake -S eigen -B eigen/build
  cat eigen/folder.txt
}

# build_and_run: the consumer in the current folder, with ARGUMENT... for its configuration
build_and_run() {
  cp "$consumer/main.cpp" .
  quietly cmake -S . -B build "-DCMAKE_CXX_FLAGS=${warnings[*]}" "$@"
  quietly cmake --build build
  [[ $(build/program) == consumed ]] || fail "the program did not run to its end"
}

# check_build_type: the project in the current folder is told once per build folder that nothing is optimized.
check_build_type() {
  configure() { # configure COUNT [ARGUMENT...]: sentences expected
    local count=$1
    shift
    cmake -S . -B said "$@" >output.txt 2>&1 || fail "cmake $*: $(cat output.txt)"
    [[ $(grep -c "compiled without optimization" output.txt) == "$count" ]] ||
      fail "cmake $*: expected $count sentences about optimization: $(cat output.txt)"
  }
  configure 1
  grep -q "CMAKE_BUILD_TYPE is empty: .* -DCMAKE_BUILD_TYPE=Release" output.txt || fail "the sentence: $(cat output.txt)"
  configure 0
  configure 0 -DCMAKE_BUILD_TYPE=Release
  configure 1 -DCMAKE_BUILD_TYPE=Debug
  configure 0 -DCMAKE_BUILD_TYPE=RelWithDebInfo
  configure 0 -DCMAKE_BUILD_TYPE= -DCMAKE_CXX_FLAGS="-Wall -O2"
  configure 1 -DCMAKE_BUILD_TYPE= -DCMAKE_CXX_FLAGS="-O0 -march=native"
  rm -rf said
}
