// Sampled text: what is drawn with drafts is what is drawn without, bit for bit, and it has the
// probabilities that the model and the options give it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "support/decoding.hpp"
#include "support/reference/choose_tokens.hpp"
#include "support/text_probabilities.hpp"

namespace mtp::test::decode_sampling_cases {

namespace {

using tokens_type = std::vector<token_t>;
using options_type = generate_options<float, cpu>;
constexpr int P = 96, V = 19;
constexpr float infinity = std::numeric_limits<float>::infinity();

struct named_options {
  const char* name;
  options_type options;
};

/// Each option by itself, then all at once.
std::vector<named_options> all_options() {
  std::vector<named_options> all;
  const auto add = [&](const char* name, const sampling_options& sampling) {
    all.push_back({name, {.max_new_tokens = 60, .sampling = sampling, .log_probabilities = true}});
  };
  const mtp::seed some{9};
  add("temperature", {.temperature = 0.7, .seed = some});
  add("top_k", {.temperature = 1, .top_k = 4, .seed = some});
  add("top_p", {.temperature = 1, .top_p = 0.8, .seed = some});
  add("min_p", {.temperature = 1, .min_p = 0.1, .seed = some});
  add("repetition_penalty", {.temperature = 0.5, .repetition_penalty = 1.5, .seed = some});
  add("frequency_penalty", {.temperature = 0.5, .frequency_penalty = 0.7, .seed = some});
  add("presence_penalty", {.temperature = 0.5, .presence_penalty = 0.8, .seed = some});
  add("penalties without noise",
      {.repetition_penalty = 1.2, .frequency_penalty = 0.5, .presence_penalty = 0.1});
  add("logit_bias",
      {.temperature = 1, .logit_bias = {{3, 2.0f}, {4, -infinity}, {5, -1.0f}}, .seed = some});
  add("min_new_tokens", {.temperature = 1, .seed = some});
  all.back().options.min_new_tokens = 20;
  all.back().options.stop_tokens = {0, 1, 2, 2, 3, 7};
  add("all",
      {.temperature = 0.9,
       .top_k = 12,
       .top_p = 0.95,
       .min_p = 0.01,
       .repetition_penalty = 1.1,
       .frequency_penalty = 0.2,
       .presence_penalty = 0.3,
       .logit_bias = {{6, 0.5f}, {8, -infinity}},
       .seed = some,
       .sequence = 5});
  all.back().options.min_new_tokens = 30;
  all.back().options.stop_tokens = {11};
  return all;
}

reference::rule_of_choice rule_of(const options_type& options, index_t prompt_length) {
  const sampling_options& s = options.sampling;
  reference::rule_of_choice rule{.seed = s.seed.value,
                                 .sequence = s.sequence,
                                 .prompt_length = prompt_length,
                                 .min_new_tokens = options.min_new_tokens,
                                 .top_k = s.top_k,
                                 .temperature = s.temperature,
                                 .top_p = s.top_p,
                                 .min_p = s.min_p,
                                 .repetition_penalty = s.repetition_penalty,
                                 .frequency_penalty = s.frequency_penalty,
                                 .presence_penalty = s.presence_penalty,
                                 .stop_tokens = options.stop_tokens};
  if (!s.logit_bias.empty()) {
    rule.bias.resize(V);
    for (const token_bias& each : s.logit_bias) {
      rule.bias[static_cast<std::size_t>(each.token)] += each.bias;
    }
  }
  return rule;
}

double as_float(double x) {
  return static_cast<double>(static_cast<float>(x));
}

/// Every token is what the reference chooses from the logits that it came from and the text in
/// front of it.
template <class Transcript>
void check_choices(const Transcript& text, const tokens_type& prompt, const options_type& options) {
  tokens_type all = prompt;
  const auto rule = rule_of(options, static_cast<index_t>(prompt.size()));
  REQUIRE(text.result.log_probabilities.size() == text.tokens().size());
  for (std::size_t i = 0; i < text.tokens().size(); ++i) {
    CAPTURE(i);
    const auto row = text.logits.begin() + static_cast<std::ptrdiff_t>(i * V);
    const std::vector<double> logits(row, row + V);
    REQUIRE(text.tokens()[i] == reference::chosen(logits, all, rule, as_float));
    const double expected = reference::log_probability(logits, text.tokens()[i]);
    CHECK(std::abs(text.result.log_probabilities[i] - expected) <= 1e-13 * (1 - expected));
    all.push_back(text.tokens()[i]);
  }
}

/// A model with drafts that are often what the model itself says.
template <model_config Config>
struct writer {
  cpu_context context{{.threads = 2}};
  language_model<Config, cpu> model{context, seed{1}};
  mtp::generator<Config, cpu> generator{context, model};

  writer() {
    make_perfect(model);
    add_noise(model, 0.1);
    add_head_noise(model, 0.3, 50);
    // A flatter distribution, so that there is something to draw.
    const auto output = model.values().matrix(model.layout.trunk.output);
    for (index_t v = 0; v < Config.vocab_size; ++v) {
      for (index_t c = 0; c < Config.hidden_size; ++c) {
        output(v, c) *= 0.4f;
      }
    }
  }
  auto run(const tokens_type& prompt, options_type options, decode_mode mode) {
    options.mode = mode;
    return record(generator, prompt, options);
  }
};

template <model_config Config>
void check_all_options() {
  writer<Config> w;
  const tokens_type prompt = random_tokens(11, V, 4);
  for (const named_options& each : all_options()) {
    const options_type& options = each.options;
    INFO(std::string(name_of(Config.prediction.kind)), ", ", each.name);
    const auto plain = w.run(prompt, options, decode_mode::plain);
    REQUIRE(plain.tokens().size() >= 20);
    check_choices(plain, prompt, options);
    for (const auto drafts : {draft_choice::shared_noise, draft_choice::most_likely}) {
      auto drafting = options;
      drafting.sampling.drafts = drafts;
      const auto text = w.run(prompt, drafting, decode_mode::speculative);
      CHECK(same_text(text, plain));
      CHECK(same_bits(text.result.log_probabilities, plain.result.log_probabilities));
      CHECK(text.result.end == plain.result.end);
      CHECK(text.result.accepted[0] > 0);
    }
  }
}

constexpr auto config = spoken_config(head_kind::sequential, 3, P);
const tokens_type usual_prompt = random_tokens(11, V, 4);

}  // namespace

TEST_CASE("sequential drafts give the sampled text and logits of plain decoding") {
  check_all_options<config>();
}

TEST_CASE("eight recurrent drafts give the sampled text and logits of plain decoding") {
  check_all_options<flipped_spoken_config(head_kind::recurrent, 8, P)>();
}

TEST_CASE("parallel drafts give the sampled text and logits of plain decoding") {
  check_all_options<spoken_config(head_kind::parallel, 3, P)>();
}

TEST_CASE("independent drafts give the sampled text and logits of plain decoding") {
  check_all_options<spoken_config(head_kind::independent, 2, P)>();
}

TEST_CASE("drafts with the noise of the text are accepted more often than likely ones") {
  writer<config> w;
  index_t accepted[2] = {};
  for (std::uint32_t sequence = 0; sequence < 20; ++sequence) {
    for (const auto drafts : {draft_choice::shared_noise, draft_choice::most_likely}) {
      options_type options{.max_new_tokens = 60, .sampling = {.temperature = 2}};
      options.sampling.sequence = sequence;
      options.sampling.drafts = drafts;
      const auto text = w.run(usual_prompt, options, decode_mode::speculative);
      for (const index_t count : text.result.accepted) {
        accepted[static_cast<int>(drafts)] += count;
      }
    }
  }
  CHECK(accepted[0] > accepted[1] + accepted[1] / 2);
}

TEST_CASE("rules that change nothing give the text of the most likely tokens") {
  writer<config> w;
  const auto likely = w.run(usual_prompt, {.max_new_tokens = 40}, decode_mode::speculative);
  for (const sampling_options& sampling : {sampling_options{.logit_bias = {{3, 0.0f}}},
                                           sampling_options{.temperature = 1, .top_k = 1},
                                           sampling_options{.temperature = 1, .top_p = 1e-9},
                                           sampling_options{.temperature = 1, .min_p = 1},
                                           sampling_options{.temperature = 1e-9}}) {
    const auto text =
        w.run(usual_prompt, {.max_new_tokens = 40, .sampling = sampling}, decode_mode::speculative);
    CHECK(same_text(text, likely));
    CHECK(text.result.forward_passes == likely.result.forward_passes);
    CHECK(text.result.log_probabilities.empty());
  }
}

TEST_CASE("a seed gives one text, and other seeds, sequences and temperatures others") {
  writer<config> w;
  const auto text_of = [&](std::uint64_t number, std::uint32_t sequence, double temperature) {
    const sampling_options sampling{
        .temperature = temperature, .seed = mtp::seed{number}, .sequence = sequence};
    return w
        .run(usual_prompt, {.max_new_tokens = 40, .sampling = sampling}, decode_mode::speculative)
        .tokens();
  };
  const tokens_type one = text_of(1, 0, 1);
  CHECK(text_of(1, 0, 1) == one);
  CHECK(text_of(2, 0, 1) != one);
  CHECK(text_of(std::uint64_t{1} << 63 | 1, 0, 1) != one);
  CHECK(text_of(1, 1, 1) != one);
  CHECK(text_of(1, 0, 2) != one);
  CHECK(text_of(1, 0, 1) == one);  // nothing is left of the calls between
}

TEST_CASE("a stop token ends the text at every place within a block of drafts") {
  writer<config> w;
  for (const double temperature : {0.0, 1.0}) {
    options_type options{.max_new_tokens = 40, .sampling = {.temperature = temperature}};
    const tokens_type all = w.run(usual_prompt, options, decode_mode::plain).tokens();
    tokens_type seen;
    for (std::size_t at = 0; at < all.size(); ++at) {
      if (std::count(seen.begin(), seen.end(), all[at]) == 0) {
        seen.push_back(all[at]);
        CAPTURE(at);
        options.stop_tokens = {V - 1 == all[at] ? 0 : V - 1, all[at]};
        const auto plain = w.run(usual_prompt, options, decode_mode::plain);
        const auto text = w.run(usual_prompt, options, decode_mode::speculative);
        CHECK(same_text(text, plain));
        CHECK(text.result.end == end_reason::stop);
        CHECK(text.tokens().size() <= at + 1);
        const auto stops = [&](token_t token) {
          return std::count(options.stop_tokens.begin(), options.stop_tokens.end(), token) > 0;
        };
        CHECK(std::find_if(text.tokens().begin(), text.tokens().end(), stops) ==
              text.tokens().end() - 1);
      }
    }
    CHECK(seen.size() > 4);
  }
}

TEST_CASE("no stop token is written before min_new_tokens, and no stop sequence ends the text") {
  writer<config> w;
  for (const double temperature : {0.0, 1.0}) {
    options_type options{.max_new_tokens = 60, .sampling = {.temperature = temperature}};
    const tokens_type all = w.run(usual_prompt, options, decode_mode::plain).tokens();
    for (index_t least = 0; least < 12; ++least) {
      CAPTURE(least);
      options.min_new_tokens = least;
      options.stop_tokens = {all[0], all[2], all[5]};
      const auto text = w.run(usual_prompt, options, decode_mode::speculative);
      CHECK(same_text(text, w.run(usual_prompt, options, decode_mode::plain)));
      REQUIRE(static_cast<index_t>(text.tokens().size()) > least);
      for (const token_t stop : options.stop_tokens) {
        CHECK(std::count(text.tokens().begin(), text.tokens().begin() + least, stop) == 0);
      }
      options.stop_tokens.clear();
      options.stop = {{all[3], all[4]}};
      const auto sequence = w.run(usual_prompt, options, decode_mode::speculative);
      CHECK(same_text(sequence, w.run(usual_prompt, options, decode_mode::plain)));
      CHECK(static_cast<index_t>(sequence.tokens().size()) >= least);
      options.stop.clear();
    }
  }
}

TEST_CASE("drafts that always say the stop token change nothing") {
  writer<config> w;
  options_type options{.max_new_tokens = 60, .sampling = {.temperature = 1}};
  options.stop_tokens = {0};  // what is drafted where no logit is a number
  const auto expected = w.run(usual_prompt, options, decode_mode::plain);
  w.model.layout.head.visit([&](const std::string&, const parameter& p) {
    add_noise(w.model, p, std::numeric_limits<double>::quiet_NaN(), 1);
  });
  const auto text = w.run(usual_prompt, options, decode_mode::speculative);
  CHECK(same_text(text, expected));
  CHECK(text.tokens().size() > 3);
}

TEST_CASE("sampled text fills the context to its end, with any number of places left") {
  writer<config> w;
  const options_type options{
      .max_new_tokens = P, .sampling = {.temperature = 1}, .log_probabilities = true};
  for (index_t left = 0; left <= 5; ++left) {
    CAPTURE(left);
    const tokens_type prompt = random_tokens(P - left, V, 8);
    const auto plain = w.run(prompt, options, decode_mode::plain);
    const auto text = w.run(prompt, options, decode_mode::speculative);
    CHECK(same_text(text, plain));
    CHECK(same_bits(text.result.log_probabilities, plain.result.log_probabilities));
    CHECK(static_cast<index_t>(text.tokens().size()) == left);
    CHECK(text.result.end == end_reason::context);
  }
}

TEST_CASE("three tokens of five have the probabilities of all 125 texts") {
  constexpr auto small = five_tokens_config(head_kind::sequential);
  cpu_context context({.threads = 1});
  language_model<small, cpu> model(context, seed{1});
  add_noise(model, 0.5);
  generator<small, cpu> generator(context, model);
  decoder<small, cpu> decoder(context, model);
  const tokens_type prompt{1, 3};
  const auto probabilities_at = [&](double temperature) {
    return text_probabilities(decoder, prompt, temperature);
  };
  const auto right = probabilities_at(0.8);
  for (const auto drafts : {draft_choice::shared_noise, draft_choice::most_likely}) {
    std::vector<double> counts(125, 0);
    index_t accepted = 0;
    for (std::uint32_t sequence = 0; sequence < 6000; ++sequence) {
      const auto& result = generator.generate(
          prompt,
          {.max_new_tokens = 3,
           .sampling = {
               .temperature = 0.8, .seed = mtp::seed{3}, .sequence = sequence, .drafts = drafts}});
      counts[number_of_text(result.tokens)] += 1;
      accepted += result.accepted[0];
    }
    CHECK(accepted > 300);
    double freedom = 0;
    const double deviation = reference::chi_square(counts, right, &freedom);
    CAPTURE(deviation);
    CHECK(freedom > 20);
    CHECK(deviation <= reference::chi_square_bound(freedom));
    // A temperature that is not the one that was asked for shows.
    const double biased = reference::chi_square(counts, probabilities_at(1.0), &freedom);
    CHECK(biased > reference::chi_square_bound(freedom));
  }
}

TEST_CASE("options that mean nothing are refused and change nothing") {
  writer<config> w;
  const auto& result =
      w.generator.generate(usual_prompt, {.max_new_tokens = 9, .sampling = {.temperature = 1}});
  const tokens_type before = result.tokens;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto refuses = [&](const char* message, const options_type& options) {
    const auto refused = fails_with(message, [&] { w.generator.generate(usual_prompt, options); });
    CHECK(result.tokens == before);
    return refused;
  };
  const auto with = [](const sampling_options& sampling) {
    return options_type{.max_new_tokens = 9, .sampling = sampling};
  };
  for (const double bad : {-0.1, nan, HUGE_VAL}) {
    CHECK(refuses("generate: expected temperature finite and not negative, got ",
                  with({.temperature = bad})));
  }
  CHECK(refuses("generate: expected top_k not negative, got -1", with({.top_k = -1})));
  for (const double bad : {0.0, 1.01, -1.0, nan}) {
    CHECK(refuses("generate: expected top_p in (0, 1], got ", with({.top_p = bad})));
  }
  for (const double bad : {-0.1, 1.01, nan}) {
    CHECK(refuses("generate: expected min_p in [0, 1], got ", with({.min_p = bad})));
  }
  for (const double bad : {0.0, -1.0, nan, HUGE_VAL}) {
    CHECK(refuses("generate: expected repetition_penalty finite and above 0, got ",
                  with({.repetition_penalty = bad})));
  }
  for (const double bad : {nan, HUGE_VAL}) {
    CHECK(refuses("generate: expected frequency_penalty finite, got ",
                  with({.frequency_penalty = bad})));
    CHECK(refuses("generate: expected presence_penalty finite, got ",
                  with({.presence_penalty = bad})));
  }
  CHECK(refuses("generate: expected tokens in [0, 19) in logit_bias, got 19",
                with({.logit_bias = {{1, 1.0f}, {19, 1.0f}}})));
  CHECK(refuses("generate: expected numbers below infinity in logit_bias, got inf for token 2",
                with({.logit_bias = {{2, infinity}}})));
  CHECK(refuses("generate: expected numbers below infinity in logit_bias, got ",
                with({.logit_bias = {{2, std::numeric_limits<float>::quiet_NaN()}}})));
  CHECK(refuses("generate: stop token -1 at position 1 does not lie in [0, 19)",
                {.max_new_tokens = 9, .stop_tokens = {2, -1}}));
  for (const index_t bad : {-1, 10}) {
    CHECK(refuses("generate: expected min_new_tokens in [0, 9], got ",
                  {.max_new_tokens = 9, .min_new_tokens = bad}));
  }
  // Every token is forbidden: a clear end.
  options_type nothing{.max_new_tokens = 9, .min_new_tokens = 2};
  for (token_t v = 0; v < V; ++v) {
    nothing.stop_tokens.push_back(v);
  }
  CHECK(fails_with("generate: no token can be chosen at position 11: every logit is NaN",
                   [&] { w.generator.generate(usual_prompt, nothing); }));
  CHECK(w.generator.generate(usual_prompt, {.max_new_tokens = 9, .sampling = {.temperature = 1}})
            .tokens == before);
}

TEST_CASE("the best tokens of each position are those of its logits, with drafts as without") {
  constexpr auto config = spoken_config(head_kind::sequential, 3, P);
  cpu_context context({.threads = 1});
  language_model<config, cpu> model(context, mtp::seed{3});
  add_noise(model, 0.5);
  generator<config, cpu> writer(context, model);
  const auto prompt = random_tokens(6, V, 2);
  for (const double temperature : {0.0, 1.0}) {
    options_type options{.max_new_tokens = 60,
                         .sampling = {.temperature = temperature, .seed = mtp::seed{9}},
                         .log_probabilities = true,
                         .best_tokens = V};
    const auto text = record(writer, prompt, options).result;
    options.mode = decode_mode::plain;
    const auto plain = record(writer, prompt, options).result;
    CHECK(text.best_tokens == plain.best_tokens);
    CHECK(same_bits(text.best_log_probabilities, plain.best_log_probabilities));
    REQUIRE(text.best_tokens.size() == text.tokens.size() * V);
    for (std::size_t i = 0; i < text.tokens.size(); ++i) {
      const auto first = text.best_tokens.begin() + static_cast<std::ptrdiff_t>(i * V);
      const auto found = std::find(first, first + V, text.tokens[i]) - text.best_tokens.begin();
      REQUIRE(found < static_cast<std::ptrdiff_t>((i + 1) * V));
      CHECK(text.best_log_probabilities[static_cast<std::size_t>(found)] ==
            text.log_probabilities[i]);
      if (temperature == 0) {
        CHECK(*first == text.tokens[i]);
      }
    }
  }
}

}  // namespace mtp::test::decode_sampling_cases
