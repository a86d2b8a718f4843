// Trees of sequential drafts: each draft behind another one rests on it. Text, logits and caches
// are those of plain decoding, and drafts those of a model in plain loops.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "../../examples/plain_sequential/model.hpp"
#include "decode/tree_cases.hpp"

namespace mtp::test::decode_tree_cases {

namespace {

constexpr model_config reading_the_trunk(model_config config) {
  config.prediction.chain = chain_input::target_hidden;
  return config;
}
constexpr auto sequential = spoken_config(head_kind::sequential, 3, P);
constexpr auto flipped_recurrent = flipped_spoken_config(head_kind::recurrent, 3, P);
constexpr auto side_by_side = reading_the_trunk(sequential);

// ---- Against plain loops ------------------------------------------------------------------------

constexpr model_config plain_config{
    .vocab_size = plain::V,
    .hidden_size = plain::C,
    .num_hidden_layers = plain::L,
    .max_position_embeddings = P,
    .attention = {.num_attention_heads = plain::H},
    .feed_forward = {.intermediate_size = plain::F},
    .prediction = {.kind = head_kind::sequential, .depth = plain::D}};

/// The `count` likeliest tokens of depth k behind the last token but one of `text`, by plain loops
/// over the whole text.
std::vector<plain::index> likeliest(const plain::model& w,
                                    const plain::text& text,
                                    plain::index positions,
                                    plain::index k,
                                    std::size_t count) {
  plain::model_pass a;
  plain::forward_trunk(a, w, text, positions);
  for (plain::index depth = 1; depth <= k; ++depth) {
    plain::forward_module(a, w, depth, text, positions);
  }
  const auto last = a[k].hidden.end() - static_cast<std::ptrdiff_t>(plain::C);
  const plain::numbers logits = plain::linear({last, a[k].hidden.end()}, w.output, plain::C);
  std::vector<plain::index> order(plain::V);
  for (plain::index v = 0; v < plain::V; ++v) {
    order[v] = v;
  }
  std::stable_sort(
      order.begin(), order.end(), [&](auto a_, auto b_) { return logits[a_] > logits[b_]; });
  order.resize(count);
  return order;
}

}  // namespace

TEST_CASE("drafts of a tree are those of plain loops behind each path") {
  cpu_context context({.threads = 1});
  language_model<plain_config, cpu, double> model(context, seed{4});
  add_noise(model, 0.5);
  plain::model reference;
  const auto all = reference.all();
  std::size_t next = 0;
  model.layout.visit([&](const std::string&, const parameter& p) {
    plain::numbers& ours = *all.at(next++);
    for (std::size_t i = 0; i < ours.size(); ++i) {
      const auto at = static_cast<index_t>(i);
      ours[i] = p.is_vector() ? model.values().vector(p)(at)
                              : model.values().matrix(p)(at / p.inputs, at % p.inputs);
    }
  });
  // Rows in the order of their depths: of the children of row 2 the third and the first.
  const auto tree = draft_tree::of_paths({{0, 0}, {2, 2}, {2, 0}, {0, 1}, {1}}).by_depth();
  REQUIRE(tree.rows_up_to(1) == 4);
  index_t compared = 0;
  for (const std::size_t count : {3, 4, 20}) {
    plain::text text;
    for (std::size_t i = 0; i < count; ++i) {
      text.push_back((i * i * 5 + i / 3) % plain::V);
    }
    tokens_type tokens(text.begin(), text.end());
    decoder<plain_config, cpu, double> sequence(context, model);
    sequence.prefill({tokens.data(), count - 1}, hidden_states::kept);
    sequence.reserve_rows(tree.rows());
    tokens.resize(count + static_cast<std::size_t>(tree.rows()));
    text_of on_host(tokens, static_cast<index_t>(count));
    std::vector<index_t> parents(static_cast<std::size_t>(tree.rows())), path(parents);
    std::vector<token_t> candidates(6);
    std::vector<double> log_probabilities(6);
    draft_task<cpu> task{on_host.view(), plain::D};
    const dims<1> rows{tree.rows()};
    task.sequence.tree = {{parents.data(), rows}, {path.data(), rows}};
    task.candidates = {candidates.data(), {2, 3}};
    task.candidate_log_probabilities = {log_probabilities.data(), {2, 3}};
    task.shape = tree;
    sequence.drafter().draft_trees(context, model, {&task, 1}, sequence.logits());
    const auto token = [&](index_t row) {
      return static_cast<plain::index>(tokens[count - 1 + static_cast<std::size_t>(row)]);
    };
    for (index_t r = 1; r < tree.rows(); ++r) {
      const index_t front = tree.parent(r);
      plain::text behind = text;
      if (front > 0) {
        behind.push_back(token(front));
      }
      const auto best =
          likeliest(reference, behind, count - 1, static_cast<plain::index>(tree.depth(r)), 3);
      CHECK(token(r) == best[static_cast<std::size_t>(tree.rank(r))]);
      CHECK(parents[static_cast<std::size_t>(r)] == front);
      ++compared;
    }
  }
  CHECK(compared == 3 * 7);
}

TEST_CASE("a tree of sequential drafts gives the text and logits of plain decoding") {
  for (const quality wanted : {quality::untrained, quality::close, quality::perfect}) {
    const index_t others = check_all_options<sequential>(wanted);
    CHECK((wanted != quality::close || others > 50));
  }
}

TEST_CASE("a tree of recurrent drafts gives the text and logits of plain decoding") {
  for (const quality wanted : {quality::untrained, quality::close}) {
    const index_t others = check_all_options<flipped_recurrent>(wanted);
    CHECK((wanted != quality::close || others > 50));
  }
}

TEST_CASE("a tree of drafts that read the trunk gives the text and logits of plain decoding") {
  CHECK(check_all_options<side_by_side>(quality::close) > 50);
}

TEST_CASE("a sequential tree of one branch makes the drafts of a chain") {
  writer<sequential> first;
  check_one_branch(first);
  writer<flipped_recurrent> second;
  check_one_branch(second);
  writer<side_by_side> third;
  check_one_branch(third);
}

TEST_CASE("sequential trees fill the context to the last position, from any prompt") {
  writer<sequential> w;
  check_context(w);
}

TEST_CASE("a stop at any place of the path of a sequential tree ends the text there") {
  writer<flipped_recurrent> w;
  check_stops(w);
}

TEST_CASE("caches behind sequential trees are those of a fresh prompt, and so are later drafts") {
  writer<sequential> first;
  check_caches(first, draft_tree::of_widths({3, 2, 1}));
  writer<side_by_side> second;
  check_caches(second, draft_tree::of_paths({{2, 0, 1}, {0}, {1, 1}, {0, 0, 0}}));
}

TEST_CASE("sequential trees from a part of the vocabulary leave the text as it is") {
  writer<sequential> w;
  options_type options{.max_new_tokens = 60};
  const tokens_type prompt = random_tokens(11, V, 4);
  const auto whole = record(w.generator, prompt, options);
  options.tree = draft_tree::of_widths({3, 2, 1});
  for (const tokens_type& some : {tokens_type{3}, tokens_type{1, 2, 4, 8, 9, 12, 17}}) {
    w.generator.set_draft_vocabulary(some);
    const auto text = record(w.generator, prompt, options);
    CHECK(same_text(text, whole));
    CHECK(text.result.tree_cycles > 0);
  }
}

TEST_CASE("each of many sequences with sequential trees and without gets what it would get alone") {
  writer<sequential> w;
  check_company(w);
}

}  // namespace mtp::test::decode_tree_cases
