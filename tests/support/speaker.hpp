// A sequence that is driven as generate drives it, but with any decision about what is accepted.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "support/decoding.hpp"

namespace mtp::test {

/// Random numbers below a bound, one after the other.
class dice {
 public:
  explicit dice(std::uint64_t stream) : random_(seed{13}, stream) {}
  index_t below(index_t bound) {
    return static_cast<index_t>(random_.below(at_++, static_cast<std::uint64_t>(bound)));
  }
  token_t token(int vocabulary) { return static_cast<token_t>(below(vocabulary)); }

 private:
  random_stream random_;
  std::uint64_t at_ = 0;
};

template <model_config Config, class S = float>
class speaker {
 public:
  static constexpr index_t D = Config.prediction.depth;
  static constexpr index_t P = Config.max_position_embeddings;
  using decoder_type = decoder<Config, cpu, S>;

  speaker(cpu_context& context, const language_model<Config, cpu, S>& model)
      : context_(context), model_(model), sequence(context, model) {
    text.resize(static_cast<std::size_t>(P + D + 1));
  }

  /// Takes a text, in pieces of at most `piece` tokens.
  void begin(std::span<const token_t> tokens, index_t piece) {
    sequence.reset();
    std::copy(tokens.begin(), tokens.end(), text.begin());
    count = static_cast<index_t>(tokens.size());
    for (index_t first = 0; first < count - 1;) {
      const index_t rows = std::min(piece, count - 1 - first);
      sequence.prefill(known(first, rows), hidden_states::kept);
      first += rows;
      advance(sequence.length(), D);
    }
  }

  std::vector<token_t> drafts(index_t depth = D) {
    draft_next(sequence.drafter(), context_, model_, text_of(text, count), depth);
    const auto from = text.begin() + count;
    return {from, from + depth};
  }

  /// Brings the first depths of the head up to date with what stands in front of `seen`.
  void advance(index_t seen, index_t depth) {
    sequence.drafter().advance(context_, model_, text_of(text, count), count, seen, depth);
  }

  /// Logits of the last token and of `more` that follow it in the text.  [1 + more, V]
  auto step(index_t more) {
    return elements(sequence.step(known(count - 1, 1 + more), hidden_states::kept));
  }

  /// After step: `right` of the drafts are accepted, and another token follows.
  void accept(index_t right, token_t another) {
    count += right + 1;
    text[static_cast<std::size_t>(count - 1)] = another;
    sequence.roll_back(count - 1);
  }

  /// Goes on until `end` tokens are confirmed: drafts, of which any number is accepted, and in
  /// place of those behind any tokens, whose rows are rolled back. `whole`: D rows are verified.
  void wander(index_t end, bool whole, dice& random) {
    while (count < end && count + D <= P) {
      if (count < 2) {
        step(0);
        accept(0, random.token(Config.vocab_size));
        continue;
      }
      drafts();
      const index_t more = whole ? D : random.below(D + 1);
      const index_t right = random.below(more + 1);
      for (index_t k = right; k < more; ++k) {
        text[static_cast<std::size_t>(count + k)] = random.token(Config.vocab_size);
      }
      step(more);
      accept(right, random.token(Config.vocab_size));
    }
  }

  std::span<const token_t> known(index_t first, index_t rows) const {
    return std::span<const token_t>(text).subspan(static_cast<std::size_t>(first),
                                                  static_cast<std::size_t>(rows));
  }

 private:
  cpu_context& context_;
  const language_model<Config, cpu, S>& model_;

 public:
  decoder_type sequence;
  std::vector<token_t> text;
  index_t count = 0;
};

/// Drafts and logits of two sequences agree, now and for some cycles to come; before each, `check`
/// is called.
template <model_config Config, class S, class Check>
void check_same_future(speaker<Config, S>& actual,
                       speaker<Config, S>& expected,
                       dice& random,
                       const Check& check) {
  constexpr index_t D = Config.prediction.depth;
  for (int cycle = 0; cycle < 3 && actual.count + D <= Config.max_position_embeddings; ++cycle) {
    check();
    REQUIRE(same_bits(actual.drafts(), expected.drafts()));
    REQUIRE(same_bits(actual.step(D), expected.step(D)));
    const index_t right = random.below(D + 1);
    const token_t another = random.token(Config.vocab_size);
    actual.accept(right, another);
    expected.accept(right, another);
  }
}

}  // namespace mtp::test
