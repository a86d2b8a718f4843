// Trees of drafts: the text, its logits and all caches are those of plain decoding, bit for bit,
// whatever the tree and the drafts are worth.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "decode/tree_cases.hpp"
#include "mtp/decode/generation_report.hpp"

namespace mtp::test::decode_tree_cases {

namespace {

constexpr auto independent = spoken_config(head_kind::independent, 3, P);
constexpr auto flipped_independent = flipped_spoken_config(head_kind::independent, 4, P);
constexpr auto parallel = spoken_config(head_kind::parallel, 3, P);
constexpr auto flipped_parallel = flipped_spoken_config(head_kind::parallel, 3, P);

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
    for (const draft_tree& tree : shapes<parallel>()) {
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
  writer<independent> first;
  writer<parallel> second;
  check_one_branch(first);
  check_one_branch(second);
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
  writer<independent> first;
  writer<flipped_parallel> second;
  check_context(first);
  check_context(second);
}

TEST_CASE("a stop token or sequence at any place of a tree's path ends the text there") {
  writer<independent> first;
  writer<parallel> second;
  check_stops(first);
  check_stops(second);
}

TEST_CASE("caches behind trees are those of a fresh prompt, and so are the drafts that follow") {
  writer<independent> first;
  writer<flipped_parallel> second;
  for (const draft_tree& tree : {draft_tree::of_widths({3, 2, 1}), draft_tree::by_confidence(12)}) {
    check_caches(first, tree);
    check_caches(second, tree);
  }
}

TEST_CASE("each of many sequences with trees and without gets what it would get alone") {
  writer<independent> first;
  writer<parallel> second;
  check_company(first);
  check_company(second);
}

TEST_CASE("requests with trees go on from a snapshot, with as many slots or others") {
  writer<parallel> w;
  for (const int cycles : {1, 4, 9}) {
    batch_generator<parallel, cpu> first(w.context, w.model, 3), second(w.context, w.model, 2);
    const std::vector<options_type> options = all_options();
    for (std::size_t i = 0; i < 5; ++i) {
      auto own = options[i];
      own.tree = shapes<parallel>()[i];
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
  refused(sequential,
          "expected a tree of fixed rows, because heads of this kind draft trees depth by depth",
          {.tree = draft_tree::by_confidence(5)});
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
