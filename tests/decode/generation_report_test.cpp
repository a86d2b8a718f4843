// Reports of generation: what they say, figure by figure.
#include "mtp/decode/generation_report.hpp"

#include <doctest/doctest.h>

#include <string>

#include "support/comma_locale.hpp"
#include "support/decoding.hpp"

namespace mtp::test::generation_report_cases {

namespace {

generation<2> some_result() {
  generation<2> result;
  for (token_t t = 0; t < 100; ++t) {
    result.tokens.push_back(t % 10);
  }
  result.forward_passes = 80;
  result.drafted = {70, 60};
  result.accepted = {15, 5};
  result.cycles = {10, 10, 60};
  result.decode_seconds = 0.5;
  result.seconds = {0.1, 0.3, 0.1};
  return result;
}

}  // namespace

TEST_CASE("a report has all figures, whatever the locale") {
  const std::string expected =
      "100 tokens in 80 passes, 1.25 per pass, 200.0 per second\n"
      "drafts accepted: 20 of 130, 15.4 %; by place 21.4 %, 8.3 %\n"
      "drafts made: 0 in 10 cycles, 1 in 10 cycles, 2 in 60 cycles\n"
      "time: 20.0 % drafting, 60.0 % verifying, 20.0 % choosing and accepting\n";
  CHECK(report(some_result()) == expected);
  const mtp::testing::comma_locale comma;
  CHECK(report(some_result()) == expected);
}

TEST_CASE("a report leaves out what was not measured or did not happen") {
  generation<2> nothing;
  CHECK(report(nothing) == "0 tokens in 0 passes\n");
  generation<0> plain;
  plain.tokens = {1, 2, 3};
  plain.forward_passes = 3;
  plain.cycles = {3};
  CHECK(report(plain) == "3 tokens in 3 passes, 1.00 per pass\n");
}

TEST_CASE("a report warns of drafts that are as good as chance, and of no others") {
  const std::string warning = "warning: drafts are accepted no more often than chance";
  auto result = some_result();
  CHECK_FALSE(drafts_by_chance(result));
  result.accepted[0] = 7;  // as often as the most frequent token: a tenth
  CHECK(drafts_by_chance(result));
  CHECK(report(result).find(warning) != std::string::npos);
  result.accepted[0] = 8;
  CHECK(report(result).find(warning) == std::string::npos);
  result.accepted[0] = 0;
  result.drafted[0] = 63;  // too few to tell
  CHECK_FALSE(drafts_by_chance(result));
  result.drafted[0] = 64;
  CHECK(drafts_by_chance(result));
  result.tokens.assign(100, 7);  // a text of one token: whatever is right is right
  result.accepted[0] = 64;
  CHECK_FALSE(drafts_by_chance(result));
}

TEST_CASE("a generation counts its cycles by drafts, and where its time went") {
  constexpr auto config = spoken_config(head_kind::sequential, 2);
  cpu_context context({.threads = 1});
  const language_model<config, cpu> model(context, seed{1});
  generator<config, cpu> writer(context, model);
  auto options = options_of<float>(decode_mode::speculative, 60);
  const auto result = writer.generate(random_tokens(1, config.vocab_size, 1), options);
  CHECK(result.cycles[0] == 1);  // nothing is drafted behind a single token
  CHECK(result.cycles[1] == 0);
  CHECK(result.cycles[2] == result.drafted[0]);
  CHECK(result.cycles[0] + result.cycles[2] == result.forward_passes);
  CHECK(result.seconds.draft > 0);
  CHECK(result.seconds.verify > 0);
  CHECK(result.seconds.accept > 0);
  CHECK(result.seconds.total() <= result.decode_seconds);
  options.num_draft_tokens = 1;
  const auto fewer = writer.generate(random_tokens(9, config.vocab_size, 1), options);
  CHECK(fewer.cycles[1] == fewer.forward_passes);
  CHECK(fewer.drafted[1] == 0);
  options.num_draft_tokens = 3;
  CHECK_THROWS_WITH_AS(writer.generate(random_tokens(9, config.vocab_size, 1), options),
                       "generate: expected num_draft_tokens in [0, 2], or -1 for all, got 3",
                       error);
}

}  // namespace mtp::test::generation_report_cases
