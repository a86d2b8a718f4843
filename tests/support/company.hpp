// Whole models give a sequence the same bits whatever stands beside or behind it and whoever
// computes it.
#pragma once

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/model.hpp"

namespace mtp::test {

template <model_config Config>
loss_options<Config.prediction.depth> valid_targets_options() {
  auto options = default_loss_options<Config>();
  options.normalization = loss_normalization::valid_targets;
  return options;
}

template <int Depth>
std::vector<double> numbers_of(const loss_report<Depth>& report) {
  std::vector<double> all{report.total};
  for (const depth_report& depth : report.depths) {
    all.push_back(depth.loss);
    all.push_back(depth.agreement);
    all.push_back(static_cast<double>(depth.targets));
  }
  return all;
}

/// Rows [from, from + count) of positions of logits [N, V].
template <class S>
std::vector<S> positions_of(const std::vector<S>& logits, index_t from, index_t count, index_t V) {
  const auto begin = logits.begin() + from * V;
  return {begin, begin + count * V};
}

/// The same batch in which only tokens that keep(b, i) are targets.
template <class Keep>
token_batch masked(token_batch batch, const Keep& keep) {
  batch.mask.clear();
  for (index_t b = 0; b < batch.batch; ++b) {
    for (index_t i = 0; i < batch.row(); ++i) {
      batch.mask.push_back(keep(b, i) ? std::uint8_t{1} : std::uint8_t{0});
    }
  }
  return batch;
}

/// 1 to 5 sequences at once against one at a time.
template <model_config Config, class S>
void check_batch(index_t T) {
  const index_t V = Config.vocab_size;
  const auto options = valid_targets_options<Config>();
  subject<Config, S> tested(2, 5, T);
  const token_batch five = random_batch(Config, 5, T, 21);
  for (index_t B = 1; B <= 5; ++B) {
    token_batch batch = five;
    batch.batch = B;
    batch.tokens.resize(static_cast<std::size_t>(B * five.row()));
    const auto logits = tested.logits(batch);
    for (index_t b = 0; b < B; ++b) {
      CAPTURE(B);
      CAPTURE(b);
      const token_batch alone = row_of(five, b);
      const auto expected = tested.logits(alone);
      REQUIRE(logits.size() == expected.size());
      for (std::size_t k = 0; k < logits.size(); ++k) {
        CHECK(same_bits(positions_of(logits[k], b * T, T, V), expected[k]));
      }
      // The sum over rows adds zeros for the masked sequences.
      const auto only_b = masked(batch, [b](index_t row, index_t) { return row == b; });
      CHECK(same_bits(numbers_of(tested.losses(only_b, options)),
                      numbers_of(tested.losses(alone, options))));
    }
  }
}

/// A sequence against the beginning of a longer one.
template <model_config Config, class S>
void check_prefix(index_t T, index_t longer) {
  const index_t V = Config.vocab_size;
  const auto options = valid_targets_options<Config>();
  subject<Config, S> tested(2, 1, longer);
  const token_batch whole = random_batch(Config, 1, longer, 22);
  token_batch prefix = whole;
  prefix.length = T;
  prefix.tokens.resize(static_cast<std::size_t>(T + 1 + Config.prediction.depth));
  const auto expected = tested.logits(whole), logits = tested.logits(prefix);
  REQUIRE(logits.size() == expected.size());
  for (std::size_t k = 0; k < logits.size(); ++k) {
    CHECK(same_bits(logits[k], positions_of(expected[k], 0, T, V)));
  }
  const auto inside = [T](index_t, index_t i) { return i <= T; };
  CHECK(same_bits(numbers_of(tested.losses(masked(prefix, inside), options)),
                  numbers_of(tested.losses(masked(whole, inside), options))));
}

/// 1 to 4 threads: logits, losses and gradients.
template <model_config Config, class S>
void check_threads(index_t B, index_t T) {
  const token_batch batch = divided_batch(Config, B, T, 23);
  const auto options = default_loss_options<Config>();
  subject<Config, S> one(1, B, T);
  const auto expected = one.logits(batch);
  const auto expected_losses = numbers_of(one.losses(batch, options));
  const auto expected_gradients = one.gradients(batch, options);
  for (int threads = 2; threads <= 4; ++threads) {
    CAPTURE(threads);
    subject<Config, S> several(threads, B, T);
    const auto logits = several.logits(batch);
    for (std::size_t k = 0; k < logits.size(); ++k) {
      CHECK(same_bits(logits[k], expected[k]));
    }
    CHECK(same_bits(numbers_of(several.losses(batch, options)), expected_losses));
    CHECK(same_bits(several.gradients(batch, options), expected_gradients));
  }
}

template <model_config Config, class S>
void check_invariance() {
  SUBCASE("batch of sequences of 1 position") {
    check_batch<Config, S>(1);
  }
  SUBCASE("batch of sequences of 7 positions") {
    check_batch<Config, S>(7);
  }
  SUBCASE("batch of sequences of 33 positions") {
    check_batch<Config, S>(33);
  }
  SUBCASE("prefix of 1 position") {
    check_prefix<Config, S>(1, 7);
  }
  SUBCASE("prefix of 7 positions") {
    check_prefix<Config, S>(7, 33);
  }
  SUBCASE("prefix of 33 positions") {
    check_prefix<Config, S>(33, 41);
  }
  SUBCASE("threads, 1 position") {
    check_threads<Config, S>(3, 1);
  }
  SUBCASE("threads, 7 positions") {
    check_threads<Config, S>(2, 7);
  }
  SUBCASE("threads, 33 positions") {
    check_threads<Config, S>(3, 33);
  }
}

}  // namespace mtp::test
