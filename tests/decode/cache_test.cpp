// What caches hold after any history of accepted and rolled back tokens is what a fresh prompt
// leaves.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "support/decoding.hpp"
#include "support/speaker.hpp"

namespace mtp::test::decode_cache_cases {

namespace {

constexpr int P = 150;

constexpr model_config wordy(model_config config) {
  config.vocab_size = 97;  // drafts among many tokens show small differences
  return config;
}
template <head_kind Head, int Depth>
constexpr model_config straight = wordy(spoken_config(Head, Depth, P));
template <head_kind Head, int Depth>
constexpr model_config flipped = wordy(flipped_spoken_config(Head, Depth, P));

/// Drafts, logits and caches of two sequences agree, now and for some cycles to come.
template <model_config Config>
void check_same_future(speaker<Config>& actual, speaker<Config>& expected, dice& random) {
  test::check_same_future(actual, expected, random, [&] {
    REQUIRE(same_bits(cached(actual.sequence), cached(expected.sequence)));
  });
}

template <model_config Config>
void check_histories() {
  constexpr index_t D = Config.prediction.depth;
  INFO(std::string(name_of(Config.prediction.kind)),
       ", depth ",
       D,
       ", flipped ",
       Config.tie_word_embeddings);
  cpu_context context({.threads = 2});
  language_model<Config, cpu> model(context, seed{3});
  add_noise(model, 0.3);
  for (std::uint64_t trial = 0; trial < 16; ++trial) {
    INFO("history ", trial);
    dice random(trial);
    const index_t prompts[] = {1, 2, 3, 5, 63, 64, 65, 66};
    speaker<Config> long_lived(context, model);
    const auto prompt = random_tokens(prompts[trial % 8], Config.vocab_size, trial);
    long_lived.begin(prompt, 1 + random.below(decoder<Config, cpu>::max_step_rows));
    const index_t end = long_lived.count + 8 + random.below(P - 12 - long_lived.count - D);
    long_lived.wander(end, trial % 2 == 0, random);
    for (const index_t piece : {decoder<Config, cpu>::max_step_rows, index_t{1}, index_t{7}}) {
      INFO("fresh prompt in pieces of ", piece);
      speaker<Config> fresh(context, model);
      fresh.begin(long_lived.known(0, long_lived.count), piece);
      if (piece == 7) {
        check_same_future(long_lived, fresh, random);  // it goes on: last
      } else {
        REQUIRE(same_bits(cached(long_lived.sequence), cached(fresh.sequence)));
        REQUIRE(same_bits(long_lived.drafts(), fresh.drafts()));
      }
    }
  }
}

template <model_config Config>
void check_trunk_history(bool poisoned) {
  INFO(std::string(name_of(Config.prediction.kind)), ", poisoned ", poisoned);
  cpu_context context({.threads = 2});
  language_model<Config, cpu> model(context, seed{3});
  add_noise(model, 0.3);
  for (std::uint64_t trial = 0; trial < 8; ++trial) {
    dice random(100 + trial);
    decoder<Config, cpu> sequence(context, model);
    std::vector<token_t> text;
    while (text.size() < 120) {
      const bool piece = random.below(4) == 0;
      const index_t most = std::min<index_t>(
          140 - sequence.length(),
          piece ? decoder<Config, cpu>::max_step_rows : decoder<Config, cpu>::max_logit_rows);
      std::vector<token_t> tokens;
      for (index_t m = 1 + random.below(most); m > 0; --m) {
        tokens.push_back(random.token(Config.vocab_size));
      }
      if (poisoned) {
        poison_stale(sequence);
      }
      if (piece) {
        sequence.prefill(tokens, hidden_states::dropped);
      } else {
        sequence.step(tokens, hidden_states::dropped);
      }
      text.insert(text.end(), tokens.begin(), tokens.end());
      const index_t length =
          sequence.length() -
          random.below(std::min<index_t>(sequence.length(), random.below(2) == 0 ? 3 : 40));
      sequence.roll_back(length);
      text.resize(static_cast<std::size_t>(length));
    }
    decoder<Config, cpu> fresh(context, model);
    for (index_t first = 0; first < sequence.length(); first += 64) {
      fresh.prefill(std::span<const token_t>(text).subspan(
                        static_cast<std::size_t>(first),
                        static_cast<std::size_t>(std::min<index_t>(64, sequence.length() - first))),
                    hidden_states::dropped);
    }
    REQUIRE(fresh.length() == sequence.length());
    REQUIRE(same_bits(cached(sequence), cached(fresh)));
    for (int i = 0; i < 5; ++i) {
      if (poisoned) {
        poison_stale(sequence);
      }
      const std::vector<token_t> next{random.token(Config.vocab_size)};
      REQUIRE(same_bits(elements(sequence.step(next, hidden_states::dropped)),
                        elements(fresh.step(next, hidden_states::dropped))));
    }
  }
}

/// A sequence whose every cache was full of NaN, then reset.
template <model_config Config>
void check_after_nan() {
  INFO(std::string(name_of(Config.prediction.kind)));
  cpu_context context({.threads = 2});
  language_model<Config, cpu> model(context, seed{3});
  add_noise(model, 0.3);
  const auto values = model.values();
  const std::vector<float> sane(values.data(), values.data() + values.count());
  speaker<Config> reused(context, model), fresh(context, model);
  fill(model, std::numeric_limits<double>::quiet_NaN());
  reused.begin(random_tokens(P, Config.vocab_size, 8), 64);
  const auto spoilt = cached(reused.sequence);
  REQUIRE(std::all_of(spoilt.begin(), spoilt.end(), [](float x) { return !(x == x); }));
  std::copy(sane.begin(), sane.end(), values.data());
  for (const index_t length : {65, 31, 2}) {  // the longest first: NaN is still there
    dice random(static_cast<std::uint64_t>(length));
    const auto prompt = random_tokens(length, Config.vocab_size, 9);
    reused.begin(prompt, 64);
    fresh.begin(prompt, 64);
    for (int i = 0; i < 6; ++i) {
      poison_stale(reused.sequence);
      check_same_future(reused, fresh, random);
    }
  }
}

}  // namespace

TEST_CASE("trunk caches after random roll-backs are those of a fresh prompt, bit for bit") {
  check_trunk_history<straight<head_kind::none, 0>>(false);
  check_trunk_history<flipped<head_kind::sequential, 3>>(false);
  check_trunk_history<straight<head_kind::parallel, 2>>(false);
}

TEST_CASE("what lies behind the length of a cache is never read") {
  check_trunk_history<straight<head_kind::none, 0>>(true);
  check_trunk_history<flipped<head_kind::sequential, 3>>(true);
  check_trunk_history<straight<head_kind::parallel, 2>>(true);
}

TEST_CASE("sequential drafts after any history are those of a fresh prompt") {
  check_histories<straight<head_kind::sequential, 1>>();
  check_histories<straight<head_kind::sequential, 4>>();
  check_histories<flipped<head_kind::sequential, 3>>();
}

TEST_CASE("recurrent drafts after any history are those of a fresh prompt") {
  check_histories<straight<head_kind::recurrent, 3>>();
  check_histories<flipped<head_kind::recurrent, 2>>();
}

TEST_CASE("parallel drafts after any history are those of a fresh prompt") {
  check_histories<straight<head_kind::parallel, 2>>();
  check_histories<flipped<head_kind::parallel, 4>>();
}

TEST_CASE("independent drafts after any history are those of a fresh prompt") {
  check_histories<straight<head_kind::independent, 2>>();
  check_histories<flipped<head_kind::independent, 3>>();
}

TEST_CASE("drafters read nothing that another sequence left in their caches") {
  check_after_nan<flipped<head_kind::sequential, 3>>();
  check_after_nan<straight<head_kind::recurrent, 3>>();
  check_after_nan<straight<head_kind::parallel, 2>>();
  check_after_nan<straight<head_kind::independent, 2>>();
}

}  // namespace mtp::test::decode_cache_cases
