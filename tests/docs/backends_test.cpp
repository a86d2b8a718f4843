#include <filesystem>
#include <regex>
#include <set>

#include "support/cpu_cases.hpp"
// The cases come first.
#include "docs/backends_test.hpp"

namespace mtp::test::docs_backends_cases {

namespace {

using backend_table::names_in_table;
using backend_table::offered;

/// The headers of models, losses, training and decoding, without comments.
std::string text_of_models() {
  std::string text;
  for (const char* part : {"model", "loss", "train", "decode"}) {
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(source_folder() / "include/mtp" / part)) {
      std::ifstream file(entry.path());
      for (std::string line; entry.is_regular_file() && std::getline(file, line);) {
        text += line.substr(0, line.find("//")) + '\n';
      }
    }
  }
  REQUIRE_FALSE(text.empty());
  return text;
}

/// The documented lists of what a backend owes to models name what the headers call.
void check_owed() {
  const std::string text = text_of_models();
  std::set<std::string> called, asked;
  for (const auto& entry : offered<mtp::cpu, double>()) {
    // Not a member of something, nor of another namespace.
    if (std::regex_search(text, std::regex("(^|[^\\w:.>])" + entry.first + "\\("))) {
      called.insert(entry.first);
    }
  }
  const std::regex size("ops(_of<Backend>)?::(template )?(\\w+_(workspace|storage))");
  for (std::sregex_iterator at(text.begin(), text.end(), size), end; at != end; ++at) {
    asked.insert((*at)[3]);
  }
  const auto list = [](const std::set<std::string>& names) {
    std::string line;
    for (const std::string& name : names) {
      line += name + ' ';
    }
    return line;
  };
  auto documented = names_in_table("Needed by models", 1);
  documented.merge(names_in_table("Needed for trees", 1));
  documented.merge(names_in_table("Needed for latent attention", 1));
  documented.merge(names_in_table("Needed for distillation", 1));
  documented.merge(names_in_table("Needed for experts", 1));
  documented.merge(names_in_table("Needed for weights in 8 bits", 1));
  documented.merge(names_in_table("Needed for tensor parallel models", 1));
  CHECK(list(documented) == list(called));
  CHECK(list(names_in_table("Size", 0)) == list(asked));
}

}  // namespace

TEST_CASE("docs/backends.md has a cell for each operation that the CPU backend offers") {
  mtp::test::backend_table::check_cases(mtp::test::cases{}, "cpu");
}

TEST_CASE("docs/backends.md lists the operations and sizes that models ask a backend for") {
  check_owed();
}

}  // namespace mtp::test::docs_backends_cases
