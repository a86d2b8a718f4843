// Drafts from a part of the vocabulary: what is written stays the same.
#include "mtp/model/draft_vocabulary.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "mtp/decode/batch_generator.hpp"
#include "support/decoding.hpp"
#include "support/random.hpp"

namespace mtp::test::draft_vocabulary_cases {

namespace {

using tokens_type = std::vector<token_t>;
constexpr int P = 64, V = 19;

template <class S>
std::vector<generate_options<S, cpu>> some_options() {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  using options_type = generate_options<S, cpu>;
  std::vector<options_type> all(5);
  all[1].sampling = {.temperature = 1.5, .seed = mtp::seed{4}};
  all[2].sampling = {.temperature = 2,
                     .top_k = 7,
                     .repetition_penalty = 1.2,
                     .frequency_penalty = 0.3,
                     .logit_bias = {{3, 2.0f}, {4, -infinity}},
                     .seed = mtp::seed{5}};
  all[2].stop_tokens = {11};
  all[2].min_new_tokens = 9;
  all[3].sampling = {.temperature = 1.5, .drafts = draft_choice::most_likely};
  all[4].sampling.mask = [](std::span<const token_t> text, std::span<float> bias) {
    bias[text.size() % V] = -infinity;
  };
  for (options_type& each : all) {
    each.max_new_tokens = 40;
  }
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE_DEFINE("drafts from a part of the vocabulary leave the text as it is",
                          Head,
                          kept_texts) {
  constexpr auto config = Head::config;
  cpu_context context({.threads = 2});
  language_model<config, cpu> model(context, seed{1});
  make_perfect(model);
  add_noise(model, 0.05);
  generator<config, cpu> generator(context, model);
  const tokens_type prompt = random_tokens(5, V, 4);
  for (auto& options : some_options<float>()) {
    options.mode = decode_mode::plain;
    const auto plain = record(generator, prompt, options);
    options.mode = decode_mode::speculative;
    const auto whole = record(generator, prompt, options);
    CHECK(same_text(whole, plain));
    tokens_type all(V);
    std::iota(all.rbegin(), all.rend(), 0);  // in any order
    generator.set_draft_vocabulary(all);
    const auto of_all = record(generator, prompt, options);
    CHECK(same_text(of_all, plain));
    CHECK(of_all.result.accepted == whole.result.accepted);
    CHECK(of_all.result.forward_passes == whole.result.forward_passes);
    for (const tokens_type& part : {tokens_type{7}, tokens_type{18, 0, 3, 4, 11, 9, 10}}) {
      generator.set_draft_vocabulary(part);
      CHECK(same_text(record(generator, prompt, options), plain));
    }
    generator.set_draft_vocabulary({});
    CHECK(record(generator, prompt, options).result.accepted == whole.result.accepted);
  }
}
template <head_kind Kind, bool Flipped>
struct head_case {
  static constexpr auto config =
      Flipped ? flipped_spoken_config(Kind, 3, P) : spoken_config(Kind, 3, P);
};
TEST_CASE_TEMPLATE_APPLY(kept_texts,
                         std::tuple<head_case<head_kind::sequential, false>,
                                    head_case<head_kind::recurrent, true>,
                                    head_case<head_kind::parallel, false>,
                                    head_case<head_kind::independent, true>>);

TEST_CASE("the most likely of some tokens is drafted, and tokens of the text alone are enough") {
  constexpr auto config = spoken_config(head_kind::sequential, 3, P);
  cpu_context context({.threads = 1});
  language_model<config, cpu> model(context, seed{1});
  make_perfect(model);
  generator<config, cpu> generator(context, model);
  const generate_options<float, cpu> options{.max_new_tokens = 12};
  const tokens_type prompt{1, 8};
  const auto whole = generator.generate(prompt, options);
  CHECK(whole.accepted.back() == whole.drafted.back());
  const tokens_type written(whole.tokens.begin(), whole.tokens.end());
  generator.set_draft_vocabulary(frequent_tokens(written, V));
  CHECK(generator.generate(prompt, options).accepted == whole.accepted);
  // Without the token behind the first one, nothing is accepted at that place.
  tokens_type others = frequent_tokens(written, V);
  others.erase(std::find(others.begin(), others.end(), written[1]));
  generator.set_draft_vocabulary(others);
  const auto fewer = generator.generate(prompt, options);
  CHECK(fewer.tokens == written);
  CHECK(fewer.forward_passes > whole.forward_passes);
}

TEST_CASE("logits of a part of the vocabulary are those of the whole output matrix") {
  constexpr auto config = spoken_config(head_kind::independent, 2, P);
  cpu_context context({.threads = 2});
  const language_model<config, cpu, double> model(context, seed{1});
  const tokens_type part{2, 17, 5};
  draft_vocabulary<config, cpu, double> vocabulary(model, part, 4);
  CHECK(vocabulary.size() == 3);
  const drafting_model<config, cpu, double> with(model, &vocabulary), without(model, nullptr);
  std::vector<double> hidden = uniform(48, 3), memory(4 * V);
  const matrix_view<double, cpu> rows(hidden.data(), {4, 12}), room(memory.data(), {4, V});
  for (const parameter& output :
       {model.trunk_layout().output, model.head_layout().depth[1].output}) {
    const auto whole = without.logits(context, rows, output, room);  // [4, V]
    const auto some = with.logits(context, rows, output, room);      // [4, V]
    for (index_t m = 0; m < 4; ++m) {
      for (token_t v = 0; v < V; ++v) {
        const bool is_in = std::count(part.begin(), part.end(), v) > 0;
        CHECK(some(m, v) == (is_in ? whole(m, v) : std::numeric_limits<double>::lowest()));
      }
    }
  }
}

TEST_CASE(
    "each of many sequences keeps its text, also when the draft vocabulary changes meanwhile") {
  constexpr auto config = spoken_config(head_kind::parallel, 2, P);
  cpu_context context({.threads = 2});
  language_model<config, cpu> model(context, seed{1});
  add_noise(model, 0.5);
  generator<config, cpu> alone(context, model);
  batch_generator<config, cpu> batch(context, model, 2);
  const auto options = some_options<float>();
  for (std::size_t i = 0; i < options.size(); ++i) {
    batch.submit(random_tokens(3 + static_cast<index_t>(i), V, i), options[i]);
  }
  token_t only = 0;
  while (batch.run_cycle()) {
    batch.set_draft_vocabulary(tokens_type{only, static_cast<token_t>((only + 5) % V)});
    only = static_cast<token_t>((only + 1) % V);
  }
  for (std::size_t i = 0; i < options.size(); ++i) {
    CHECK(batch.take(static_cast<index_t>(i)).tokens ==
          alone.generate(random_tokens(3 + static_cast<index_t>(i), V, i), options[i]).tokens);
  }
}

TEST_CASE("drafts of a part of the vocabulary that are verified by rejection end a text, too") {
  constexpr auto config = spoken_config(head_kind::sequential, 2, P);
  cpu_context context({.threads = 1});
  language_model<config, cpu> model(context, seed{1});
  add_noise(model, 0.5);
  generator<config, cpu> generator(context, model);
  generator.set_draft_vocabulary(tokens_type{3, 4, 5, 6, 7, 8});
  generate_options<float, cpu> options{.max_new_tokens = 40, .sampling = {.temperature = 3}};
  options.sampling.verification = draft_verification::rejection;
  const auto text = generator.generate(tokens_type{1, 2}, options);
  CHECK(text.tokens.size() == 40);
  CHECK(text.accepted[0] > 0);
  const auto is_other = [](token_t token) { return token < 3 || token > 8; };
  CHECK(std::any_of(text.tokens.begin(), text.tokens.end(), is_other));
}

TEST_CASE("trees of drafts from a part of the vocabulary leave the text as it is") {
  constexpr auto config = spoken_config(head_kind::independent, 3, P);
  cpu_context context({.threads = 2});
  language_model<config, cpu> model(context, seed{1});
  make_perfect(model);
  add_noise(model, 0.05);
  generator<config, cpu> generator(context, model);
  const tokens_type prompt = random_tokens(5, V, 4);
  for (auto& options : some_options<float>()) {
    options.mode = decode_mode::plain;
    const auto plain = record(generator, prompt, options);
    options.mode = decode_mode::speculative;
    for (const draft_tree& tree :
         {draft_tree::of_widths({3, 2}), draft_tree::by_confidence(7, 3)}) {
      options.tree = tree;
      // Also where there are fewer tokens than candidates.
      for (const tokens_type& part : {tokens_type{18, 0, 3, 4, 11, 9, 10}, tokens_type{7}}) {
        generator.set_draft_vocabulary(part);
        CHECK(same_text(record(generator, prompt, options), plain));
      }
      generator.set_draft_vocabulary({});
      CHECK(same_text(record(generator, prompt, options), plain));
    }
  }
}

TEST_CASE("a draft vocabulary that makes no sense is refused, and the one before stays") {
  constexpr auto config = spoken_config(head_kind::sequential, 2, P);
  cpu_context context({.threads = 1});
  const language_model<config, cpu> model(context, seed{1});
  generator<config, cpu> generator(context, model);
  const auto refuses = [&](const char* message, const tokens_type& tokens) {
    return fails_with(message, [&] { generator.set_draft_vocabulary(tokens); });
  };
  CHECK(refuses("draft_vocabulary: expected tokens in [0, 19), got 19", {3, 19}));
  CHECK(refuses("draft_vocabulary: expected tokens in [0, 19), got -1", {3, -1, 4}));
  CHECK(refuses("draft_vocabulary: expected each token once, got token 3 twice", {3, 1, 3}));
  CHECK(fails_with("draft_vocabulary: expected at least one token",
                   [&] { draft_vocabulary<config, cpu, float>(model, {}, 2); }));
  generate_options<float, cpu> options{.max_new_tokens = 3};
  options.on_token = [&](const written_token&) {
    generator.set_draft_vocabulary(tokens_type{1});
    return true;
  };
  CHECK(fails_with("generator::set_draft_vocabulary: called from a callback of the generator", [&] {
    generator.generate(tokens_type{1, 2}, options);
  }));
}

TEST_CASE(
    "a callback of a batch_generator changes no vocabulary either, and fails its request alone") {
  constexpr auto config = spoken_config(head_kind::sequential, 2, P);
  cpu_context context({.threads = 1});
  const language_model<config, cpu> model(context, seed{4});
  batch_generator<config, cpu> batch(context, model, 2);
  generate_options<float, cpu> options{.max_new_tokens = 9};
  batch.submit(tokens_type{1, 2}, options);
  options.on_token = [&](token_t) {
    batch.set_draft_vocabulary(tokens_type{1});
    return true;
  };
  batch.submit(tokens_type{1, 2}, options);
  batch.run();
  CHECK(fails_with("batch_generator::set_draft_vocabulary: called from one of",
                   [&] { batch.take(1); }));
  CHECK(batch.take(0).tokens.size() == 9);
  batch.set_draft_vocabulary(tokens_type{1});  // between two cycles it may be
}

TEST_CASE("frequent tokens come first, equally frequent ones by their numbers") {
  CHECK(frequent_tokens(tokens_type{5, 2, 9, 2, 9, 1}, 10) == tokens_type{2, 9, 1, 5});
  CHECK(frequent_tokens(tokens_type{5, 2, 9, 2, 9, 1}, 3) == tokens_type{2, 9, 1});
  CHECK(frequent_tokens(tokens_type{5}, 0).empty());
  CHECK(frequent_tokens({}, 4).empty());
}

}  // namespace mtp::test::draft_vocabulary_cases
