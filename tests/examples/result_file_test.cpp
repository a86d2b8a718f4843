#include "train_and_generate/result_file.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

#include "examples/folder.hpp"
#include "examples/tags.hpp"
#include "io/scratch.hpp"

namespace examples_result_file_cases {

using example::read_result;
using example::write_result;

TEST_CASE("a result is read as it was written") {
  const test::folder folder;
  example::run_result result;
  result.head = "parallel";
  result.depth = 3;
  result.parameters = 12345678901;
  result.steps = 700;
  result.bytes_per_step = 256;
  result.text_checksum = "xxh64:0123";
  result.validation = 1.625;
  result.tokens_per_forward = 2.5;
  result.acceptance = {0.75, 0.5};
  result.plain_tokens_per_s = {1000.5, 990, 1010};
  result.speculative_tokens_per_s = {1800, 1700, 1900};
  result.speedup = {1.8, 1.7, 1.9};
  write_result(folder / "result.json", result);
  example::run_result back = read_result(folder / "result.json");
  CHECK(back.head == result.head);
  CHECK(back.depth == result.depth);
  CHECK(back.parameters == result.parameters);
  CHECK(back.steps == result.steps);
  CHECK(back.bytes_per_step == result.bytes_per_step);
  CHECK(back.text_checksum == result.text_checksum);
  CHECK(back.validation == result.validation);
  CHECK(back.tokens_per_forward == result.tokens_per_forward);
  CHECK(back.acceptance == result.acceptance);
  CHECK(back.plain_tokens_per_s.median == 1000.5);
  CHECK(back.plain_tokens_per_s.lowest == 990);
  CHECK(back.plain_tokens_per_s.highest == 1010);
  CHECK(back.speculative_tokens_per_s.median == 1800);
  CHECK(back.speedup.highest == 1.9);

  // What was not measured stays unknown.
  result.validation = std::numeric_limits<double>::quiet_NaN();
  result.speedup = {};
  write_result(folder / "result.json", result);
  back = read_result(folder / "result.json");
  CHECK(std::isnan(back.validation));
  CHECK_FALSE(back.speedup.is_known());
}

TEST_CASE("a file that is no result is refused by its name") {
  const test::folder folder;
  for (const std::string text : {"", "{", "[]", "{\"head\": 1}", "\xff"}) {
    folder.write("result.json", text);
    const std::string message = mtp::testing::refusal([&] { read_result(folder / "result.json"); });
    CHECK_MESSAGE(test::contains(message, "result.json is no result of a run"), message);
  }
  CHECK_THROWS_AS(read_result(folder / "absent.json"), mtp::error);
}

}  // namespace examples_result_file_cases
