#include "mtp/loss/score_table.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

#include "mtp/core/backend.hpp"

namespace mtp::test::loss_score_table_cases {

namespace {

constexpr index_t T = 3, N = T;  // one sequence

constexpr model_config config_of(head_kind kind) {
  return {.prediction = {.kind = kind, .depth = 1}};
}

template <head_kind Kind>
struct fixture {
  using table_type = score_table<config_of(Kind), host_memory, float>;
  alignas(arena_alignment) std::byte memory[4096];
  arena storage{memory, sizeof memory};
  table_type table = table_type::make(storage, N);
};

}  // namespace

TEST_CASE(
    "what a pass is given lies in front of what it gives, and takes the bytes that are told") {
  fixture<head_kind::sequential> f;
  using table_type = fixture<head_kind::sequential>::table_type;
  CHECK(f.storage.used() == table_type::bytes(N));
  CHECK(reinterpret_cast<std::byte*>(f.table.losses.data()) - f.memory ==
        table_type::given_bytes(N));
}

TEST_CASE("depth k has its targets k places further on, in rows of its own") {
  const std::vector<token_t> tokens{5, 6, 7, 8, 9};  // [T + 2]
  fixture<head_kind::sequential> f;
  const batch_view batch{tokens, {}, {}, 1, T};
  f.table.fill_tokens(batch);
  f.table.fill_targets(batch, {.weights = {2, 3}}, {3, 3});
  for (index_t i = 0; i < T; ++i) {
    CHECK(f.table.tokens(0, i) == 5 + i);
    CHECK(f.table.tokens(1, i) == 6 + i);
    CHECK(f.table.targets(i, 0) == 6 + i);
    CHECK(f.table.targets(N + i, 0) == 7 + i);
    CHECK(f.table.weights(i, 0) == 2.0f / 3);
    CHECK(f.table.weights(N + i, 0) == 1.0f);
  }
}

TEST_CASE("depths that share logits have their targets in one row") {
  const std::vector<token_t> tokens{5, 6, 7, 8, 9};  // [T + 2]
  const std::vector<std::uint8_t> mask{1, 1, 0, 1, 1};
  fixture<head_kind::shared_logit> f;
  f.table.fill_targets(
      {tokens, {}, mask, 1, T}, {.scope = gradient_scope::detached, .weights = {2, 3}}, {2, 2});
  CHECK(f.table.targets.shape() == dims<2>(N, 2));
  CHECK(f.table.targets(0, 0) == 6);
  CHECK(f.table.targets(0, 1) == -1);  // masked
  CHECK(f.table.targets(1, 0) == -1);
  CHECK(f.table.targets(1, 1) == 8);
  CHECK(f.table.weights(0, 1) == 0);  // there is nothing that the deeper loss could train
}

TEST_CASE("a summary has means by the divisor that the options ask for, and counts what agrees") {
  fixture<head_kind::sequential> f;
  for (index_t n = 0; n < 2 * N; ++n) {
    f.table.losses(n, 0) = 1;
    f.table.targets(n, 0) = n == 4 ? -1 : 7;
    f.table.predicted(n) = n == 0 ? 7 : n == 4 ? -1 : 8;
  }
  f.table.losses(4, 0) = 0;
  const auto report =
      f.table.summarize(N, {.normalization = loss_normalization::valid_targets}, {3, 2}, {3, 2});
  CHECK(report.depths[0].loss == 1);
  CHECK(report.depths[1].loss == 1);  // two losses over two targets
  CHECK(report.depths[0].agreed == 1);
  CHECK(report.depths[1].agreed == 0);  // a position without a target does not agree
  const auto by_positions =
      f.table.summarize(N, {.normalization = loss_normalization::positions}, {3, 2}, {3, 2});
  CHECK(by_positions.depths[1].loss == 2.0 / 3);
}

}  // namespace mtp::test::loss_score_table_cases
