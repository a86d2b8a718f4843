#include "train_and_generate/progress.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

namespace examples_progress_cases {

using example::progress_line;
using example::progress_state;

namespace {

std::string content(std::FILE* file) {
  std::rewind(file);
  std::string text;
  for (int c; (c = std::fgetc(file)) != EOF;) text += static_cast<char>(c);
  return text;
}

}  // namespace

TEST_CASE("a progress line fits the terminal") {
  const progress_state state{120, 4000, {1.234, 1.5, 1.7, 1.9}, 12345, 1e-3, 3725};
  for (int width = 1; width < 200; ++width) {
    CHECK(progress_line(state, width, false).size() <= static_cast<std::size_t>(width));
  }
  CHECK(progress_line(state, 0, false) ==
        "step  120/4000  loss 1.234 1.500 1.700 1.900  12.3k tok/s  lr 1.00e-03  1:02:05 left");
  CHECK(progress_line(state, 40, false) == "................  120/4000  1:02:05 left");
  CHECK(progress_line({4000, 4000, {}, 0, 0, -1}, 20, false) == "########## 4000/4000");
}

TEST_CASE("numbers of a progress line are short") {
  CHECK(example::short_number(0) == "0");
  CHECK(example::short_number(999.4) == "999");
  CHECK(example::short_number(999.9) == "1.00k");
  CHECK(example::short_number(1234567) == "1.23M");
  CHECK(example::short_number(std::numeric_limits<double>::quiet_NaN()) == "?");
  CHECK(example::duration_text(65) == "1:05");
  CHECK(example::duration_text(3599.6) == "1:00:00");
  CHECK(example::duration_text(-1) == "?");
}

TEST_CASE("a file gets the first and the last update of a short run, each as a line") {
  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  {
    example::progress progress(100, file);
    for (long step = 1; step <= 100; ++step)
      progress.update(step, std::vector{2.0, 3.0}, 500, 0.01);
    progress.finish();
    progress.finish();
  }
  CHECK(content(file) ==
        "step   1/100  loss 2.000 3.000  500 tok/s  lr 1.00e-02\n"
        "step 100/100  loss 2.000 3.000  500 tok/s  lr 1.00e-02  0:00 left\n");
  std::fclose(file);
}

TEST_CASE("progress that cannot be written ends nothing") {
  std::FILE* const full = std::fopen("/dev/full", "w");
  REQUIRE(full != nullptr);
  std::setvbuf(full, nullptr, _IONBF, 0);  // as stderr
  {
    example::progress line(10, full);
    CHECK_NOTHROW(line.update(1, std::vector<double>{2.5}, 100, 1e-3));
    CHECK_NOTHROW(line.finish());
  }
  std::fclose(full);
}

}  // namespace examples_progress_cases
