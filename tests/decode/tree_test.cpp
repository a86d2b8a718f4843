// Trees of drafts: the text, its logits and all caches are those of plain decoding, bit for bit,
// whatever the tree and the drafts are worth.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "mtp/decode/batch_generator.hpp"
#include "mtp/decode/generation_report.hpp"
#include "support/decoding.hpp"

namespace mtp::test::decode_tree_cases {

namespace {

using tokens_type = std::vector<token_t>;
using options_type = generate_options<float, cpu>;
constexpr int P = 96, V = 19;
constexpr float infinity = std::numeric_limits<float>::infinity();

constexpr auto independent = spoken_config(head_kind::independent, 3, P);
constexpr auto flipped_independent = flipped_spoken_config(head_kind::independent, 4, P);
constexpr auto parallel = spoken_config(head_kind::parallel, 3, P);
constexpr auto flipped_parallel = flipped_spoken_config(head_kind::parallel, 3, P);

std::vector<draft_tree> shapes() {
  return {draft_tree::of_widths({3, 2, 1}),
          draft_tree::of_widths({15}),
          draft_tree::of_widths({1, 1, 1}),
          draft_tree::of_paths({{2, 0, 1}, {0}, {1, 1}}),
          draft_tree::of_widths({1}),
          draft_tree::by_confidence(16),
          draft_tree::by_confidence(16, 15),
          draft_tree::by_confidence(5, 2)};
}

/// Tokens fall, step by step, until none below is left; then any may come.
void falling(std::span<const token_t> text, std::span<float> bias) {
  const auto last = static_cast<std::size_t>(text.back());
  for (std::size_t v = last; last > 0 && v < bias.size(); ++v) {
    bias[v] = -infinity;
  }
}

/// The largest logit, each kind of option, all at once.
std::vector<options_type> all_options() {
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
    for (const draft_tree& tree : shapes()) {
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

}  // namespace

TEST_CASE("a tree of independent drafts gives the text and logits of plain decoding") {
  for (const quality wanted : {quality::untrained, quality::close, quality::perfect}) {
    const index_t others =
        check_all_options<independent>(wanted) + check_all_options<flipped_independent>(wanted);
    CHECK((wanted != quality::close || others > 100));
  }
}

TEST_CASE("a tree of parallel drafts gives the text and logits of plain decoding") {
  for (const quality wanted : {quality::untrained, quality::close, quality::perfect}) {
    const index_t others =
        check_all_options<parallel>(wanted) + check_all_options<flipped_parallel>(wanted);
    CHECK((wanted != quality::close || others > 100));
  }
}

TEST_CASE("models of bf16 and f64 draft trees as well") {
  const auto check = [](auto& w, auto options) {
    const tokens_type prompt = random_tokens(9, V, 5);
    options.max_new_tokens = 40;
    options.mode = decode_mode::plain;
    const auto plain = record(w.generator, prompt, options);
    options.mode = decode_mode::speculative;
    for (const draft_tree& tree : shapes()) {
      options.tree = tree;
      CHECK(same_text(record(w.generator, prompt, options), plain));
    }
  };
  writer<parallel, bf16> narrow;
  writer<independent, double> wide;
  check(narrow, generate_options<bf16, cpu>{});
  check(wide, generate_options<double, cpu>{.sampling = {.temperature = 1}});
}

TEST_CASE("a tree of one branch makes the drafts of a chain") {
  const auto check = []<model_config Config>(writer<Config>& w) {
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
  };
  writer<independent> first;
  writer<parallel> second;
  check(first);
  check(second);
}

TEST_CASE("a wider tree has no fewer drafts accepted") {
  writer<parallel> w;
  const tokens_type prompt = random_tokens(11, V, 4);
  std::vector<index_t> passes;
  for (const auto& tree : {draft_tree::of_widths({1, 1, 1}),
                           draft_tree::of_widths({3, 2, 1}),
                           draft_tree::by_confidence(16)}) {
    const auto result = w.generator.generate(prompt, {.tree = tree, .max_new_tokens = 80});
    passes.push_back(result.forward_passes);
  }
  CHECK(passes[1] < passes[0]);
  CHECK(passes[2] < passes[0]);
}

TEST_CASE("trees fill the context to the last position, from any prompt") {
  const auto check = []<model_config Config>(writer<Config>& w) {
    for (index_t left = 0; left <= 20; ++left) {
      INFO(left, " places left");
      const tokens_type prompt = random_tokens(P - left, V, static_cast<std::uint64_t>(left));
      for (const double temperature : {0.0, 1.0}) {
        options_type options{.max_new_tokens = P, .sampling = {.temperature = temperature}};
        options.mode = decode_mode::plain;
        const auto plain = record(w.generator, prompt, options);
        REQUIRE(static_cast<index_t>(plain.tokens().size()) == left);
        options.mode = decode_mode::speculative;
        for (const draft_tree& tree : shapes()) {
          options.tree = tree;
          const auto text = record(w.generator, prompt, options);
          CHECK(same_text(text, plain));
          CHECK(text.result.end == end_reason::context);
          CHECK((text.result.tree_cycles > 0) == (left > 0));
        }
      }
    }
  };
  writer<independent> first;
  writer<flipped_parallel> second;
  check(first);
  check(second);
}

TEST_CASE("a stop token or sequence at any place of a tree's path ends the text there") {
  const auto check = []<model_config Config>(writer<Config>& w) {
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
          options.tree = shapes()[i % 5];
          const auto text = record(w.generator, prompt, options);
          CHECK(same_text(text, plain));
          CHECK(text.result.end == end_reason::stop);
        }
      }
    }
  };
  writer<independent> first;
  writer<parallel> second;
  check(first);
  check(second);
}

TEST_CASE("caches behind trees are those of a fresh prompt, and so are the drafts that follow") {
  const auto check = []<model_config Config>(writer<Config>& w, draft_tree tree) {
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
            static_cast<std::size_t>(t),
            static_cast<std::size_t>(std::min<index_t>(8, length - t)));
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
  };
  writer<independent> first;
  writer<flipped_parallel> second;
  for (const draft_tree& tree : {draft_tree::of_widths({3, 2, 1}), draft_tree::by_confidence(12)}) {
    check(first, tree);
    check(second, tree);
  }
}

TEST_CASE("each of many sequences with trees and without gets what it would get alone") {
  const auto check = []<model_config Config>(writer<Config>& w) {
    for (const index_t slots : {1, 3}) {
      batch_generator<Config, cpu> batch(w.context, w.model, slots);
      std::vector<tokens_type> prompts;
      std::vector<options_type> options = all_options();
      std::vector<index_t> numbers;
      for (std::size_t i = 0; i < options.size(); ++i) {
        prompts.push_back(random_tokens(3 + 9 * static_cast<index_t>(i % 4), V, i));
        options[i].max_new_tokens = 20 + static_cast<index_t>(5 * i);
        if (i % 3 != 2) {
          options[i].tree = shapes()[i % 8];
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
  };
  writer<independent> first;
  writer<parallel> second;
  check(first);
  check(second);
}

TEST_CASE("requests with trees go on from a snapshot, with as many slots or others") {
  writer<parallel> w;
  for (const int cycles : {1, 4, 9}) {
    batch_generator<parallel, cpu> first(w.context, w.model, 3), second(w.context, w.model, 2);
    const std::vector<options_type> options = all_options();
    for (std::size_t i = 0; i < 5; ++i) {
      auto own = options[i];
      own.tree = shapes()[i];
      first.submit(random_tokens(9, V, i), own);
    }
    for (int i = 0; i < cycles; ++i) {
      first.run_cycle();
    }
    second.restore(first.snapshot());
    first.run();
    second.run();
    for (index_t number = 0; number < 5; ++number) {
      const auto expected = first.take(number), actual = second.take(number);
      CHECK(actual.tokens == expected.tokens);
      CHECK(same_bits(actual.log_probabilities, expected.log_probabilities));
    }
  }
}

TEST_CASE("what takes no trees refuses them by name and stays usable") {
  const tokens_type prompt = random_tokens(5, V, 1);
  const auto refused = [&](auto& w, const char* what, options_type options) {
    const auto before = w.generator.generate(prompt, {.max_new_tokens = 10}).tokens;
    CHECK(fails_with(what, [&] { w.generator.generate(prompt, options); }));
    CHECK(w.generator.generate(prompt, {.max_new_tokens = 10}).tokens == before);
  };
  const auto tree = draft_tree::of_widths({2, 1});
  writer<spoken_config(head_kind::sequential, 3, P)> sequential;
  refused(sequential, "heads of this kind draft none", {.tree = tree});
  writer<spoken_config(head_kind::recurrent, 3, P)> recurrent;
  refused(recurrent, "heads of this kind draft none, got a tree of 5 rows", {.tree = tree});
  writer<spoken_config(head_kind::none, 0, P)> none;
  refused(none, "heads of this kind draft none", {.tree = tree});
  writer<parallel> w;
  refused(w, "at most 3 positions", {.tree = draft_tree::of_widths({1, 1, 1, 1})});
  refused(w, "num_draft_tokens", {.num_draft_tokens = 2, .tree = tree});
  refused(w, "adaptive", {.schedule = draft_schedule::adaptive, .tree = tree});
  options_type rejecting{.tree = tree, .sampling = {.temperature = 1}};
  rejecting.sampling.verification = draft_verification::rejection;
  refused(w, "draft_verification::rejection", rejecting);
  batch_generator<parallel, cpu> batch(w.context, w.model, 2);
  CHECK(fails_with("at most 3 positions", [&] {
    batch.submit(prompt, {.tree = draft_tree::of_widths({1, 1, 1, 1})});
  }));
  CHECK(batch.waiting() == 0);
}

TEST_CASE("a report counts the drafts of trees") {
  writer<parallel> w;
  const auto& result = w.generator.generate(
      random_tokens(11, V, 4), {.tree = draft_tree::of_widths({3, 1}), .max_new_tokens = 30});
  CHECK(report(result).find("trees: " + std::to_string(6 * result.tree_cycles) + " drafts in " +
                            std::to_string(result.tree_cycles) + " cycles") != std::string::npos);
  CHECK(result.cycles[2] == result.tree_cycles);
  CHECK(result.drafted[2] == 0);
  CHECK(
      report(w.generator.generate(random_tokens(11, V, 4), {.max_new_tokens = 30})).find("trees") ==
      std::string::npos);
}

}  // namespace mtp::test::decode_tree_cases
