// The program behind scripts/compare_bits: what it writes depends on nothing but the library.
#include "bits/runs.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <set>
#include <string>

#include "examples/folder.hpp"

using namespace mtp;

namespace {

constexpr model_config config = bits::flipped_config(head_kind::shared_logit, 2);

std::set<std::string> names_in(const std::filesystem::path& path) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

}  // namespace

TEST_CASE("a run writes the same files a second time, and others with another scope") {
  const test::folder folder;
  bits::run<config, float>(folder / "one", gradient_scope::joint).write();
  bits::run<config, float>(folder / "two", gradient_scope::joint).write();
  bits::run<config, float>(folder / "other", gradient_scope::detached).write();
  const auto names = names_in(folder / "one");
  CHECK(names == std::set<std::string>{"checkpoint.safetensors",
                                       "gradients.txt",
                                       "plain.txt",
                                       "resumed.safetensors",
                                       "speculative.txt",
                                       "steps.txt"});
  for (const std::string& name : names) {
    CAPTURE(name);
    const std::string one = folder.read("one/" + name);
    CHECK(!one.empty());
    CHECK(one == folder.read("two/" + name));
    CHECK(one != folder.read("other/" + name));
  }
}
