// Speculative decoding gives what plain decoding gives, bit for bit, whatever the drafts are worth.
#include <doctest/doctest.h>

#include <array>
#include <string>
#include <vector>

#include "support/decoding.hpp"

namespace mtp::test::decode_speculative_cases {

namespace {

constexpr int P = 144;
const std::array<index_t, 6> prompt_lengths{1, 2, 63, 64, 65, 130};

enum class quality { untrained, close, perfect };

/// Random tokens, of which the last one follows as a perfect model says: parallel and independent
/// heads draft from the token before it.
std::vector<token_t> prompt_of(index_t length, const std::vector<token_t>& next) {
  auto prompt =
      random_tokens(length, static_cast<int>(next.size()), static_cast<std::uint64_t>(length));
  if (length > 1) {
    prompt.back() = next[static_cast<std::size_t>(prompt[prompt.size() - 2])];
  }
  return prompt;
}

template <model_config Config, class S>
struct check_configuration {
  using model_type = language_model<Config, cpu, S>;
  using generator_type = generator<Config, cpu, S>;
  using transcript_type = transcript<S, Config.prediction.depth>;

  static void run(quality wanted) {
    INFO(std::string(name_of(Config.prediction.kind)),
         ", depth ",
         Config.prediction.depth,
         ", flipped ",
         Config.tie_word_embeddings,
         ", quality ",
         static_cast<int>(wanted));
    cpu_context context({.threads = 1});
    model_type model(context, seed{1});
    const auto next = make_perfect(model);
    if (wanted == quality::untrained) {
      model = model_type(context, seed{1});
      add_noise(model, 0.3);
    } else if (wanted == quality::close) {
      add_noise(model, 0.05);
      add_head_noise(model, 0.3, 50);
    }
    generator_type plain(context, model);
    std::vector<transcript_type> expected;
    for (const index_t length : prompt_lengths) {
      expected.push_back(
          record(plain, prompt_of(length, next), options_of<S>(decode_mode::plain, P)));
      const auto& text = expected.back();
      REQUIRE(static_cast<index_t>(text.tokens().size()) == P - length);
      CHECK(text.result.forward_passes == P - length);
      CHECK(text.result.end == end_reason::context);
    }
    for (int threads = 1; threads <= 4; ++threads) {
      INFO(threads, " threads");
      const bool all = threads == 1;
      cpu_context several({.threads = threads});
      generator_type speculative(several, model);
      for (std::size_t i = all ? 0 : 4; i < (all ? prompt_lengths.size() : 5); ++i) {
        INFO("prompt of ", prompt_lengths[i]);
        const auto limit = all ? P : index_t{40};
        const auto text = record(speculative,
                                 prompt_of(prompt_lengths[i], next),
                                 options_of<S>(decode_mode::speculative, limit));
        CHECK(same_text(text, all ? expected[i] : expected[i].first(40)));
        if (wanted == quality::perfect) {
          check_perfect(prompt_lengths[i], text);
        }
      }
      for (const index_t tokens : {0, 1, 2, 5, 9}) {
        INFO(tokens, " tokens");
        const auto text = record(
            speculative, prompt_of(65, next), options_of<S>(decode_mode::speculative, tokens));
        CHECK(same_text(text, expected[4].first(static_cast<std::size_t>(tokens))));
        CHECK(text.result.end == end_reason::length);
      }
    }
  }

  static void check_perfect(index_t length, const transcript_type& text) {
    const auto& result = text.result;
    const auto tokens = static_cast<index_t>(result.tokens.size());
    CHECK(result.forward_passes == passes_when_perfect(length, tokens, Config.prediction.depth, P));
    for (std::size_t k = 0; k < result.drafted.size(); ++k) {
      CHECK(result.drafted[k] > 0);
      CHECK(result.accepted[k] == result.drafted[k]);
      CHECK(result.acceptance(k) == 1.0);
    }
  }
};

template <head_kind Head, int Depth>
void check_depth() {
  for (const quality wanted : {quality::untrained, quality::close, quality::perfect}) {
    check_configuration<spoken_config(Head, Depth, P), float>::run(wanted);
    check_configuration<flipped_spoken_config(Head, Depth, P), float>::run(wanted);
  }
}

template <head_kind Head>
void check_head() {
  check_depth<Head, 1>();
  check_depth<Head, 2>();
  check_depth<Head, 4>();
}

/// Cycles by accepted length, over heads that are right, somewhat right and wrong.
template <model_config Config>
std::vector<index_t> lengths_over_qualities() {
  std::vector<index_t> seen(static_cast<std::size_t>(Config.prediction.depth) + 1, 0);
  cpu_context context({.threads = 1});
  for (std::uint64_t trial = 0; trial < 60; ++trial) {
    language_model<Config, cpu> model(context, seed{trial});
    make_perfect(model);
    add_noise(model, 0.02, trial);
    add_head_noise(model, 0.04 * static_cast<double>(trial), 100 * trial);
    generator<Config, cpu> generator(context, model);
    const auto prompt = random_tokens(20, Config.vocab_size, trial);
    const auto plain = record(generator, prompt, options_of<float>(decode_mode::plain, 60));
    const auto text = record(generator, prompt, options_of<float>(decode_mode::speculative, 60));
    CHECK(same_text(text, plain));
    const auto lengths = accepted_lengths(text.result);
    for (std::size_t i = 0; i < seen.size(); ++i) {
      seen[i] += lengths[i];
    }
  }
  return seen;
}

template <head_kind Head>
void check_every_length_occurs() {
  for (const auto& seen : {lengths_over_qualities<spoken_config(Head, 4, P)>(),
                           lengths_over_qualities<flipped_spoken_config(Head, 4, P)>()}) {
    for (std::size_t length = 0; length < seen.size(); ++length) {
      INFO(std::string(name_of(Head)), ": accepted length ", length);
      CHECK(seen[length] > 0);
    }
  }
}

}  // namespace

TEST_CASE("sequential drafts give the text and the logits of plain decoding") {
  check_head<head_kind::sequential>();
}

TEST_CASE("recurrent drafts give the text and the logits of plain decoding") {
  check_head<head_kind::recurrent>();
}

TEST_CASE("parallel drafts give the text and the logits of plain decoding") {
  check_head<head_kind::parallel>();
}

TEST_CASE("independent drafts give the text and the logits of plain decoding") {
  check_head<head_kind::independent>();
}

TEST_CASE("a model in double precision decodes the same both ways") {
  check_configuration<flipped_spoken_config(head_kind::sequential, 2, P), double>::run(
      quality::close);
}

TEST_CASE("every number of accepted drafts occurs and leaves the text as it is") {
  check_every_length_occurs<head_kind::sequential>();
  check_every_length_occurs<head_kind::recurrent>();
  check_every_length_occurs<head_kind::parallel>();
  check_every_length_occurs<head_kind::independent>();
}

TEST_CASE("heads that draft nothing decode plainly in both modes") {
  const auto check_head = []<model_config Config>() {
    cpu_context context({.threads = 2});
    language_model<Config, cpu> model(context, seed{1});
    generator<Config, cpu> generator(context, model);
    const auto prompt = random_tokens(9, Config.vocab_size, 1);
    const auto plain = record(generator, prompt, options_of<float>(decode_mode::plain, 30));
    const auto text = record(generator, prompt, options_of<float>(decode_mode::speculative, 30));
    CHECK(same_text(text, plain));
    CHECK(text.result.forward_passes == 30);
    for (const index_t drafted : text.result.drafted) {
      CHECK(drafted == 0);
    }
  };
  check_head.operator()<spoken_config(head_kind::none, 0, P)>();
  check_head.operator()<spoken_config(head_kind::shared_logit, 2, P)>();
}

TEST_CASE("perfect drafts give D + 1 tokens for each forward pass") {
  constexpr auto config = spoken_config(head_kind::sequential, 4, P);
  cpu_context context({.threads = 1});
  language_model<config, cpu> model(context, seed{1});
  const auto next = make_perfect(model);
  generator<config, cpu> generator(context, model);
  const std::vector<token_t> prompt{3, next[3]};
  const auto text = record(generator, prompt, options_of<float>(decode_mode::speculative, 100));
  CHECK(text.result.forward_passes == 20);
  CHECK(text.result.tokens_per_forward() == 5.0);
  token_t current = prompt.back();
  for (const token_t token : text.tokens()) {
    current = next[static_cast<std::size_t>(current)];
    CHECK(token == current);
  }
}

}  // namespace mtp::test::decode_speculative_cases
