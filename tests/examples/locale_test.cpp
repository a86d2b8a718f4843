// What the program writes and reads has points and no groups of digits, whatever the locale.
#include <doctest/doctest.h>

#include <string>

#include "examples/folder.hpp"
#include "support/comma_locale.hpp"
#include "train_and_generate/corpus.hpp"
#include "train_and_generate/metrics_log.hpp"
#include "train_and_generate/progress.hpp"
#include "train_and_generate/report.hpp"

namespace examples_locale_cases {

namespace {

std::string metrics_of(const test::folder& folder, const char* name) {
  example::metrics_log log(folder / name, 1);
  log.append({1, 100000, 1234.5, 0.3, 1.5, 2000.25, {2.5, 3}, {0.5, 0.25}, {2.25, 4}});
  log.append({2000, 200000, 0.001, 0.3, 1.5, 2000.25, {2.5, 3}, {0.5, 0.25}, {}});
  log.append({3000, 300000, 0.001, 0.3, 1.5, 2000.25, {2.5, 3}, {0.5, 0.25}, {}});
  log.truncate_after(2000);
  return folder.read(name);
}

example::report_data report() {
  example::report_data data;
  data.title = "A title";
  data.depth = 1;
  for (int i = 1; i < 3000; i += 7) {
    data.curve.push_back({i, {5.5 / i, 6.5 / i}, {}, {0.25, 0.125}});
  }
  data.validation = 1.25;
  data.acceptance = {0.815};
  data.plain_tokens_per_s = {1000.5, 999.25, 1234.5};
  data.speculative_tokens_per_s = {12345.5, 12000.5, 13000.5};
  data.speedup = {12.5, 11.25, 1234.5};
  data.tokens_per_forward = 1.75;
  return data;
}

}  // namespace

TEST_CASE("metrics, report and progress are the same in every locale") {
  const test::folder folder;
  const std::string metrics = metrics_of(folder, "point.csv");
  const std::string page = report_html(report());
  const example::progress_state state{1500, 12000, {2.5, 3.25}, 12345.5, 7e-4, 3725};
  const std::string line = progress_line(state, 0, false);
  const std::string size = example::detail::size_text(1234567);
  const mtp::testing::comma_locale here;
  CHECK(metrics_of(folder, "comma.csv") == metrics);
  CHECK((report_html(report()) == page));
  CHECK(progress_line(state, 0, false) == line);
  CHECK(example::detail::size_text(1234567) == size);
}

}  // namespace examples_locale_cases
