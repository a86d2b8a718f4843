// Trees of drafts: what every head that drafts trees is checked for.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "mtp/decode/batch_generator.hpp"
#include "support/decoding.hpp"

namespace mtp::test::decode_tree_cases {

using tokens_type = std::vector<token_t>;
using options_type = generate_options<float, cpu>;
constexpr int P = 96, V = 19;
constexpr float infinity = std::numeric_limits<float>::infinity();

/// Of every kind that a head takes: fixed ones first.
template <model_config Config>
std::vector<draft_tree> shapes() {
  std::vector<draft_tree> all{draft_tree::of_widths({3, 2, 1}),
                              draft_tree::of_widths({15}),
                              draft_tree::of_widths({1, 1, 1}),
                              draft_tree::of_paths({{2, 0, 1}, {0}, {1, 1}}),
                              draft_tree::of_widths({1}),
                              draft_tree::by_confidence(16),
                              draft_tree::by_confidence(16, 15),
                              draft_tree::by_confidence(5, 2)};
  if (drafter_grows_trees<Config, cpu, float>) {
    all.resize(5);
  }
  return all;
}

/// Tokens fall, step by step, until none below is left; then any may come.
inline void falling(std::span<const token_t> text, std::span<float> bias) {
  const auto last = static_cast<std::size_t>(text.back());
  for (std::size_t v = last; last > 0 && v < bias.size(); ++v) {
    bias[v] = -infinity;
  }
}

/// The largest logit, each kind of option, all at once.
inline std::vector<options_type> all_options() {
  const mtp::seed some{9};
  std::vector<options_type> all;
  const auto add = [&](const sampling_options& sampling, index_t min_new_tokens = 0) {
    all.push_back({.max_new_tokens = 50,
                   .min_new_tokens = min_new_tokens,
                   .sampling = sampling,
                   .log_probabilities = true});
  };
  add({});
  all.back().best_tokens = 3;
  add({.temperature = 0.7, .seed = some});
  add({.temperature = 1, .top_k = 4, .seed = some});
  add({.temperature = 1, .top_p = 0.8, .min_p = 0.1, .seed = some});
  add({.repetition_penalty = 1.2, .frequency_penalty = 0.5, .presence_penalty = 0.1});
  add({.temperature = 0.5, .frequency_penalty = 0.7, .presence_penalty = 0.8, .seed = some});
  add({.temperature = 1, .logit_bias = {{3, 2.0f}, {4, -infinity}}, .seed = some}, 20);
  all.back().stop_tokens = {0, 1, 2, 2, 3, 7};
  add({.temperature = 1, .mask = falling, .seed = some});
  add({.frequency_penalty = 0.4, .mask = falling});
  add({.temperature = 0.9,
       .top_k = 12,
       .top_p = 0.95,
       .min_p = 0.01,
       .repetition_penalty = 1.1,
       .frequency_penalty = 0.2,
       .presence_penalty = 0.3,
       .logit_bias = {{6, 0.5f}, {8, -infinity}},
       .mask = falling,
       .seed = some,
       .sequence = 5},
      30);
  all.back().stop_tokens = {11};
  all.back().stop = {{1, 2, 3}};
  return all;
}

enum class quality { untrained, close, perfect };

template <model_config Config, class S = float>
struct writer {
  cpu_context context{{.threads = 2}};
  language_model<Config, cpu, S> model{context, seed{1}};
  mtp::generator<Config, cpu, S> generator{context, model};

  explicit writer(quality wanted = quality::close) {
    if constexpr (!std::is_same_v<S, bf16>) {
      if (wanted == quality::untrained) {
        add_noise(model, 0.3);
        return;
      }
      make_perfect(model);
      if (wanted == quality::close) {
        add_noise(model, 0.1);
        add_head_noise(model, 0.5, 50);
      }
    }
  }
};

template <model_config Config>
index_t check_all_options(quality wanted) {
  INFO(std::string(name_of(Config.prediction.kind)), ", quality ", static_cast<int>(wanted));
  writer<Config> w(wanted);
  const tokens_type prompt = random_tokens(11, V, 4);
  index_t other_branches = 0;
  std::size_t number = 0;
  for (options_type options : all_options()) {
    INFO("options ", number++);
    options.mode = decode_mode::plain;
    const auto plain = record(w.generator, prompt, options);
    options.mode = decode_mode::speculative;
    for (const draft_tree& tree : shapes<Config>()) {
      INFO(tree.rows(), " rows of depth ", tree.depth());
      options.tree = tree;
      for (const auto drafts : {draft_choice::shared_noise, draft_choice::most_likely}) {
        options.sampling.drafts = drafts;
        const auto text = record(w.generator, prompt, options);
        CHECK(same_text(text, plain));
        CHECK(same_bits(text.result.log_probabilities, plain.result.log_probabilities));
        CHECK(same_bits(text.result.best_log_probabilities, plain.result.best_log_probabilities));
        CHECK(text.result.best_tokens == plain.result.best_tokens);
        CHECK(text.result.end == plain.result.end);
        CHECK(text.result.tree_cycles > 0);
        CHECK(text.result.tree_drafts == text.result.tree_cycles * (tree.rows() - 1));
        other_branches += text.result.other_branches;
      }
    }
  }
  return other_branches;
}

/// A tree of one branch makes the drafts of a chain.
template <model_config Config>
void check_one_branch(writer<Config>& w) {
  const tokens_type prompt = random_tokens(11, V, 4);
  for (const double temperature : {0.0, 1.0}) {
    options_type options{.max_new_tokens = 60, .sampling = {.temperature = temperature}};
    const auto chain = w.generator.generate(prompt, options);
    options.tree = draft_tree::of_widths({1, 1, 1});
    const auto tree = w.generator.generate(prompt, options);
    CHECK(tree.tokens == chain.tokens);
    // At the context's end a tree leaves out rows, where a chain drafts nothing.
    CHECK(tree.accepted == chain.accepted);
    CHECK(tree.forward_passes == chain.forward_passes);
  }
}

/// Trees fill the context to the last position.
template <model_config Config>
void check_context(writer<Config>& w) {
  for (index_t left = 0; left <= 20; ++left) {
    INFO(left, " places left");
    const tokens_type prompt = random_tokens(P - left, V, static_cast<std::uint64_t>(left));
    for (const double temperature : {0.0, 1.0}) {
      options_type options{.max_new_tokens = P, .sampling = {.temperature = temperature}};
      options.mode = decode_mode::plain;
      const auto plain = record(w.generator, prompt, options);
      REQUIRE(static_cast<index_t>(plain.tokens().size()) == left);
      options.mode = decode_mode::speculative;
      for (const draft_tree& tree : shapes<Config>()) {
        options.tree = tree;
        const auto text = record(w.generator, prompt, options);
        CHECK(same_text(text, plain));
        CHECK(text.result.end == end_reason::context);
        CHECK((text.result.tree_cycles > 0) == (left > 0));
      }
    }
  }
}

/// A stop at any place of a path ends the text there.
template <model_config Config>
void check_stops(writer<Config>& w) {
  const tokens_type prompt = random_tokens(7, V, 2);
  for (const double temperature : {0.0, 1.0}) {
    options_type options{.max_new_tokens = 40, .sampling = {.temperature = temperature}};
    options.mode = decode_mode::plain;
    const auto whole = record(w.generator, prompt, options);
    for (std::size_t i = 0; i < whole.tokens().size(); ++i) {
      for (const std::size_t length : {1u, 2u, 3u}) {
        if (length > i + 1) {
          continue;
        }
        const auto end = whole.tokens().begin() + static_cast<std::ptrdiff_t>(i) + 1;
        options.stop = {{end - static_cast<std::ptrdiff_t>(length), end}};
        options.stop_tokens = length == 1 ? options.stop.front() : tokens_type{};
        options.tree = {};
        options.mode = decode_mode::plain;
        const auto plain = record(w.generator, prompt, options);
        options.mode = decode_mode::speculative;
        options.tree = shapes<Config>()[i % 5];
        const auto text = record(w.generator, prompt, options);
        CHECK(same_text(text, plain));
        CHECK(text.result.end == end_reason::stop);
      }
    }
  }
}

/// Caches behind trees are those of a fresh prompt, and so are the drafts that follow.
template <model_config Config>
void check_caches(writer<Config>& w, draft_tree tree) {
  const tokens_type prompt = random_tokens(12, V, 3);
  options_type options{.tree = tree, .max_new_tokens = 80, .sampling = {.temperature = 0.8}};
  std::vector<bool> drafted;
  options.on_token = [&](const written_token& token) {
    drafted.push_back(token.drafted);
    return true;
  };
  const tokens_type tokens = w.generator.generate(prompt, options).tokens;
  const std::vector<bool> expected = drafted;
  index_t accepted = 0;
  for (std::size_t n = 1; n < tokens.size(); ++n) {
    // Whatever is cut off: what was cached of a tree's path stands where it belongs.
    options.max_new_tokens = static_cast<index_t>(n);
    w.generator.generate(prompt, options);
    tokens_type text = prompt;
    text.insert(text.end(), tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(n));
    const index_t length = w.generator.sequence().length();
    decoder<Config, cpu> fresh(w.context, w.model);
    for (index_t t = 0; t < length; t += 8) {
      const auto piece = std::span<const token_t>(text).subspan(
          static_cast<std::size_t>(t), static_cast<std::size_t>(std::min<index_t>(8, length - t)));
      fresh.prefill(piece, hidden_states::dropped);
    }
    REQUIRE(same_bits(cached(w.generator.sequence()), cached(fresh)));
    // Behind the last token of a cycle, a fresh generator makes the same drafts.
    if (!expected[n - 1] && n % 3 == 0) {
      drafted.clear();
      mtp::generator<Config, cpu> other(w.context, w.model);
      auto rest = options;
      rest.max_new_tokens = static_cast<index_t>(tokens.size() - n);
      other.generate(text, rest);
      CHECK(drafted ==
            std::vector<bool>(expected.begin() + static_cast<std::ptrdiff_t>(n), expected.end()));
    }
    accepted += expected[n] ? 1 : 0;
  }
  CHECK(accepted > 10);
}

/// Each of many sequences gets what it would get alone.
template <model_config Config>
void check_company(writer<Config>& w) {
  for (const index_t slots : {1, 3}) {
    batch_generator<Config, cpu> batch(w.context, w.model, slots);
    std::vector<tokens_type> prompts;
    std::vector<options_type> options = all_options();
    std::vector<index_t> numbers;
    for (std::size_t i = 0; i < options.size(); ++i) {
      prompts.push_back(random_tokens(3 + 9 * static_cast<index_t>(i % 4), V, i));
      options[i].max_new_tokens = 20 + static_cast<index_t>(5 * i);
      if (i % 3 != 2) {
        const auto all = shapes<Config>();
        options[i].tree = all[i % all.size()];
      }
      if (i == 5) {
        options[i].schedule = draft_schedule::adaptive;
      }
      numbers.push_back(batch.submit(prompts[i], options[i]));
    }
    batch.run();
    for (std::size_t i = 0; i < options.size(); ++i) {
      INFO("request ", i);
      const auto together = batch.take(numbers[i]);
      const auto alone = w.generator.generate(prompts[i], options[i]);
      CHECK(together.tokens == alone.tokens);
      CHECK(same_bits(together.log_probabilities, alone.log_probabilities));
      CHECK(together.end == alone.end);
      if (options[i].schedule == draft_schedule::constant) {
        CHECK(together.forward_passes == alone.forward_passes);
        CHECK(together.accepted == alone.accepted);
        CHECK(together.other_branches == alone.other_branches);
      }
    }
  }
}

}  // namespace mtp::test::decode_tree_cases
