#include "mtp/ops/sampling_rule.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstddef>

#include "mtp/core/backend.hpp"

namespace mtp::test::ops_sampling_rule_cases {

namespace {

/// A rule whose numbers all differ: the k-th integer is 10 + k, the k-th real 0.5 + k.
struct numbers {
  std::array<index_t, sampling_integers> integers{};
  std::array<double, sampling_reals> reals{};

  numbers() {
    for (std::size_t k = 0; k < integers.size(); ++k) integers[k] = 10 + static_cast<index_t>(k);
    for (std::size_t k = 0; k < reals.size(); ++k) reals[k] = real(static_cast<sampling_real>(k));
  }
  static double real(sampling_real place) { return 0.5 + static_cast<double>(place); }
  mtp::detail::sampling_numbers read(index_t room) const {
    return {integers.data(), reals.data(), room};
  }
};

}  // namespace

TEST_CASE("each number of a rule is read from its own place") {
  numbers given;
  const auto read = given.read(100);
  CHECK(read.noise_seed.value == 10 + sampling_seed);
  CHECK(read.sequence == 10 + sampling_sequence);
  CHECK(read.prompt_length == 10 + sampling_prompt_length);
  CHECK(read.min_new_tokens == 10 + sampling_min_new_tokens);
  CHECK(read.stop_count == 10 + sampling_stop_count);
  CHECK(read.has_bias);
  CHECK(read.top_k == 10 + sampling_top_k);
  CHECK(read.temperature == numbers::real(sampling_temperature));
  CHECK(read.top_p == numbers::real(sampling_top_p));
  CHECK(read.min_p == numbers::real(sampling_min_p));
  CHECK(read.repetition == numbers::real(sampling_repetition_penalty));
  CHECK(read.frequency == numbers::real(sampling_frequency_penalty));
  CHECK(read.presence == numbers::real(sampling_presence_penalty));
  given.integers[sampling_has_bias] = 0;
  CHECK(!given.read(100).has_bias);
}

TEST_CASE("no stop token is read beyond the room for them") {
  const numbers given;
  CHECK(given.read(9).stop_count == 9);
  CHECK(given.read(0).stop_count == 0);
}

TEST_CASE("a rule penalizes if one of its penalties does") {
  numbers given;
  given.reals[sampling_repetition_penalty] = 1;
  given.reals[sampling_frequency_penalty] = 0;
  given.reals[sampling_presence_penalty] = 0;
  CHECK(!given.read(0).penalizes());
  for (const sampling_real penalty :
       {sampling_repetition_penalty, sampling_frequency_penalty, sampling_presence_penalty}) {
    numbers other = given;
    other.reals[static_cast<std::size_t>(penalty)] = -0.5;
    CHECK(other.read(0).penalizes());
  }
}

TEST_CASE("stop tokens are forbidden for the first min_new_tokens behind the prompt") {
  numbers given;
  given.integers[sampling_prompt_length] = 7;
  given.integers[sampling_min_new_tokens] = 2;
  const auto read = given.read(0);
  CHECK(read.forbids_stop(7));
  CHECK(read.forbids_stop(8));
  CHECK(!read.forbids_stop(9));
}

TEST_CASE("a rule exists if it has numbers") {
  numbers given;
  sampling_rule<host_memory> rule;
  CHECK(!rule.exists());
  rule.integers = {given.integers.data(), dims<1>{sampling_integers}};
  CHECK(rule.exists());
}

}  // namespace mtp::test::ops_sampling_rule_cases
