// The pictures of the documentation: well formed, with text as text, and readable on dark pages.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "examples/tags.hpp"
#include "support/places.hpp"

TEST_CASE("pictures are well formed, have a title and text, and colours for dark pages") {
  int pictures = 0;
  const auto folder = mtp::test::source_folder() / "docs/pictures";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    CAPTURE(entry.path().filename().string());
    REQUIRE(entry.path().extension() == ".svg");
    std::ifstream file(entry.path());
    const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    CHECK(test::markup_fault(text) == "");
    CHECK(text.find("<title>") != text.npos);
    CHECK(text.find("<text") != text.npos);
    CHECK(text.find("prefers-color-scheme: dark") != text.npos);
    ++pictures;
  }
  CHECK(pictures > 0);
}
