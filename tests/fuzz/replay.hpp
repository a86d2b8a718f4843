// Runs a harness over the files of its corpus.
#pragma once

#include <algorithm>
#include <cstdint>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "support/places.hpp"

namespace mtp::fuzz {

/// Every file of tests/fuzz/corpus/<name>; fails if there is none.
template <class Harness>
void replay(const std::string& name, const Harness& fuzz_one) {
  const auto corpus = test::tests_folder() / "fuzz/corpus" / name;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(corpus)) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  REQUIRE(!files.empty());
  for (const auto& path : files) {
    CAPTURE(path.filename().string());
    std::ifstream file(path, std::ios::binary);
    const std::vector<std::uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
    CHECK_NOTHROW(fuzz_one(bytes));
  }
}

}  // namespace mtp::fuzz
