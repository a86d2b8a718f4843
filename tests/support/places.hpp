// Where the files lie that tests read.
#pragma once

#include <cstdlib>
#include <filesystem>

namespace mtp::test {

/// The folder tests/ of the source tree: what the environment's MTP_TESTS_DIR names, so that an
/// executable can run on another machine than the one that it was compiled on; without it, the
/// folder that it was compiled from.
inline std::filesystem::path tests_folder() {
  const char* const given = std::getenv("MTP_TESTS_DIR");
  return given != nullptr && *given != '\0' ? given : MTP_TESTS_DIR;
}

/// Data that another program made, see tests/golden/README.md.
inline std::filesystem::path golden_folder() {
  return tests_folder() / "golden";
}

/// The root of the source tree.
inline std::filesystem::path source_folder() {
  return tests_folder().parent_path();
}

}  // namespace mtp::test
