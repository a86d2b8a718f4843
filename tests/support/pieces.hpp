// Decoding in any pieces, and again after going back, gives the bits of the whole sequence: those
// of the training pass, or of decoding token by token where the attention layer decodes in another
// form.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "mtp/loss/model_loss.hpp"
#include "support/decoding.hpp"
#include "support/speaker.hpp"

namespace mtp::test {

template <class Scalar>
using logit_rows = std::vector<std::vector<accumulate_t<Scalar>>>;  // logits by position

inline std::span<const token_t> tokens_of(const std::vector<token_t>& text,
                                          index_t first,
                                          index_t count) {
  return std::span<const token_t>(text).subspan(static_cast<std::size_t>(first),
                                                static_cast<std::size_t>(count));
}

/// Feeds `text` in steps of rows(position) rows; the logits of every position.
template <model_config Config, class S, class Rows>
logit_rows<S> logits_of(decoder<Config, cpu, S>& sequence,
                        const std::vector<token_t>& text,
                        hidden_states states,
                        const Rows& rows) {
  logit_rows<S> all;
  const auto count = static_cast<index_t>(text.size());
  while (sequence.length() < count) {
    const index_t first = sequence.length();
    const index_t M = std::min<index_t>(rows(first), count - first);
    const auto logits = sequence.step(tokens_of(text, first, M), states);
    for (index_t m = 0; m < M; ++m) {
      all.push_back(elements(logits.select(0, m)));
    }
    REQUIRE(sequence.length() == first + M);
  }
  return all;
}

/// Whether decoding has the bits of a training pass.
template <model_config Config, class S>
constexpr bool decodes_as_it_trains() {
  using layer = attention_of<Config, cpu, S>;
  if constexpr (requires { layer::decodes_as_it_trains; }) {
    return layer::decodes_as_it_trains;
  } else {
    return true;
  }
}

template <model_config Config, class S = float>
void check_pieces() {
  INFO(std::string(name_of(Config.prediction.kind)), ", flipped ", Config.tie_word_embeddings);
  constexpr index_t T = 100, D = Config.prediction.depth;
  cpu_context context({.threads = 2});
  language_model<Config, cpu, S> model(context, seed{3});
  if constexpr (real<S>) {
    add_noise(model, 0.3);
  }
  auto text = random_tokens(T + 1 + D, Config.vocab_size, 5);

  logit_rows<S> whole;
  if constexpr (decodes_as_it_trains<Config, S>()) {
    model_loss<Config, cpu, S> loss(context, 1, T);
    loss.visit_logits(
        context, model, batch_view{text, {}, {}, 1, T}, [&](std::size_t k, auto logits) {
          for (index_t t = 0; k == 0 && t < T; ++t) {
            whole.push_back(elements(logits.select(0, t)));
          }
        });
    text.resize(T);
  } else {
    text.resize(T);
    decoder<Config, cpu, S> sequence(context, model);
    whole = logits_of(sequence, text, hidden_states::dropped, [](index_t) { return 1; });
  }
  REQUIRE(whole.size() == T);

  const auto check_same = [&](const logit_rows<S>& actual, index_t first) {
    for (std::size_t t = 0; t < actual.size(); ++t) {
      INFO("position ", first + static_cast<index_t>(t));
      CHECK(same_bits(actual[t], whole[static_cast<std::size_t>(first) + t]));
    }
  };
  const random_stream random(seed{9}, 0);
  for (int threads = 1; threads <= 4; ++threads) {
    cpu_context several({.threads = threads});
    decoder<Config, cpu, S> sequence(several, model);
    check_same(logits_of(sequence, text, hidden_states::dropped, [](index_t) { return 1; }), 0);
    sequence.reset();
    check_same(logits_of(sequence, text, hidden_states::kept, [](index_t) { return D + 1; }), 0);
    sequence.reset();
    check_same(logits_of(sequence,
                         text,
                         hidden_states::kept,
                         [&](index_t at) {
                           return 1 + static_cast<index_t>(
                                          random.below(static_cast<std::uint64_t>(at),
                                                       static_cast<std::uint64_t>(D) + 1));
                         }),
               0);
    for (const index_t piece : {1, 31, 32, 33, 63, 64}) {
      INFO("after a prompt piece of ", piece);
      sequence.reset();
      sequence.prefill(tokens_of(text, 0, piece), hidden_states::dropped);
      check_same(logits_of(sequence, text, hidden_states::dropped, [](index_t) { return D + 1; }),
                 piece);
    }
  }
}

/// Logits of tokens behind a sequence that went forth and back at random, as far as its layers
/// allow, are those of a fresh one. `rewindable` and more at a time: the latter is refused and
/// changes nothing.
template <model_config Config, class S = float>
void check_rolling_back() {
  using decoder_type = decoder<Config, cpu, S>;
  constexpr index_t P = Config.max_position_embeddings, R = decoder_type::rewindable;
  cpu_context context({.threads = 2});
  language_model<Config, cpu, S> model(context, seed{3});
  if constexpr (real<S>) {
    add_noise(model, 0.3);
  }
  decoder_type sequence(context, model), fresh(context, model);
  for (std::uint64_t trial = 0; trial < 8; ++trial) {
    INFO("trial ", trial);
    dice random(200 + trial);
    std::vector<token_t> text;
    const auto tokens_for = [&](index_t count) {
      std::vector<token_t> tokens;
      for (index_t m = 0; m < count; ++m) {
        tokens.push_back(random.token(Config.vocab_size));
      }
      return tokens;
    };
    sequence.reset();  // behind the trial before: nothing of it is left
    index_t longest = 0;
    while (sequence.length() < P - 40) {
      const bool piece = random.below(4) == 0;
      const index_t most =
          std::min<index_t>(P - 20 - sequence.length(),
                            piece ? decoder_type::max_step_rows : decoder_type::max_logit_rows);
      const auto tokens = tokens_for(1 + random.below(most));
      if (piece) {
        sequence.prefill(tokens, hidden_states::dropped);
      } else {
        sequence.step(tokens, hidden_states::dropped);
      }
      text.insert(text.end(), tokens.begin(), tokens.end());
      longest = std::max(longest, sequence.length());
      if (longest - R > 0) {
        REQUIRE(fails_with("decoder::roll_back: the attention layer takes back at most",
                           [&] { sequence.roll_back(longest - R - 1); }));
        REQUIRE(fails_with("decoder::set_length: the attention layer takes back at most",
                           [&] { sequence.set_length(longest - R - 1); }));
        REQUIRE(sequence.length() == static_cast<index_t>(text.size()));
      }
      const index_t least = std::max<index_t>(longest - R, 0);
      const index_t back = sequence.length() - least;
      const index_t all =
          random.below(4) == 0 ? back : random.below(std::min<index_t>(back, 3) + 1);
      sequence.roll_back(sequence.length() - std::min<index_t>(all, 12));
      text.resize(static_cast<std::size_t>(sequence.length()));
    }
    fresh.reset();
    for (index_t first = 0; first < sequence.length(); first += 64) {
      fresh.prefill(tokens_of(text, first, std::min<index_t>(64, sequence.length() - first)),
                    hidden_states::dropped);
    }
    for (int i = 0; i < 5; ++i) {
      const auto next = tokens_for(1);
      REQUIRE(same_bits(elements(sequence.step(next, hidden_states::dropped)),
                        elements(fresh.step(next, hidden_states::dropped))));
    }
  }
}

/// Drafts and logits after any history of accepted and rejected drafts are those of a fresh prompt.
template <model_config Config, class S = float>
void check_drafting_histories() {
  constexpr index_t D = Config.prediction.depth, P = Config.max_position_embeddings;
  cpu_context context({.threads = 2});
  language_model<Config, cpu, S> model(context, seed{3});
  if constexpr (real<S>) {
    add_noise(model, 0.3);
  }
  for (std::uint64_t trial = 0; trial < 6; ++trial) {
    INFO("history ", trial);
    dice random(trial);
    const index_t prompts[] = {1, 2, 5, 63, 65, 66};
    speaker<Config, S> long_lived(context, model), fresh(context, model);
    const auto prompt = random_tokens(prompts[trial % 6], Config.vocab_size, trial);
    long_lived.begin(prompt, 1 + random.below(decoder<Config, cpu, S>::max_step_rows));
    long_lived.wander(
        long_lived.count + 8 + random.below(P - 12 - long_lived.count - D), trial % 2 == 0, random);
    fresh.begin(long_lived.known(0, long_lived.count), trial % 2 == 0 ? 64 : 7);
    check_same_future(long_lived, fresh, random, [] {});
  }
}

}  // namespace mtp::test
