// Embeddings divided among ranks against the operations on whole ones, whose bits they have. The
// CPU alone has them.
#include "mtp/ops/sharded_embedding.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/tensor_ranks.hpp"
#include "support/weights.hpp"

namespace mtp::test::sharded_embedding_cases {

namespace {

std::vector<double> rows_of(const std::vector<double>& all,
                            index_t C,
                            index_t first,
                            index_t count) {
  return {all.begin() + first * C, all.begin() + (first + count) * C};
}

/// Every token, the borders of all parts among them, and some again.
std::vector<double> some_tokens(index_t N, index_t V) {
  std::vector<double> tokens;
  for (index_t n = 0; n < N; ++n) tokens.push_back(static_cast<double>(n * 5 % V));
  return tokens;
}

}  // namespace

TEST_CASE_TEMPLATE(
    "rows of a divided table are those of the whole one, on all ranks", S, float, double, bf16) {
  for (const int ranks : {1, 2, 3, 4}) {
    for (const index_t C : {1, 7, 33}) {
      const index_t V = 24, N = 31, part = V / ranks;
      const auto table = normal(V * C, 1);
      guarded<token_t, 1, cpu> tokens(dims<1>{N}, some_tokens(N, V));
      guarded_weight<S, cpu> whole(V, C, table);
      guarded<S, 2, cpu> expected(dims<2>{N, C});
      cpu_context context({.threads = 1});
      embedding_forward(context, expected.view(), whole.view(), tokens.view());
      const auto results = from_ranks<std::vector<S>>(
          ranks,
          [&](cpu_context& own_context, int rank) {
            guarded_weight<S, cpu> own(part, C, rows_of(table, C, rank * part, part));
            guarded<S, 2, cpu> x(dims<2>{N, C});
            sharded_embedding_forward(own_context, x.view(), own.view(), tokens.view());
            return x.intact() ? elements(x.view()) : std::vector<S>{};
          },
          2);
      for (const auto& own : results) CHECK(same_bits(own, elements(expected.view())));
    }
  }
}

TEST_CASE_TEMPLATE("gradients of the parts are those of the whole table", S, float, double, bf16) {
  using A = accumulate_t<S>;
  const index_t V = 24, N = 100, C = 35;
  const auto before = normal(V * C, 3);
  guarded<token_t, 1, cpu> tokens(dims<1>{N}, some_tokens(N, V));
  guarded<S, 2, cpu> dx(dims<2>{N, C}, strides(C + 2, 1), normal(N * C, 2));
  guarded_weight<A, cpu> whole(V, C, before);
  cpu_context context({.threads = 1});
  embedding_backward(context, whole.view(), dx.view(), tokens.view());
  for (const int ranks : {1, 2, 4}) {
    const index_t part = V / ranks;
    const auto results = from_ranks<std::vector<double>>(
        ranks,
        [&](cpu_context& own_context, int rank) {
          guarded_weight<A, cpu> own(part, C, rows_of(before, C, rank * part, part));
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

namespace {

/// combine_forward and its gradients, with a whole table or a part.
template <class S>
struct combination {
  using A = accumulate_t<S>;
  static constexpr index_t N = 13, C = 19, V = 12;

  guarded<S, 2, cpu> y{dims<2>{N, C}}, dhidden{dims<2>{N, C}};
  guarded<S, 2, cpu> hidden{dims<2>{N, C}, strides(C + 1, 1), normal(N* C, 1)};
  guarded<S, 2, cpu> dy{dims<2>{N, C}, normal(N* C, 2)};
  guarded<A, 1, cpu> inv_hidden{dims<1>{N}}, inv_embedding{dims<1>{N}};
  guarded<A, 1, cpu> d_hidden_scale{dims<1>{C}, uniform(C, 3)};
  guarded<A, 1, cpu> d_embedding_scale{dims<1>{C}, uniform(C, 4)};
  guarded<S, 1, cpu> hidden_scale{dims<1>{C}, uniform(C, 5)};
  guarded<S, 1, cpu> embedding_scale{dims<1>{C}, uniform(C, 6)};
  guarded<token_t, 1, cpu> tokens{dims<1>{N}, some_tokens(N, V)};
  guarded_weight<S, cpu> projection{C, 2 * C, normal(2 * C * C, 7)};
  guarded_weight<A, cpu> dprojection{C, 2 * C, normal(2 * C * C, 8)};
  guarded_weight<S, cpu> table;
  guarded_weight<A, cpu> dtable;

  combination(index_t first, index_t count)
      : table(count, C, rows_of(normal(V * C, 9), C, first, count)),
        dtable(count, C, rows_of(normal(V * C, 10), C, first, count)) {}

  void forward(const auto& operation, cpu_context& context, concat_order order) {
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
  void backward(const auto& operation, cpu_context& context, concat_order order) {
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

}  // namespace

TEST_CASE_TEMPLATE("a combination with a divided table has the bits of one with the whole",
                   S,
                   float,
                   double,
                   bf16) {
  for (const concat_order order : {concat_order::hidden_first, concat_order::embedding_first}) {
    cpu_context context({.threads = 1});
    combination<S> whole(0, combination<S>::V);
    whole.forward([](auto&&... all) { combine_forward(all...); }, context, order);
    whole.backward([](auto&&... all) { combine_backward(all...); }, context, order);
    for (const int ranks : {1, 2, 3}) {
      const index_t part = combination<S>::V / ranks;
      std::vector<std::vector<double>> dtables(static_cast<std::size_t>(ranks));
      const auto results = from_ranks<std::vector<double>>(
          ranks,
          [&](cpu_context& own_context, int rank) {
            combination<S> own(rank * part, part);
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

TEST_CASE("operations on a divided table stay within the workspace that they plan") {
  on_ranks(
      2,
      [](cpu_context& context, int rank) {
        using shapes = combination<bf16>;
        shapes own(rank * 6, 6);
        context.reserve(ops_of<cpu>::sharded_combine_workspace<bf16>(
            shapes::N, shapes::C, shapes::C, shapes::V, 1, 2));
        const auto order = concat_order::hidden_first;
        CHECK_NOTHROW(
            own.forward([](auto&&... all) { sharded_combine_forward(all...); }, context, order));
        CHECK_NOTHROW(
            own.backward([](auto&&... all) { sharded_combine_backward(all...); }, context, order));
        cpu_context small({.threads = 1, .workspace_bytes = 0});
        small.join(*context.ranks());
        small.reserve(ops_of<cpu>::sharded_embedding_workspace<bf16>(shapes::N, shapes::C, 2));
        CHECK_NOTHROW(
            sharded_embedding_forward(small, own.y.view(), own.table.view(), own.tokens.view()));
      },
      1,
      0);
}

TEST_CASE(
    "operations on a divided table reject tokens that no rank has, and contexts without ranks") {
  combination<float> own(0, 6);  // of 12
  guarded<float, 2, cpu> strided(dims<2>{13, 19}, strides(20, 1));
  cpu_context alone({.threads = 1});
  const auto forward = [&](cpu_context& context, const auto& x) {
    sharded_embedding_forward(context, x, own.table.view(), own.tokens.view());
  };
  CHECK(rejects("sharded_embedding_forward", [&] { forward(alone, own.y.view()); }));
  CHECK(rejects("sharded_embedding_backward", [&] {
    sharded_embedding_backward(alone, own.dtable.view(), own.dy.view(), own.tokens.view());
  }));
  on_ranks(2, [&](cpu_context& context, int rank) {
    if (rank != 0) return;
    CHECK(rejects("sharded_embedding_forward", [&] { forward(context, strided.view()); }));
    own.tokens.set(std::vector<double>(13, 12));  // V
    CHECK(rejects("sharded_embedding_forward", [&] { forward(context, own.y.view()); }));
    CHECK(rejects("sharded_embedding_backward", [&] {
      sharded_embedding_backward(context, own.dtable.view(), own.dy.view(), own.tokens.view());
    }));
    CHECK(rejects("sharded_combine_forward", [&] {
      own.forward([](auto&&... all) { sharded_combine_forward(all...); },
                  context,
                  concat_order::hidden_first);
    }));
    CHECK(rejects("sharded_combine_backward", [&] {
      own.backward([](auto&&... all) { sharded_combine_backward(all...); },
                   context,
                   concat_order::hidden_first);
    }));
  });
  CHECK(own.y.untouched());
  CHECK(own.dhidden.untouched());
}

}  // namespace mtp::test::sharded_embedding_cases
