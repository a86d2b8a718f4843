// Files do not depend on the locale of the program that writes or reads them.
#include <doctest/doctest.h>

#include <cstddef>
#include <map>
#include <string>

#include "io/scratch.hpp"
#include "mtp/io/checkpoint.hpp"
#include "support/comma_locale.hpp"
#include "support/model.hpp"
#include "train/small_run.hpp"

namespace mtp::test::io_locale_cases {

namespace {

using namespace mtp::io;
using mtp::testing::comma_locale;
using mtp::testing::contains;
using mtp::testing::content;
using mtp::testing::refusal;
using mtp::testing::scratch_directory;

constexpr model_config usual = tiny_config(head_kind::independent, 2);
using usual_run = small_run<usual>;

/// A configuration whose numbers have points, exponents and more than three digits.
constexpr model_config wide{.vocab_size = 32000,
                            .hidden_size = 4096,
                            .num_hidden_layers = 2,
                            .max_position_embeddings = 131072,
                            .rms_norm_eps = 1e-5f,
                            .attention = {.num_attention_heads = 8, .rope_theta = 1234567.5f},
                            .feed_forward = {.intermediate_size = 12288}};

}  // namespace

TEST_CASE("a configuration has one description in every locale") {
  const std::map<std::string, std::string> expected = describe(wide);
  CHECK(expected.at("config.vocab_size") == "32000");
  CHECK(expected.at("config.rms_norm_eps") == "9.99999975e-06");
  CHECK(expected.at("config.rope_theta") == "1234567.5");
  CHECK(expected.at("config.qk_norm") == "false");
  const comma_locale here;
  CHECK(describe(wide) == expected);
}

TEST_CASE("a checkpoint has the same bytes in every locale, and is read in every other") {
  const scratch_directory scratch;
  usual_run run;
  run.advance(2, {});
  save_checkpoint(scratch / "point", run.training);
  {
    const comma_locale here;
    save_checkpoint(scratch / "comma", run.training);
    CHECK(refusal([&] { load_checkpoint(scratch / "point", run.training); }) == "");
    CHECK(refusal([&] { load_parameters(scratch / "point", run.model); }) == "");
  }
  CHECK((content(scratch / "comma") == content(scratch / "point")));
  CHECK(refusal([&] { load_checkpoint(scratch / "comma", run.training); }) == "");
}

TEST_CASE("a refusal names sizes and offsets alike in every locale") {
  const scratch_directory scratch;
  mtp::testing::put(scratch / "file", std::string(5000, 'x'));
  const auto message = [&] {
    return refusal([&] {
      std::byte byte{};
      input_file(scratch / "file").read_exactly(123456, std::span(&byte, 1));
    });
  };
  const std::string expected = message();
  CHECK(contains(expected, "at offset 123456 wanted 1 bytes"));
  const comma_locale here;
  CHECK(message() == expected);
}

}  // namespace mtp::test::io_locale_cases
