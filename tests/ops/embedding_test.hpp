// Embedding look-up and its gradient against the reference. Who includes this says for which cases:
// see support/backends.hpp.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <iterator>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "mtp/ops/embedding.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/embedding.hpp"
#include "support/tolerance.hpp"
#include "support/weights.hpp"

namespace mtp::test::embedding {

using reference::array;
using reference::array_of;
using reference::magnitude;

struct table_sizes {
  index_t N, V, C, gap;  // gap: elements between rows
};

// Around the widths of vectors, packs, warps and panels. The last ones have tokens with many rows,
// more than a warp or a block has at a time.
inline const table_sizes sizes[] = {{1, 1, 1, 3},
                                    {3, 2, 3, 3},
                                    {7, 15, 16, 0},
                                    {5, 16, 17, 3},
                                    {20, 17, 31, 3},
                                    {9, 31, 32, 8},
                                    {40, 32, 33, 3},
                                    {13, 33, 65, 3},
                                    {200, 7, 5, 3},
                                    {0, 4, 3, 3},
                                    {64, 129, 257, 3},
                                    {5, 40, 1032, 0},
                                    {2, 3, 1100, 4},
                                    {130, 3, 264, 16},
                                    {700, 2, 40, 0},
                                    {600, 1, 9, 2}};

inline std::vector<token_t> random_tokens(index_t N, index_t V) {
  const random_stream random(mtp::seed{7}, 1);
  std::vector<token_t> tokens;
  for (index_t n = 0; n < N; ++n) {
    tokens.push_back(static_cast<token_t>(
        random.below(static_cast<std::uint64_t>(n), static_cast<std::uint64_t>(V))));
  }
  if (N > 1) {
    tokens.front() = static_cast<token_t>(V - 1);
    tokens.back() = 0;
  }
  return tokens;
}

template <class B>
guarded<token_t, 1, B> guarded_tokens(const std::vector<token_t>& tokens) {
  return {dims<1>{static_cast<index_t>(tokens.size())},
          std::vector<double>(tokens.begin(), tokens.end())};
}

template <class S, class B>
guarded<S, 2, B> random_rows(const table_sizes& s, std::uint64_t stream) {
  return {dims<2>{s.N, s.C}, strides(s.C + s.gap, 1), uniform(s.N * s.C, stream)};
}

TEST_CASE_TEMPLATE_DEFINE("embedding_forward copies the rows of the tokens", Case, forward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const table_sizes& s : some_of<B>(sizes)) {
    CAPTURE(s.N);
    CAPTURE(s.C);
    guarded_weight<S, B> table(s.V, s.C, uniform(s.V * s.C, 1));
    const auto tokens = random_tokens(s.N, s.V);
    auto ids = guarded_tokens<B>(tokens);
    guarded<S, 2, B> x(dims<2>{s.N, s.C}, strides(s.C + s.gap, 1));
    embedding_forward(context, x.view(), table.view(), ids.view());
    CHECK(within(x.view(), reference::embedding_forward(table.rows(), tokens).elements, 0.0));
    CHECK(x.intact());
    CHECK(table.untouched());
    CHECK(ids.untouched());
  }
}

TEST_CASE_TEMPLATE_DEFINE("embedding_backward matches the reference", Case, backward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  for (const table_sizes& s : some_of<B>(sizes)) {
    CAPTURE(s.N);
    CAPTURE(s.C);
    guarded_weight<A, B> dtable(s.V, s.C, uniform(s.V * s.C, 1));
    auto dx = random_rows<S, B>(s, 2);
    const auto tokens = random_tokens(s.N, s.V);
    auto ids = guarded_tokens<B>(tokens);
    const array<2> before = dtable.rows(), dxs = array_of(dx.view());
    embedding_backward(context, dtable.view(), dx.view(), ids.view());
    const array<2> terms = reference::embedding_backward(magnitude(before), magnitude(dxs), tokens);
    std::vector<double> bound;
    for (const double element : terms.elements) {
      bound.push_back(sum_bound(s.N, unit_roundoff<A>, element));
    }
    CHECK(within(dtable.rows().elements,
                 reference::embedding_backward(before, dxs, tokens).elements,
                 bound));
    CHECK(dtable.padding_is_zero());
    CHECK(dtable.intact());
    CHECK(dx.untouched());
    CHECK(ids.untouched());
  }
}

/// Element (v, c) as one sum over positions in order, from what stands in the table.
template <class A>
std::vector<double> summed_in_order(const array<2>& before,
                                    const array<2>& dx,
                                    const std::vector<token_t>& tokens) {
  std::vector<A> sums(before.elements.begin(), before.elements.end());
  const index_t C = before.size(1);
  for (index_t n = 0; n < dx.size(0); ++n) {
    for (index_t c = 0; c < C; ++c) {
      sums[static_cast<std::size_t>(tokens[static_cast<std::size_t>(n)] * C + c)] +=
          static_cast<A>(dx(n, c));
    }
  }
  return {sums.begin(), sums.end()};
}

TEST_CASE_TEMPLATE_DEFINE("embedding_backward adds in the order of positions, bit for bit",
                          Case,
                          order) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  // Numbers of rows at which a warp is full, hands over to a block, and a block begins again.
  std::vector<token_t> tokens;
  const index_t lengths[] = {31, 32, 33, 1, 34, 255, 256, 0, 257, 288, 289, 512, 513, 2};
  const auto V = static_cast<index_t>(std::size(lengths));
  for (index_t n = 0; n < 513; ++n) {
    for (index_t v = 0; v < V; ++v) {
      if (n < lengths[v]) {
        tokens.push_back(static_cast<token_t>(v));
      }
    }
  }
  auto ids = guarded_tokens<B>(tokens);
  for (const table_sizes& s : {table_sizes{0, V, 41, 3}, table_sizes{0, V, 72, 16}}) {
    const table_sizes all{static_cast<index_t>(tokens.size()), V, s.C, s.gap};
    CAPTURE(s.C);
    guarded_weight<A, B> dtable(V, s.C, uniform(V * s.C, 1));
    auto dx = random_rows<S, B>(all, 2);
    const array<2> before = dtable.rows();
    embedding_backward(context, dtable.view(), dx.view(), ids.view());
    CHECK(
        same_bits(dtable.rows().elements, summed_in_order<A>(before, array_of(dx.view()), tokens)));
    CHECK(dtable.intact());
  }

  // In this order the small numbers are lost; in any other order some of them are not.
  const double large = 4 / unit_roundoff<A>;
  guarded_weight<A, B> dtable(3, 1, {0, 0, 0});
  guarded<S, 2, B> dx(dims<2>{5, 1}, std::vector<double>{large, 1, 1, 1, -large});
  auto same = guarded_tokens<B>(std::vector<token_t>(5, 1));
  embedding_backward(context, dtable.view(), dx.view(), same.view());
  CHECK(within(dtable.rows().elements, {0, 0, 0}, 0.0));
}

TEST_CASE_TEMPLATE_DEFINE("embedding_backward finds the rows of each of many tokens", Case, many) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  // Tokens of one, two and three bytes, more rows than a tile of a sort has.
  for (const index_t V : {256, 257, 70001}) {
    CAPTURE(V);
    const table_sizes s{4500, V, 2, 0};
    const auto tokens = random_tokens(s.N, s.V);
    auto ids = guarded_tokens<B>(tokens);
    guarded_weight<A, B> dtable(s.V, s.C, uniform(s.V * s.C, 1));
    auto dx = random_rows<S, B>(s, 2);
    const array<2> before = dtable.rows();
    embedding_backward(context, dtable.view(), dx.view(), ids.view());
    CHECK(
        same_bits(dtable.rows().elements, summed_in_order<A>(before, array_of(dx.view()), tokens)));
    CHECK(dtable.intact());
  }
}

TEST_CASE_TEMPLATE_DEFINE("embedding_backward matches differences of embedding_forward",
                          Case,
                          gradients) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  if constexpr (std::is_same_v<S, double>) {
    auto context = testing<B>::make_context();
    for (const table_sizes& s : {table_sizes{6, 4, 3, 0}, table_sizes{40, 33, 65, 0}}) {
      auto ids = guarded_tokens<B>(random_tokens(s.N, s.V));
      guarded_weight<double, B> table(s.V, s.C, uniform(s.V * s.C, 1));
      guarded_weight<double, B> dtable(
          s.V, s.C, std::vector<double>(static_cast<std::size_t>(s.V * s.C)));
      guarded<double, 2, B> dx = random_rows<double, B>(s, 2), x(dims<2>{s.N, s.C});
      embedding_backward(context, dtable.view(), dx.view(), ids.view());
      const array<2> dxs = array_of(dx.view());
      CHECK(gradient_matches(
          [&](std::span<const double> at) {
            guarded_weight<double, B> moved(s.V, s.C, std::vector<double>(at.begin(), at.end()));
            embedding_forward(context, x.view(), moved.view(), ids.view());
            return reference::inner(dxs, array_of(x.view()));
          },
          table.rows().elements,
          dtable.rows().elements));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("embedding operations give the same bits however they are computed",
                          Case,
                          ways) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  const table_sizes s{500, 12, 131, 0};
  auto ids = guarded_tokens<B>(random_tokens(s.N, s.V));
  auto dx = random_rows<S, B>(s, 2);
  CHECK(same_in_all_ways<B>([&](auto& context) {
    guarded_weight<S, B> table(s.V, s.C, uniform(s.V * s.C, 1));
    guarded_weight<A, B> dtable(s.V, s.C, uniform(s.V * s.C, 1));
    guarded<S, 2, B> x(dims<2>{s.N, s.C});
    embedding_forward(context, x.view(), table.view(), ids.view());
    embedding_backward(context, dtable.view(), dx.view(), ids.view());
    return join(values(x.view()), dtable.rows().elements);
  }));
}

TEST_CASE_TEMPLATE_DEFINE("embedding operations stay within the workspace that they plan",
                          Case,
                          workspace) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  for (const table_sizes& s : {table_sizes{1, 3, 5, 0}, table_sizes{700, 2, 40, 0}}) {
    auto small = testing<B>::make_context(0);
    small.reserve(
        ops_of<B>::template embedding_workspace<S>(s.N, s.V, s.C, index_t{small.threads()}));
    auto ids = guarded_tokens<B>(random_tokens(s.N, s.V));
    auto dx = random_rows<S, B>(s, 2);
    guarded_weight<A, B> dtable(s.V, s.C, uniform(s.V * s.C, 1));
    CHECK_NOTHROW(embedding_backward(small, dtable.view(), dx.view(), ids.view()));
  }
}

TEST_CASE_TEMPLATE_DEFINE("embedding operations reject wrong shapes and change nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  guarded_weight<S, B> table(5, 3, uniform(15, 1)), wide(5, 4, uniform(20, 1));
  guarded_weight<A, B> dtable(5, 3, uniform(15, 1)), dwide(5, 4, uniform(20, 1));
  guarded<S, 2, B> x(dims<2>{4, 3}), longer(dims<2>{5, 3}), spread(dims<2>{4, 3}, strides(6, 2));
  auto good = guarded_tokens<B>({0, 4, 2, 1});
  const auto both = [&](auto x_, auto table_, auto dtable_) {
    CHECK(
        rejects("embedding_forward", [&] { embedding_forward(context, x_, table_, good.view()); }));
    return rejects("embedding_backward",
                   [&] { embedding_backward(context, dtable_, x_, good.view()); });
  };
  CHECK(both(longer.view(), table.view(), dtable.view()));
  CHECK(both(x.view(), wide.view(), dwide.view()));
  CHECK(both(spread.view(), table.view(), dtable.view()));
  CHECK(x.untouched());
  CHECK(longer.untouched());
  CHECK(spread.untouched());
  CHECK(table.untouched());
  CHECK(wide.untouched());
  CHECK(dtable.untouched());
  CHECK(dwide.untouched());
}

TEST_CASE_TEMPLATE_APPLY(forward_values, cases);
TEST_CASE_TEMPLATE_APPLY(backward_values, cases);
TEST_CASE_TEMPLATE_APPLY(order, cases);
TEST_CASE_TEMPLATE_APPLY(many, cases);
TEST_CASE_TEMPLATE_APPLY(gradients, cases);
TEST_CASE_TEMPLATE_APPLY(ways, cases);
TEST_CASE_TEMPLATE_APPLY(workspace, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::embedding
