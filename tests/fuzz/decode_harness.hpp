// Bytes as a history of decoding: steps, pieces of prompts, roll-backs, and whole texts in both
// modes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fuzz/input.hpp"
#include "support/decoding.hpp"

namespace mtp::fuzz::decode_harness {

constexpr model_config spoken = test::spoken_config(head_kind::sequential, 2, 24);
using decoder_type = decoder<spoken, cpu>;
using generator_type = generator<spoken, cpu>;
using model_type = language_model<spoken, cpu>;

/// Mostly tokens of the vocabulary, at times one outside.
inline std::vector<token_t> take_tokens(input& in, std::size_t count) {
  std::vector<token_t> tokens(count);
  for (token_t& token : tokens) {
    token = static_cast<token_t>(in.take<std::uint8_t>() % (spoken.vocab_size + 3)) - 1;
  }
  return tokens;
}

inline bool in_vocabulary(std::span<const token_t> tokens) {
  return std::all_of(tokens.begin(), tokens.end(), [](token_t token) {
    return token >= 0 && token < spoken.vocab_size;
  });
}

/// A decoder, and the tokens that it must have seen.
struct history {
  decoder_type sequence;
  std::vector<token_t> tokens;

  history(cpu_context& context, const model_type& model) : sequence(context, model) {}

  /// A step (with logits) or a piece of a prompt. Returns whether it was taken.
  bool advance(std::span<const token_t> added, bool with_logits) {
    const auto count = static_cast<index_t>(added.size());
    const index_t most = with_logits ? decoder_type::max_logit_rows : decoder_type::max_step_rows;
    const bool possible = count >= 1 && count <= most && in_vocabulary(added) &&
                          sequence.length() + count <= spoken.max_position_embeddings;
    const bool done = accepted([&] {
      if (with_logits) {
        sequence.step(added, hidden_states::kept);
      } else {
        sequence.prefill(added, hidden_states::kept);
      }
    });
    promise(done == possible, "what fits is taken, and nothing else");
    if (done) {
      tokens.insert(tokens.end(), added.begin(), added.end());
    }
    promise(sequence.length() == static_cast<index_t>(tokens.size()), "the length counts tokens");
    return done;
  }

  /// The logits of one more token have the bits that a fresh decoder gives.
  void compare_with(decoder_type& fresh) {
    if (sequence.length() == spoken.max_position_embeddings) {
      return;
    }
    fresh.reset();
    for (const token_t token : tokens) {
      fresh.prefill(std::span(&token, 1), hidden_states::dropped);
    }
    const std::vector<token_t> next{1};
    const auto expected = fresh.step(next, hidden_states::dropped).select(0, 0);
    const auto actual = sequence.step(next, hidden_states::kept).select(0, 0);
    for (index_t v = 0; v < spoken.vocab_size; ++v) {
      promise(actual(v) == expected(v), "logits are those of the same text without a history");
    }
    sequence.roll_back(static_cast<index_t>(tokens.size()));
  }
};

/// Options of sampling, at times one that means nothing. Returns whether all mean something.
inline bool take_sampling(input& in, generate_options<float, cpu>& options) {
  const auto share = [&] { return static_cast<double>(in.take<std::int8_t>()) / 100; };
  sampling_options& sampling = options.sampling;
  sampling.temperature = 2 * share() + 0.1;
  sampling.top_k = in.take<std::int8_t>() % 24;
  sampling.top_p = 1 - share();
  sampling.min_p = share() / 4;
  sampling.repetition_penalty = 1 + share();
  sampling.frequency_penalty = share();
  sampling.presence_penalty = share();
  for (const token_t token : take_tokens(in, in.take<std::uint8_t>() % 3)) {
    sampling.logit_bias.push_back({token, in.take<std::int8_t>() / 8.0f});
  }
  sampling.seed = seed{in.take<std::uint8_t>()};
  sampling.drafts =
      in.take<std::uint8_t>() % 2 == 0 ? draft_choice::shared_noise : draft_choice::most_likely;
  options.stop_tokens = take_tokens(in, in.take<std::uint8_t>() % 3);
  options.min_new_tokens = in.take<std::int8_t>() % 8;
  std::vector<token_t> biased;
  for (const token_bias& each : sampling.logit_bias) {
    biased.push_back(each.token);
  }
  return sampling.temperature >= 0 && sampling.top_k >= 0 && sampling.top_p > 0 &&
         sampling.top_p <= 1 && sampling.min_p >= 0 && sampling.min_p <= 1 &&
         sampling.repetition_penalty > 0 && options.min_new_tokens >= 0 &&
         options.min_new_tokens <= options.max_new_tokens && in_vocabulary(biased) &&
         in_vocabulary(options.stop_tokens);
}

/// One text in both modes, the most likely one or one that is drawn.
inline void generate_both(generator_type& generator, input& in, bool draws) {
  const auto prompt = take_tokens(in, in.take<std::uint8_t>() % 28);
  auto options = test::options_of<float>(decode_mode::plain, in.take<std::int8_t>() % 32);
  options.stop.resize(in.take<std::uint8_t>() % 3);
  for (auto& stop : options.stop) {
    stop = take_tokens(in, in.take<std::uint8_t>() % 4);
  }
  const bool meant = !draws || take_sampling(in, options);
  const bool possible = !prompt.empty() && prompt.size() <= spoken.max_position_embeddings &&
                        in_vocabulary(prompt) && options.max_new_tokens >= 0 && meant;
  test::transcript<float, spoken.prediction.depth> plain, speculative;
  promise(accepted([&] { plain = test::record(generator, prompt, options); }) == possible,
          "a possible request is served, and no other");
  if (!possible) {
    return;
  }
  options.mode = decode_mode::speculative;
  promise(accepted([&] { speculative = test::record(generator, prompt, options); }),
          "what is served plainly is served by drafting");
  promise(static_cast<bool>(test::same_text(speculative, plain)),
          "drafts change neither text nor logits");
  promise(speculative.result.end == plain.result.end, "a text ends for the same reason");
  promise(plain.tokens().size() <= static_cast<std::size_t>(options.max_new_tokens),
          "max_new_tokens is kept");
  promise(generator.sequence().length() <= spoken.max_position_embeddings,
          "no text leaves the context");
}

/// Up to 24 commands of a byte each, with what they take behind it.
inline void fuzz_one(std::span<const std::uint8_t> bytes) {
  static cpu_context context({.threads = 1});
  static const model_type model = [] {
    model_type made(context, seed{5});
    test::make_perfect(made);
    test::add_noise(made, 0.25);  // some drafts are accepted, and some are not
    return made;
  }();
  static history past(context, model);
  static decoder_type fresh(context, model);
  static generator_type generator(context, model);

  input in(bytes);
  past.sequence.reset();
  past.tokens.clear();
  for (int commands = 0; commands < 24 && !in.empty(); ++commands) {
    const auto command = in.take<std::uint8_t>();
    switch (command % 6) {
      case 0:
      case 1:
        past.advance(take_tokens(in, command / 6 % 5), true);
        break;
      case 2:
        past.advance(take_tokens(in, command / 6 % 14), false);
        break;
      case 3: {
        const index_t length = in.take<std::int8_t>() % (spoken.max_position_embeddings + 2);
        const index_t before = past.sequence.length();
        const bool done = accepted([&] { past.sequence.roll_back(length); });
        promise(done == (length >= 0 && length <= before), "only what was cached can be kept");
        past.tokens.resize(static_cast<std::size_t>(done ? length : before));
        promise(past.sequence.length() == static_cast<index_t>(past.tokens.size()),
                "a roll-back sets the length or changes nothing");
        break;
      }
      case 4:
        past.compare_with(fresh);
        break;
      default:
        generate_both(generator, in, command / 6 % 2 == 1);
    }
  }
  past.compare_with(fresh);
}

}  // namespace mtp::fuzz::decode_harness

namespace mtp::fuzz {
/// What a replay and a fuzzer call. Each harness has a namespace of its own, because functions of
/// one name in several files of a program would be taken for one function.
namespace harness = decode_harness;
}  // namespace mtp::fuzz
