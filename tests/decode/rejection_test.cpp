// Drafts verified by rejection: texts have the probabilities of plain decoding, and are a function
// of the seed, the prompt and the options.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "mtp/decode/batch_generator.hpp"
#include "support/decoding.hpp"
#include "support/reference/choose_tokens.hpp"
#include "support/text_probabilities.hpp"

namespace mtp::test::decode_rejection_cases {

namespace {

using tokens_type = std::vector<token_t>;
using options_type = generate_options<float, cpu>;
constexpr int P = 48, V = 19;

options_type rejecting(const sampling_options& sampling, index_t count = 40) {
  options_type options{.max_new_tokens = count, .sampling = sampling};
  options.sampling.verification = draft_verification::rejection;
  return options;
}

/// A model whose head is often near what the model says.
template <model_config Config>
struct writer {
  cpu_context context{{.threads = 2}};
  language_model<Config, cpu> model{context, seed{1}};
  mtp::generator<Config, cpu> generator{context, model};

  writer() {
    make_perfect(model);
    add_noise(model, 0.1);
    add_head_noise(model, 0.3, 50);
  }
  auto run(const tokens_type& prompt, const options_type& options) {
    return record(generator, prompt, options);
  }
};

/// Each option by itself, then all at once.
std::vector<options_type> all_options() {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const mtp::seed some{9};
  std::vector<options_type> all;
  for (const sampling_options& sampling :
       {sampling_options{.temperature = 5, .seed = some},
        sampling_options{.temperature = 3.75, .top_k = 4, .seed = some},
        sampling_options{.temperature = 3.75, .top_p = 0.8, .seed = some},
        sampling_options{.temperature = 5, .min_p = 0.05, .seed = some},
        sampling_options{.temperature = 2.5, .repetition_penalty = 1.5, .seed = some},
        sampling_options{
            .temperature = 2.5, .frequency_penalty = 0.7, .presence_penalty = 0.3, .seed = some},
        sampling_options{
            .temperature = 2.5, .logit_bias = {{3, 2.0f}, {4, -infinity}}, .seed = some},
        sampling_options{.temperature = 3,
        .top_k = 12,
        .top_p = 0.95,
        .min_p = 0.01,
        .repetition_penalty = 1.1,
        .frequency_penalty = 0.2,
        .presence_penalty = 0.3,
        .logit_bias = {{6, 0.5f}, {8, -infinity}},
        .seed = some,
        .sequence = 5}}) {
    all.push_back(rejecting(sampling));
    all.back().log_probabilities = true;
    if (all.size() % 3 == 2) {
      all.back().sampling.verification = draft_verification::block;
    }
  }
  all.back().min_new_tokens = 12;
  all.back().stop_tokens = {11, 2};
  return all;
}

const tokens_type usual_prompt = random_tokens(5, V, 4);
constexpr auto config = spoken_config(head_kind::sequential, 3, P);

}  // namespace

TEST_CASE_TEMPLATE_DEFINE(
    "three tokens of five, verified by rejection, have the probabilities of "
    "all 125 texts",
    Head,
    probabilities) {
  constexpr auto small = five_tokens_config(Head::kind);
  cpu_context context({.threads = 1});
  language_model<small, cpu> model(context, seed{1});
  add_noise(model, 0.5);
  generator<small, cpu> generator(context, model);
  decoder<small, cpu> decoder(context, model);
  const tokens_type prompt{1, 3};
  const auto right = text_probabilities(decoder, prompt, 0.8);
  const auto compared =
      [&](draft_verification verification, index_t drafts, std::uint64_t seed_number) {
        std::vector<double> counts(125, 0);
        std::array<index_t, 2> accepted{};
        auto options = rejecting({.temperature = 0.8, .seed = mtp::seed{seed_number}}, 3);
        options.sampling.verification = verification;
        options.num_draft_tokens = drafts;
        for (std::uint32_t sequence = 0; sequence < 6000; ++sequence) {
          options.sampling.sequence = sequence;
          const auto& result = generator.generate(prompt, options);
          counts[number_of_text(result.tokens)] += 1;
          accepted[0] += result.accepted[0];
          accepted[1] += result.accepted[1];
        }
        CHECK(accepted[0] > 1000);
        CHECK((drafts == 1 || accepted[1] > 300));
        return counts;
      };
  constexpr auto token = draft_verification::rejection, block = draft_verification::block;
  for (const auto& [verification, drafts] :
       {std::pair{token, 1}, std::pair{token, 2}, std::pair{block, 2}}) {
    const auto counts = compared(verification, drafts, 3);
    double freedom = 0;
    const double deviation = reference::chi_square(counts, right, &freedom);
    CAPTURE(deviation);
    CHECK(freedom > 20);
    CHECK(deviation <= reference::chi_square_bound(freedom));
    // A temperature that is not the one that was asked for shows.
    const auto biased =
        reference::chi_square(counts, text_probabilities(decoder, prompt, 1.0), &freedom);
    CHECK(biased > reference::chi_square_bound(freedom));
  }
}
struct sequential_case {
  static constexpr head_kind kind = head_kind::sequential;
};
struct parallel_case {
  static constexpr head_kind kind = head_kind::parallel;
};
struct independent_case {
  static constexpr head_kind kind = head_kind::independent;
};
TEST_CASE_TEMPLATE_APPLY(probabilities,
                         std::tuple<sequential_case, parallel_case, independent_case>);

TEST_CASE("a text verified by rejection follows from the seed, the prompt and the options") {
  writer<config> w;
  for (const options_type& options : all_options()) {
    const auto one = w.run(usual_prompt, options);
    REQUIRE(one.tokens().size() >= 12);
    CHECK(one.result.accepted[0] > 0);
    CHECK(w.run(usual_prompt, options).tokens() == one.tokens());
    CHECK(w.generator.generate(usual_prompt, options).tokens == one.tokens());
    options_type other = options;
    other.sampling.seed = mtp::seed{10};
    CHECK(w.run(usual_prompt, other).tokens() != one.tokens());
    // Tokens that the options forbid were not written.
    for (const token_bias& bias : options.sampling.logit_bias) {
      const auto count = std::count(one.tokens().begin(), one.tokens().end(), bias.token);
      CHECK((bias.bias >= 0 || count == 0));
    }
    for (const token_t stop : options.stop_tokens) {
      CHECK(std::count(one.tokens().begin(), one.tokens().begin() + options.min_new_tokens, stop) ==
            0);
    }
    for (std::size_t i = 0; i < one.tokens().size(); ++i) {
      const auto row = one.logits.begin() + static_cast<std::ptrdiff_t>(i * V);
      const double expected =
          reference::log_probability(std::vector<double>(row, row + V), one.tokens()[i]);
      CHECK(std::abs(one.result.log_probabilities[i] - expected) <= 1e-13 * (1 - expected));
    }
  }
}

TEST_CASE(
    "rejection accepts more drafts than comparing tokens of one noise, and blocks still more") {
  writer<config> w;
  index_t accepted[3] = {};
  for (std::uint32_t sequence = 0; sequence < 60; ++sequence) {
    for (const auto verification :
         {draft_verification::compare, draft_verification::rejection, draft_verification::block}) {
      auto options = rejecting({.temperature = 3, .sequence = sequence});
      options.sampling.verification = verification;
      const auto text = w.run(usual_prompt, options);
      for (const index_t count : text.result.accepted) {
        accepted[static_cast<int>(verification)] += count;
      }
    }
  }
  CHECK(accepted[1] > accepted[0]);
  CHECK(accepted[2] > accepted[1]);
}

TEST_CASE("drafts of a block are drawn with bits of their own") {
  writer<config> w;
  make_perfect(w.model);  // the head's distribution is the model's, so that texts are its drafts
  auto options = rejecting({.temperature = 4}, 4);
  const auto tokens_of = [&](draft_verification verification) {
    options.sampling.verification = verification;
    const auto& made = w.generator.generate(usual_prompt, options);
    CHECK(made.accepted == made.drafted);
    return tokens_type(made.tokens.begin(), made.tokens.begin() + 3);
  };
  CHECK(tokens_of(draft_verification::rejection) != tokens_of(draft_verification::block));
}

TEST_CASE("without a temperature, and without drafts, rejection is the same as comparing") {
  writer<config> w;
  const auto same = [&](options_type options) {
    const auto rejected = w.run(usual_prompt, options);
    options.sampling.verification = draft_verification::compare;
    const auto compared = w.run(usual_prompt, options);
    CHECK(rejected.result.forward_passes == compared.result.forward_passes);
    return same_text(rejected, compared);
  };
  CHECK(same(rejecting({})));
  CHECK(same(rejecting({.frequency_penalty = 0.3})));
  options_type block = rejecting({});
  block.sampling.verification = draft_verification::block;
  CHECK(same(block));
  options_type plain = rejecting({.temperature = 1});
  plain.mode = decode_mode::plain;
  CHECK(same(plain));
  plain = rejecting({.temperature = 1});
  plain.num_draft_tokens = 0;
  CHECK(same(plain));
  writer<spoken_config(head_kind::none, 0, P)> none;
  const auto text = none.run(usual_prompt, rejecting({.temperature = 1}));
  options_type compared = rejecting({.temperature = 1});
  compared.sampling.verification = draft_verification::compare;
  CHECK(same_text(text, none.run(usual_prompt, compared)));
}

TEST_CASE("rejection with each number of drafts fills the context to its end, from any prompt") {
  writer<config> w;
  for (index_t left = 0; left <= 5; ++left) {
    for (index_t drafts = 1; drafts <= 3; ++drafts) {
      CAPTURE(left);
      auto options = rejecting({.temperature = 1}, P);
      options.num_draft_tokens = drafts;
      const auto text = w.run(random_tokens(P - left, V, 8), options);
      CHECK(static_cast<index_t>(text.tokens().size()) == left);
      CHECK(text.result.end == end_reason::context);
    }
  }
  const auto text = w.run({7}, rejecting({.temperature = 1}, P));
  CHECK(static_cast<int>(text.tokens().size()) == P - 1);
  CHECK(w.run({7}, rejecting({.temperature = 1}, P)).tokens() == text.tokens());
}

TEST_CASE("a head without a number, whose drafts are all one token, is verified all the same") {
  writer<config> w;
  w.model.layout.head.visit([&](const std::string&, const parameter& p) {
    add_noise(w.model, p, std::numeric_limits<double>::quiet_NaN(), 1);
  });
  const auto text = w.run(usual_prompt, rejecting({.temperature = 3}));
  CHECK(text.tokens().size() == 40);
  CHECK(text.result.accepted[0] > 0);
}

TEST_CASE("each of many sequences verified by rejection gets what it would get alone") {
  const auto check = [](auto& w) {
    constexpr auto Config = std::remove_cvref_t<decltype(w.model)>::config;
    for (const index_t slots : {2, 5}) {
      batch_generator<Config, cpu> batch(w.context, w.model, slots);
      std::vector<tokens_type> prompts;
      std::vector<options_type> asked = all_options();
      // Others draft as many as they like, or compare.
      asked.push_back({.max_new_tokens = 30, .sampling = {.temperature = 1}});
      asked.push_back({.schedule = draft_schedule::adaptive, .max_new_tokens = 30});
      for (std::size_t i = 0; i < asked.size(); ++i) {
        asked[i].num_draft_tokens = static_cast<index_t>(1 + i % 3);
        prompts.push_back(random_tokens(static_cast<index_t>(1 + i), V, i));
        CHECK(batch.submit(prompts[i], asked[i]) == static_cast<index_t>(i));
      }
      batch.run();
      for (std::size_t i = 0; i < asked.size(); ++i) {
        CAPTURE(i);
        const auto together = batch.take(static_cast<index_t>(i));
        const auto& alone = w.generator.generate(prompts[i], asked[i]);
        CHECK(same_bits(together.tokens, alone.tokens));
        CHECK(same_bits(together.log_probabilities, alone.log_probabilities));
        CHECK(
            (asked[i].schedule == draft_schedule::adaptive || together.accepted == alone.accepted));
      }
    }
  };
  writer<config> sequential;
  check(sequential);
  writer<spoken_config(head_kind::independent, 3, P)> independent;
  check(independent);
}

TEST_CASE("what rejection cannot keep its word with is refused by name") {
  writer<config> w;
  const auto refuses = [&](const char* message, const options_type& options) {
    return fails_with(message, [&] { w.generator.generate(usual_prompt, options); });
  };
  options_type options = rejecting({.temperature = 1});
  options.schedule = draft_schedule::adaptive;
  CHECK(
      refuses("generate: with draft_verification::rejection and block the text depends on the "
              "number of drafts, so expected draft_schedule::constant",
              options));
  options = rejecting({.temperature = 1, .drafts = draft_choice::most_likely});
  CHECK(refuses("expected drafts other than draft_choice::most_likely", options));
  options.sampling.verification = static_cast<draft_verification>(3);
  CHECK(refuses("generate: expected verification of draft_verification, got 3", options));
}

}  // namespace mtp::test::decode_rejection_cases
