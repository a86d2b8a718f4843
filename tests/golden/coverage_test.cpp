// Every golden file has a test.
#include <doctest/doctest.h>

#include <filesystem>
#include <set>
#include <string>

#include "golden/golden_case.hpp"

namespace mtp::test::golden_coverage_cases {

namespace {

// All tests of this folder are one executable; its golden cases register before main begins.
TEST_CASE("the golden files of the folder are those that tests compare with") {
  std::set<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(golden_folder())) {
    if (entry.path().extension() == ".safetensors") {
      found.insert(entry.path().stem().string());
    }
  }
  CHECK(mtp::test::listing(found) == mtp::test::listing(mtp::test::covered_files()));
  CHECK(found.size() == 14);
}

}  // namespace

}  // namespace mtp::test::golden_coverage_cases
