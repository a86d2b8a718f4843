// Embeddings divided among ranks against the operations on whole ones, whose bits they have. Who
// includes this says for which cases: see support/backends.hpp.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

#include "mtp/ops/sharded_embedding.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/ranks_of_backend.hpp"
#include "support/weights.hpp"

namespace mtp::test::sharded_embedding_cases {

/// Rows [first, first + count) of a matrix in row-major order.
inline std::vector<double> rows_of(const std::vector<double>& all,
                                   index_t C,
                                   index_t first,
                                   index_t count) {
  return {all.begin() + first * C, all.begin() + (first + count) * C};
}

/// Every token, the borders of all parts among them, and some again.
inline std::vector<double> some_tokens(index_t N, index_t V) {
  std::vector<double> tokens;
  for (index_t n = 0; n < N; ++n) tokens.push_back(static_cast<double>(n * 5 % V));
  return tokens;
}

TEST_CASE_TEMPLATE_DEFINE("rows of a divided table are those of the whole one, on all ranks",
                          Case,
                          forward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  for (const int ranks : {1, 2, 3, 4}) {
    for (const index_t C : {1, 7, 33}) {
      const index_t V = 24, N = 31, part = V / ranks;
      const auto table = normal(V * C, 1);
      guarded<token_t, 1, B> tokens(dims<1>{N}, some_tokens(N, V));
      guarded_weight<S, B> whole(V, C, table);
      guarded<S, 2, B> expected(dims<2>{N, C});
      auto context = testing<B>::make_context();
      embedding_forward(context, expected.view(), whole.view(), tokens.view());
      const auto results = from_ranks_of<std::vector<S>, B>(
          ranks,
          [&](auto& own_context, int rank) {
            guarded_weight<S, B> own(part, C, rows_of(table, C, rank * part, part));
            guarded<S, 2, B> x(dims<2>{N, C});
            sharded_embedding_forward(own_context, x.view(), own.view(), tokens.view());
            return x.intact() ? elements(x.view()) : std::vector<S>{};
          },
          2);
      for (const auto& own : results) CHECK(same_bits(own, elements(expected.view())));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("gradients of the parts are those of the whole table",
                          Case,
                          backward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  const index_t V = 24, N = 100, C = 35;
  const auto before = normal(V * C, 3);
  guarded<token_t, 1, B> tokens(dims<1>{N}, some_tokens(N, V));
  guarded<S, 2, B> dx(dims<2>{N, C}, strides(C + 2, 1), normal(N * C, 2));
  guarded_weight<A, B> whole(V, C, before);
  auto context = testing<B>::make_context();
  embedding_backward(context, whole.view(), dx.view(), tokens.view());
  for (const int ranks : {1, 2, 4}) {
    const index_t part = V / ranks;
    const auto results = from_ranks_of<std::vector<double>, B>(
        ranks,
        [&](auto& own_context, int rank) {
          guarded_weight<A, B> own(part, C, rows_of(before, C, rank * part, part));
          sharded_embedding_backward(own_context, own.view(), dx.view(), tokens.view());
          return own.intact() && own.padding_is_zero() ? own.rows().elements
                                                       : std::vector<double>{};
        },
        2);
    std::vector<double> joined;
    for (const auto& own : results) joined = join(std::move(joined), own);
    CHECK(same_bits(joined, whole.rows().elements));
  }
}

/// combine_forward and its gradients, with a whole table or a part.
template <class S, class B>
struct combination {
  using A = accumulate_t<S>;
  static constexpr index_t V = 12;

  index_t N, C;

  guarded<S, 2, B> y{dims<2>{N, C}}, dhidden{dims<2>{N, C}};
  guarded<S, 2, B> hidden{dims<2>{N, C}, strides(C + 1, 1), normal(N* C, 1)};
  guarded<S, 2, B> dy{dims<2>{N, C}, normal(N* C, 2)};
  guarded<A, 1, B> inv_hidden{dims<1>{N}}, inv_embedding{dims<1>{N}};
  guarded<A, 1, B> d_hidden_scale{dims<1>{C}, uniform(C, 3)};
  guarded<A, 1, B> d_embedding_scale{dims<1>{C}, uniform(C, 4)};
  guarded<S, 1, B> hidden_scale{dims<1>{C}, uniform(C, 5)};
  guarded<S, 1, B> embedding_scale{dims<1>{C}, uniform(C, 6)};
  guarded<token_t, 1, B> tokens{dims<1>{N}, some_tokens(N, V)};
  guarded_weight<S, B> projection{C, 2 * C, normal(2 * C * C, 7)};
  guarded_weight<A, B> dprojection{C, 2 * C, normal(2 * C * C, 8)};
  guarded_weight<S, B> table;
  guarded_weight<A, B> dtable;

  combination(index_t first, index_t count, index_t rows = 13, index_t width = 19)
      : N(rows),
        C(width),
        table(count, C, rows_of(normal(V * C, 9), C, first, count)),
        dtable(count, C, rows_of(normal(V * C, 10), C, first, count)) {}

  void forward(const auto& operation, context<B>& context, concat_order order) {
    operation(context,
              y.view(),
              inv_hidden.view(),
              inv_embedding.view(),
              hidden.view(),
              table.view(),
              tokens.view(),
              hidden_scale.view(),
              embedding_scale.view(),
              projection.view(),
              order,
              1e-5);
  }
  void backward(const auto& operation, context<B>& context, concat_order order) {
    operation(context,
              dhidden.view(),
              d_hidden_scale.view(),
              d_embedding_scale.view(),
              dprojection.view(),
              dtable.view(),
              dy.view(),
              hidden.view(),
              inv_hidden.view(),
              inv_embedding.view(),
              table.view(),
              tokens.view(),
              hidden_scale.view(),
              embedding_scale.view(),
              projection.view(),
              order);
  }
  /// All that does not depend on whose the table is.
  std::vector<double> replicated() const {
    return join(join(join(values(y.view()), values(inv_hidden.view())),
                     join(values(inv_embedding.view()), values(dhidden.view()))),
                join(join(values(d_hidden_scale.view()), values(d_embedding_scale.view())),
                     dprojection.rows().elements));
  }
};

TEST_CASE_TEMPLATE_DEFINE("a combination with a divided table has the bits of one with the whole",
                          Case,
                          combinations) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  struct sizes {
    concat_order order;
    index_t N, C;
  };
  for (const sizes& size : {sizes{concat_order::hidden_first, 13, 19},
                            sizes{concat_order::embedding_first, 13, 16},
                            sizes{concat_order::embedding_first, 70, 19}}) {
    const concat_order order = size.order;
    const index_t N = size.N, C = size.C;
    auto context = testing<B>::make_context();
    combination<S, B> whole(0, combination<S, B>::V, N, C);
    whole.forward([](auto&&... all) { combine_forward(all...); }, context, order);
    whole.backward([](auto&&... all) { combine_backward(all...); }, context, order);
    for (const int ranks : {1, 2, 3}) {
      const index_t part = combination<S, B>::V / ranks;
      std::vector<std::vector<double>> dtables(static_cast<std::size_t>(ranks));
      const auto results = from_ranks_of<std::vector<double>, B>(
          ranks,
          [&](auto& own_context, int rank) {
            combination<S, B> own(rank * part, part, N, C);
            own.forward([](auto&&... all) { sharded_combine_forward(all...); }, own_context, order);
            own.backward(
                [](auto&&... all) { sharded_combine_backward(all...); }, own_context, order);
            dtables[static_cast<std::size_t>(rank)] = own.dtable.rows().elements;
            return own.replicated();
          },
          2);
      std::vector<double> joined;
      for (std::size_t rank = 0; rank < results.size(); ++rank) {
        CHECK(same_bits(results[rank], whole.replicated()));
        joined = join(std::move(joined), dtables[rank]);
      }
      CHECK(same_bits(joined, whole.dtable.rows().elements));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("operations on a divided table stay within the workspace that they plan",
                          Case,
                          workspace) {
  using B = typename Case::backend;
  on_ranks_of<B>(
      2,
      [](auto& context, int rank) {
        combination<bf16, B> own(rank * 6, 6);
        context.reserve(ops_of<B>::template sharded_combine_workspace<bf16>(
            own.N, own.C, own.C, combination<bf16, B>::V, 1, 2));
        const auto order = concat_order::hidden_first;
        CHECK_NOTHROW(
            own.forward([](auto&&... all) { sharded_combine_forward(all...); }, context, order));
        CHECK_NOTHROW(
            own.backward([](auto&&... all) { sharded_combine_backward(all...); }, context, order));
      },
      1,
      0);
  on_ranks_of<B>(
      2,
      [](auto& context, int rank) {
        combination<bf16, B> own(rank * 6, 6);
        context.reserve(ops_of<B>::template sharded_embedding_workspace<bf16>(own.N, own.C, 2));
        CHECK_NOTHROW(
            sharded_embedding_forward(context, own.y.view(), own.table.view(), own.tokens.view()));
        CHECK_NOTHROW(sharded_embedding_backward(
            context, own.dtable.view(), own.dy.view(), own.tokens.view()));
      },
      1,
      0);
}

TEST_CASE_TEMPLATE_DEFINE("operations on a divided table need ranks, and rows without gaps",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  combination<float, B> own(0, 6);  // of 12
  guarded<float, 2, B> strided(dims<2>{13, 19}, strides(20, 1));
  auto alone = testing<B>::make_context();
  const auto forward = [&](auto& context, const auto& x) {
    sharded_embedding_forward(context, x, own.table.view(), own.tokens.view());
  };
  CHECK(rejects("sharded_embedding_forward", [&] { forward(alone, own.y.view()); }));
  CHECK(rejects("sharded_embedding_backward", [&] {
    sharded_embedding_backward(alone, own.dtable.view(), own.dy.view(), own.tokens.view());
  }));
  on_ranks_of<B>(2, [&](auto& context, int rank) {
    if (rank != 0) return;
    CHECK(rejects("sharded_embedding_forward", [&] { forward(context, strided.view()); }));
  });
  CHECK(own.y.untouched());
  CHECK(own.dtable.untouched());
}

TEST_CASE_TEMPLATE_APPLY(forward_values, cases);
TEST_CASE_TEMPLATE_APPLY(backward_values, cases);
TEST_CASE_TEMPLATE_APPLY(combinations, cases);
TEST_CASE_TEMPLATE_APPLY(workspace, one_case);
TEST_CASE_TEMPLATE_APPLY(rejections, one_case);

}  // namespace mtp::test::sharded_embedding_cases
