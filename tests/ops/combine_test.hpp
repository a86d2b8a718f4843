// The combination of hidden state and embedding and its gradients against the reference. Who
// includes this says for which cases: see support/backends.hpp.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "mtp/ops/combine.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/combine.hpp"
#include "support/tolerance.hpp"
#include "support/weights.hpp"

namespace mtp::test::combine {

using reference::array;
using reference::array_of;
using reference::magnitude;

inline constexpr double epsilon = 1e-5;

struct combine_sizes {
  index_t N, C, outputs, V, gap;  // gap: elements between rows
};

// Around packs, warps and steps, few rows and many; the last ones do not fit into shared memory for
// all rows, or are empty.
inline const combine_sizes sizes[] = {{1, 1, 1, 1, 0},
                                      {2, 3, 5, 4, 1},
                                      {3, 7, 4, 3, 0},
                                      {5, 8, 16, 9, 0},
                                      {1, 16, 17, 5, 0},
                                      {7, 24, 33, 6, 8},
                                      {8, 33, 20, 11, 2},
                                      {9, 40, 31, 7, 0},
                                      {16, 9, 12, 4, 3},
                                      {17, 9, 12, 4, 3},
                                      {24, 12, 10, 5, 0},
                                      {37, 64, 40, 8, 0},
                                      {4, 300, 19, 6, 0},
                                      {16, 1032, 3, 5, 0},
                                      {0, 4, 3, 2, 0}};

inline std::vector<double> random_tokens(index_t N, index_t V) {
  std::vector<double> tokens = uniform(N, 90, 0, static_cast<double>(V));
  for (double& token : tokens) {
    token = std::min(std::floor(token), static_cast<double>(V - 1));
  }
  return tokens;
}

/// The arguments of a combination, and what it writes.
template <class S, class B>
struct problem {
  using A = accumulate_t<S>;

  combine_sizes s;
  bool hidden_first;
  guarded<S, 2, B> hidden;           // [N, C]
  guarded_weight<S, B> table;        // [V, C]
  guarded<token_t, 1, B> tokens;     // [N]
  guarded<S, 1, B> hidden_scale;     // [C]
  guarded<S, 1, B> embedding_scale;  // [C]
  guarded_weight<S, B> projection;   // [C', 2C]

  problem(const combine_sizes& of, bool first)
      : s(of),
        hidden_first(first),
        hidden(dims<2>{s.N, s.C}, strides(s.C + s.gap, 1), normal(s.N * s.C, 1)),
        table(s.V, s.C, normal(s.V * s.C, 2)),
        tokens(dims<1>{s.N}, random_tokens(s.N, s.V)),
        hidden_scale(dims<1>{s.C}, uniform(s.C, 3, 0.5, 1.5)),
        embedding_scale(dims<1>{s.C}, uniform(s.C, 4, -1.5, -0.5)),
        projection(s.outputs, 2 * s.C, uniform(s.outputs * 2 * s.C, 5)) {}

  concat_order order() const {
    return hidden_first ? concat_order::hidden_first : concat_order::embedding_first;
  }

  std::vector<token_t> token_list() { return elements(tokens.view()); }
  array<2> embedded() { return reference::embedding_forward(table.rows(), token_list()); }

  /// Of rows [first, first + N of y).
  void forward(context<B>& context,
               const matrix_view<S, B>& y,
               const vector_view<A, B>& inv_hidden,
               const vector_view<A, B>& inv_embedding,
               index_t first = 0) {
    const index_t N = y.extent(0);
    combine_forward(context,
                    y,
                    inv_hidden,
                    inv_embedding,
                    hidden.view().slice(0, first, N),
                    table.view(),
                    tokens.view().slice(0, first, N),
                    hidden_scale.view(),
                    embedding_scale.view(),
                    projection.view(),
                    order(),
                    epsilon);
  }
};

/// What combine_backward writes.
template <class S, class B>
struct gradients {
  using A = accumulate_t<S>;

  guarded<S, 2, B> hidden;           // [N, C]
  guarded<A, 1, B> hidden_scale;     // [C]
  guarded<A, 1, B> embedding_scale;  // [C]
  guarded_weight<A, B> projection;   // [C', 2C]
  guarded_weight<A, B> table;        // [V, C]

  /// Those of parameters start with `size` times random numbers.
  gradients(const combine_sizes& s, double size)
      : hidden(dims<2>{s.N, s.C}, strides(s.C + 2 * s.gap, 1)),
        hidden_scale(dims<1>{s.C}, uniform(s.C, 11, -size, size)),
        embedding_scale(dims<1>{s.C}, uniform(s.C, 12, -size, size)),
        projection(s.outputs, 2 * s.C, uniform(s.outputs * 2 * s.C, 13, -size, size)),
        table(s.V, s.C, uniform(s.V * s.C, 14, -size, size)) {}

  void backward(context<B>& context,
                problem<S, B>& p,
                guarded<S, 2, B>& dy,
                guarded<A, 1, B>& inv_hidden,
                guarded<A, 1, B>& inv_embedding,
                bool with_table = true) {
    combine_backward(context,
                     hidden.view(),
                     hidden_scale.view(),
                     embedding_scale.view(),
                     projection.view(),
                     with_table ? table.view() : weight_view<A, B>(nullptr, p.s.V, p.s.C),
                     dy.view(),
                     p.hidden.view(),
                     inv_hidden.view(),
                     inv_embedding.view(),
                     p.table.view(),
                     p.tokens.view(),
                     p.hidden_scale.view(),
                     p.embedding_scale.view(),
                     p.projection.view(),
                     p.order());
  }

  bool intact() const {
    return hidden.intact() && hidden_scale.intact() && embedding_scale.intact() &&
           projection.intact() && table.intact();
  }
};

/// result_bounds, and `stored` roundings to S on the way, each of relative size u(S) of `sums` at
/// most: none of them counts where S is the accumulator type.
template <class Y, class S, int Rank>
std::vector<double> bounds(index_t k,
                           double stored,
                           const array<Rank>& sums,
                           const array<Rank>& value) {
  const bool is_bf16 = std::is_same_v<S, bf16>;
  // Matrix instructions for bf16 cut off where others round to nearest: twice the error for each.
  std::vector<double> result = result_bounds<Y>(is_bf16 ? 2 * k : k, sums, value);
  for (std::size_t i = 0; i < result.size() && is_bf16; ++i) {
    result[i] += gamma(stored, unit_roundoff<S>) * sums.elements[i];
  }
  return result;
}

TEST_CASE_TEMPLATE_DEFINE("combine_forward matches the reference", Case, forward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  for (const combine_sizes& s : some_of<B>(sizes)) {
    for (const bool hidden_first : {true, false}) {
      CAPTURE(s.N);
      CAPTURE(s.C);
      CAPTURE(hidden_first);
      problem<S, B> p(s, hidden_first);
      guarded<S, 2, B> y(dims<2>{s.N, s.outputs}, strides(s.outputs + s.gap, 1));
      guarded<A, 1, B> inv_hidden(dims<1>{s.N}), inv_embedding(dims<1>{s.N});
      p.forward(context, y.view(), inv_hidden.view(), inv_embedding.view());

      const array<2> hidden = array_of(p.hidden.view()), embedded = p.embedded();
      const array<2> r = reference::inverse_rms_of_rows(hidden, epsilon);
      const array<2> q = reference::inverse_rms_of_rows(embedded, epsilon);
      CHECK(within(inv_hidden.view(), r.elements, result_bounds<A>(s.C / 2 + 5, r, r)));
      CHECK(within(inv_embedding.view(), q.elements, result_bounds<A>(s.C / 2 + 5, q, q)));

      const auto combined = [&](const auto& of) {
        return reference::combined(
            reference::scaled_rows(of(hidden), r, of(array_of(p.hidden_scale.view()))),
            reference::scaled_rows(of(embedded), q, of(array_of(p.embedding_scale.view()))),
            hidden_first);
      };
      const array<2> value = reference::linear_forward(
          combined([](const auto& x) { return x; }).rows, p.projection.rows());
      const array<2> sums =
          reference::linear_forward(combined([](const auto& x) { return magnitude(x); }).rows,
                                    magnitude(p.projection.rows()));
      // Normed elements carry the errors of rms_norm and are stored; with many rows, the sum over
      // the first half is stored as well before the second one is added.
      CHECK(within(y.view(), value.elements, bounds<S, S>(2 * s.C + s.C / 2 + 8, 2, sums, value)));
      CHECK(y.intact());
      CHECK(inv_hidden.intact());
      CHECK(inv_embedding.intact());
      CHECK(p.hidden.untouched());
      CHECK(p.table.untouched());
      CHECK(p.projection.untouched());
    }
  }
  CHECK(workspace_is_idle(context));
}

TEST_CASE_TEMPLATE_DEFINE("combine_backward matches the reference", Case, backward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  for (const combine_sizes& s : some_of<B>(sizes)) {
    for (const bool hidden_first : {true, false}) {
      CAPTURE(s.N);
      CAPTURE(s.C);
      CAPTURE(hidden_first);
      problem<S, B> p(s, hidden_first);
      guarded<S, 2, B> dy(
          dims<2>{s.N, s.outputs}, strides(s.outputs + s.gap, 1), normal(s.N * s.outputs, 6));
      const array<2> hidden = array_of(p.hidden.view()), embedded = p.embedded();
      guarded<A, 1, B> inv_hidden(dims<1>{s.N},
                                  reference::inverse_rms_of_rows(hidden, epsilon).elements);
      guarded<A, 1, B> inv_embedding(dims<1>{s.N},
                                     reference::inverse_rms_of_rows(embedded, epsilon).elements);
      const array<2> r = array_of<2>({s.N, 1}, values(inv_hidden.view()));
      const array<2> q = array_of<2>({s.N, 1}, values(inv_embedding.view()));
      gradients<S, B> d(s, 1);
      const gradients<S, B> before(s, 1);
      d.backward(context, p, dy, inv_hidden, inv_embedding);

      // All of it once with the numbers and once with their magnitudes, where nothing cancels.
      const index_t hidden_column = hidden_first ? 0 : s.C, embedded_column = s.C - hidden_column;
      const auto half = [&](const auto& of,
                            const array<2>& x,
                            const array<2>& inverse,
                            const array<1>& scale,
                            index_t column,
                            double sign) {
        const array<2> dnormed = reference::columns_of(
            reference::linear_backward_input(of(array_of(dy.view())), of(p.projection.rows())),
            column,
            s.C);
        return std::pair(
            reference::as_rows(reference::rms_norm_backward_input(reference::as_heads(dnormed),
                                                                  reference::as_heads(of(x)),
                                                                  inverse,
                                                                  of(scale),
                                                                  sign)),
            reference::rms_norm_backward_weight(
                reference::as_heads(dnormed), reference::as_heads(of(x)), inverse));
      };
      const auto projection_of = [&](const auto& of) {
        return reference::linear_backward_weight(
            of(array_of(dy.view())),
            reference::combined(
                reference::scaled_rows(of(hidden), r, of(array_of(p.hidden_scale.view()))),
                reference::scaled_rows(of(embedded), q, of(array_of(p.embedding_scale.view()))),
                hidden_first)
                .rows);
      };
      const auto plain = [](const auto& x) { return x; };
      const auto positive = [](const auto& x) { return magnitude(x); };
      const array<1> hidden_scale = array_of(p.hidden_scale.view());
      const array<1> embedding_scale = array_of(p.embedding_scale.view());
      const auto [dhidden, dhidden_scale] = half(plain, hidden, r, hidden_scale, hidden_column, -1);
      const auto [hidden_sums, hidden_scale_sums] =
          half(positive, hidden, r, hidden_scale, hidden_column, 1);
      const auto [dembedded, dembedding_scale] =
          half(plain, embedded, q, embedding_scale, embedded_column, -1);
      const auto [embedded_sums, embedding_scale_sums] =
          half(positive, embedded, q, embedding_scale, embedded_column, 1);

      // The gradient of the normed rows is stored once, that of the embedding's rows once more.
      CHECK(within(d.hidden.view(),
                   dhidden.elements,
                   bounds<S, S>(s.outputs + s.C + 12, 1, hidden_sums, dhidden)));
      const auto check_scale = [&](guarded<A, 1, B>& actual,
                                   const guarded<A, 1, B>& start,
                                   const array<1>& added,
                                   const array<1>& sums) {
        const array<1> value = array_of(start.view()) + added;
        CHECK(within(
            actual.view(),
            value.elements,
            bounds<A, S>(s.outputs + s.N + 4, 1, magnitude(array_of(start.view())) + sums, value)));
      };
      check_scale(d.hidden_scale, before.hidden_scale, dhidden_scale, hidden_scale_sums);
      check_scale(
          d.embedding_scale, before.embedding_scale, dembedding_scale, embedding_scale_sums);
      const array<2> dprojection = before.projection.rows() + projection_of(plain);
      CHECK(within(d.projection.rows().elements,
                   dprojection.elements,
                   bounds<A, S>(s.N + 4,
                                1,
                                magnitude(before.projection.rows()) + projection_of(positive),
                                dprojection)));
      const array<2> dtable =
          reference::embedding_backward(before.table.rows(), dembedded, p.token_list());
      CHECK(within(d.table.rows().elements,
                   dtable.elements,
                   bounds<A, S>(s.outputs + s.C + s.N + 14,
                                2,
                                reference::embedding_backward(
                                    magnitude(before.table.rows()), embedded_sums, p.token_list()),
                                dtable)));
      CHECK(d.intact());
      CHECK(d.projection.padding_is_zero());
      CHECK(dy.untouched());
      CHECK(p.hidden.untouched());

      // Without a table's gradient, the others are the same.
      gradients<S, B> others(s, 1);
      others.backward(context, p, dy, inv_hidden, inv_embedding, false);
      CHECK(same_bits(others.hidden.view(), d.hidden.view()));
      CHECK(same_bits(others.hidden_scale.view(), d.hidden_scale.view()));
      CHECK(same_bits(others.embedding_scale.view(), d.embedding_scale.view()));
      CHECK(same_bits(others.projection.storage(), d.projection.storage()));
      CHECK(others.table.untouched());
    }
  }
  CHECK(workspace_is_idle(context));
}

TEST_CASE_TEMPLATE_DEFINE("combine gradients match differences of the forward operation",
                          Case,
                          gradient_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  if constexpr (std::is_same_v<S, double>) {
    auto context = testing<B>::make_context();
    for (const combine_sizes& s : {combine_sizes{3, 5, 4, 3, 1}, combine_sizes{17, 3, 2, 3, 0}}) {
      for (const bool hidden_first : {true, false}) {
        CAPTURE(s.N);
        CAPTURE(hidden_first);
        problem<double, B> p(s, hidden_first);
        guarded<double, 2, B> dy(dims<2>{s.N, s.outputs}, normal(s.N * s.outputs, 6));
        guarded<double, 2, B> y(dims<2>{s.N, s.outputs});
        guarded<double, 1, B> inv_hidden(dims<1>{s.N}), inv_embedding(dims<1>{s.N});
        const array<2> dys = array_of(dy.view());
        const auto loss = [&] {
          p.forward(context, y.view(), inv_hidden.view(), inv_embedding.view());
          return reference::inner(dys, array_of(y.view()));
        };
        loss();
        gradients<double, B> d(s, 0);
        d.backward(context, p, dy, inv_hidden, inv_embedding);
        const auto check =
            [&](std::vector<double> at, const std::vector<double>& gradient, const auto& set) {
              CHECK(gradient_matches(
                  [&](std::span<const double> moved) {
                    set(std::vector<double>(moved.begin(), moved.end()));
                    return loss();
                  },
                  at,
                  gradient));
              set(at);
            };
        check(values(p.hidden.view()), values(d.hidden.view()), [&](const auto& x) {
          p.hidden.set(x);
        });
        check(values(p.hidden_scale.view()), values(d.hidden_scale.view()), [&](const auto& x) {
          p.hidden_scale.set(x);
        });
        check(values(p.embedding_scale.view()),
              values(d.embedding_scale.view()),
              [&](const auto& x) { p.embedding_scale.set(x); });
        check(p.projection.rows().elements, d.projection.rows().elements, [&](const auto& x) {
          p.projection = guarded_weight<double, B>(s.outputs, 2 * s.C, x);
        });
        check(p.table.rows().elements, d.table.rows().elements, [&](const auto& x) {
          p.table = guarded_weight<double, B>(s.V, s.C, x);
        });
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "combine_forward gives a row the same bits among up to 64 rows, however it is computed",
    Case,
    rows_alone) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  for (const combine_sizes& s : {combine_sizes{64, 29, 21, 7, 1},
                                 combine_sizes{33, 136, 20, 7, 0},
                                 combine_sizes{16, 1032, 4, 7, 0}}) {
    const index_t most = s.N;
    CAPTURE(s.C);
    problem<S, B> p(s, s.C == 136);
    const auto run = [&](auto& context, index_t first, index_t M) {
      guarded<S, 2, B> y(dims<2>{M, s.outputs});
      guarded<A, 1, B> inv_hidden(dims<1>{M}), inv_embedding(dims<1>{M});
      p.forward(context, y.view(), inv_hidden.view(), inv_embedding.view(), first);
      std::vector<double> all;
      for (index_t m = 0; m < M; ++m) {
        all = join(std::move(all), values(y.view().select(0, m)));
        all.push_back(static_cast<double>(inv_hidden.view()(m)));
        all.push_back(static_cast<double>(inv_embedding.view()(m)));
      }
      return all;
    };
    const index_t row = s.outputs + 2;
    auto one = testing<B>::make_context();
    std::vector<double> alone;
    for (index_t m = 0; m < most; ++m) {
      alone = join(std::move(alone), run(one, m, 1));
    }
    testing<B>::each_way([&](auto& context, const std::string& way) {
      CAPTURE(way);
      for (index_t M = 1; M <= most; M += M > 16 ? 16 : s.C > 1000 && M > 1 ? 7 : 1) {
        CAPTURE(M);
        CHECK(same_bits(run(context, 0, M),
                        std::vector<double>(alone.begin(), alone.begin() + M * row)));
      }
      CHECK(same_bits(run(context, 3, 9),
                      std::vector<double>(alone.begin() + 3 * row, alone.begin() + 12 * row)));
    });
  }
}

TEST_CASE_TEMPLATE_DEFINE("combine operations give the same bits however they are computed",
                          Case,
                          ways) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  const combine_sizes s{150, 41, 35, 9, 1};
  problem<S, B> p(s, true);
  guarded<S, 2, B> dy(dims<2>{s.N, s.outputs}, normal(s.N * s.outputs, 6));
  CHECK(same_in_all_ways<B>([&](auto& context) {
    guarded<S, 2, B> y(dims<2>{s.N, s.outputs});
    guarded<A, 1, B> inv_hidden(dims<1>{s.N}), inv_embedding(dims<1>{s.N});
    p.forward(context, y.view(), inv_hidden.view(), inv_embedding.view());
    gradients<S, B> d(s, 1);
    d.backward(context, p, dy, inv_hidden, inv_embedding);
    return join(join(join(values(y.view()), values(d.hidden.view())),
                     join(values(d.hidden_scale.view()), values(d.embedding_scale.view()))),
                join(d.projection.rows().elements, d.table.rows().elements));
  }));
}

TEST_CASE_TEMPLATE_DEFINE("combine_forward shows NaN in its own row and nowhere else",
                          Case,
                          not_a_number) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  for (const index_t N : {5, 20}) {
    const combine_sizes s{N, 37, 9, 6, 0};
    problem<S, B> p(s, true);
    guarded<S, 2, B> expected(dims<2>{N, s.outputs}), y(dims<2>{N, s.outputs});
    guarded<A, 1, B> inv_hidden(dims<1>{N}), inv_embedding(dims<1>{N});
    p.forward(context, expected.view(), inv_hidden.view(), inv_embedding.view());
    p.hidden.view()(2, 36) = unwritten<S>();
    p.forward(context, y.view(), inv_hidden.view(), inv_embedding.view());
    for (index_t n = 0; n < N; ++n) {
      if (n == 2) {
        for (index_t c = 0; c < s.outputs; ++c) {
          CHECK(std::isnan(static_cast<double>(y.view()(n, c))));
        }
      } else {
        CHECK(same_bits(y.view().select(0, n), expected.view().select(0, n)));
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("combine operations reject wrong shapes and change nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  const combine_sizes s{4, 6, 5, 3, 0};
  problem<S, B> p(s, true);
  problem<S, B> longer({5, 6, 5, 3, 0}, true), wider({4, 7, 5, 3, 0}, true);
  guarded<S, 2, B> y(dims<2>{4, 5}), dy(dims<2>{4, 5}, normal(20, 6));
  guarded<S, 2, B> y_spread(dims<2>{4, 5}, strides(20, 2)), spread(dims<2>{4, 6}, strides(24, 2));
  guarded<A, 1, B> r(dims<1>{4}, uniform(4, 7)), q(dims<1>{4}, uniform(4, 8));
  guarded<A, 1, B> r_long(dims<1>{5}, uniform(5, 7));
  guarded<A, 1, B> inv_hidden(dims<1>{4}), inv_embedding(dims<1>{4});
  const auto forward =
      [&](auto y_, auto r_, auto hidden, auto table, auto tokens, auto scale, auto w) {
        return rejects("combine_forward", [&] {
          combine_forward(context,
                          y_,
                          r_,
                          inv_embedding.view(),
                          hidden,
                          table,
                          tokens,
                          scale,
                          p.embedding_scale.view(),
                          w,
                          concat_order::hidden_first,
                          epsilon);
        });
      };
  const auto hidden = p.hidden.view();
  const auto table = p.table.view();
  const auto tokens = p.tokens.view();
  const auto scale = p.hidden_scale.view();
  const auto w = p.projection.view();
  const auto inv = inv_hidden.view();
  CHECK(forward(y.view().slice(0, 0, 3), inv, hidden, table, tokens, scale, w));
  CHECK(forward(y.view().slice(1, 0, 4), inv, hidden, table, tokens, scale, w));
  CHECK(forward(y_spread.view(), inv, hidden, table, tokens, scale, w));
  CHECK(forward(y.view(), r_long.view(), hidden, table, tokens, scale, w));
  CHECK(forward(y.view(), inv, spread.view(), table, tokens, scale, w));
  CHECK(forward(y.view(), inv, wider.hidden.view(), table, tokens, scale, w));
  CHECK(forward(y.view(), inv, hidden, wider.table.view(), tokens, scale, w));
  CHECK(forward(y.view(), inv, hidden, table, longer.tokens.view(), scale, w));
  CHECK(forward(y.view(), inv, hidden, table, tokens, wider.hidden_scale.view(), w));
  CHECK(forward(y.view(), inv, hidden, table, tokens, scale, wider.projection.view()));
  CHECK(y.untouched());
  CHECK(y_spread.untouched());
  CHECK(inv_hidden.untouched());
  CHECK(inv_embedding.untouched());

  gradients<S, B> d(s, 1), d_longer({5, 6, 5, 3, 0}, 1), d_wider({4, 7, 5, 3, 0}, 1);
  const auto backward = [&](auto dhidden, auto dscale, auto dw, auto dtable, auto dy_) {
    return rejects("combine_backward", [&] {
      combine_backward(context,
                       dhidden,
                       dscale,
                       d.embedding_scale.view(),
                       dw,
                       dtable,
                       dy_,
                       hidden,
                       r.view(),
                       q.view(),
                       table,
                       tokens,
                       scale,
                       p.embedding_scale.view(),
                       w,
                       concat_order::hidden_first);
    });
  };
  const auto dh = d.hidden.view();
  const auto ds = d.hidden_scale.view();
  const auto dw = d.projection.view();
  const auto dt = d.table.view();
  CHECK(backward(d_longer.hidden.view(), ds, dw, dt, dy.view()));
  CHECK(backward(spread.view(), ds, dw, dt, dy.view()));
  CHECK(backward(dh, d_wider.hidden_scale.view(), dw, dt, dy.view()));
  CHECK(backward(dh, ds, d_wider.projection.view(), dt, dy.view()));
  CHECK(backward(dh, ds, dw, d_wider.table.view(), dy.view()));
  CHECK(backward(dh, ds, dw, dt, dy.view().slice(0, 0, 3)));
  CHECK(backward(dh, ds, dw, dt, y_spread.view()));
  CHECK(d.hidden.untouched());
  CHECK(d.hidden_scale.untouched());
  CHECK(d.embedding_scale.untouched());
  CHECK(d.projection.untouched());
  CHECK(d.table.untouched());
}

TEST_CASE_TEMPLATE_APPLY(forward_values, cases);
TEST_CASE_TEMPLATE_APPLY(backward_values, cases);
TEST_CASE_TEMPLATE_APPLY(gradient_values, cases);
TEST_CASE_TEMPLATE_APPLY(rows_alone, cases);
TEST_CASE_TEMPLATE_APPLY(ways, cases);
TEST_CASE_TEMPLATE_APPLY(not_a_number, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::combine
