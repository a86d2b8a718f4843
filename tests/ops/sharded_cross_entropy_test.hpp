// Output matrices divided among ranks, against the reference of whole ones. Who includes this says
// for which cases: see support/backends.hpp.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <vector>

#include "mtp/ops/linear.hpp"
#include "mtp/ops/sharded_cross_entropy.hpp"
#include "support/backends.hpp"
#include "support/cross_entropy_case.hpp"
#include "support/ranks_of_backend.hpp"

namespace mtp::test::linear_cross_entropy_tests {

/// Rows [first, first + count) of a matrix in row-major order.
inline std::vector<double> rows_of(const std::vector<double>& all,
                                   index_t C,
                                   index_t first,
                                   index_t count) {
  return {all.begin() + first * C, all.begin() + (first + count) * C};
}

/// What a rank gives.
template <class S>
struct rank_outcome {
  std::vector<accumulate_t<S>> losses, forward_losses;
  std::vector<double> dw;  // of its rows, in row-major order
  std::vector<S> dhidden;
  std::vector<token_t> predicted, forward_predicted;
  bool intact = false;
};

/// A call on `ranks` ranks with the inputs of a whole case; dw begins with that of the case.
template <class S, class B>
std::vector<rank_outcome<S>> run_sharded(loss_case<S, B>& a, int ranks, int threads = 1) {
  const loss_sizes s = a.size;
  const index_t part = s.V / ranks;
  const auto w = a.w.rows().elements, before = a.dw.rows().elements;
  return from_ranks_of<rank_outcome<S>, B>(
      ranks,
      [&](auto& context, int rank) {
        using A = accumulate_t<S>;
        guarded_weight<S, B> own(part, s.C, rows_of(w, s.C, rank * part, part));
        guarded_weight<A, B> dw(part, s.C, rows_of(before, s.C, rank * part, part));
        guarded<A, 2, B> losses(dims<2>{s.R, s.J}, strides(s.J + 2, 1));
        guarded<A, 2, B> forward_losses(dims<2>{s.R, s.J}, strides(1, s.R));
        guarded<S, 2, B> dhidden(dims<2>{s.R, s.C});
        guarded<token_t, 1, B> predicted(dims<1>{s.R}), forward_predicted(dims<1>{s.R});
        sharded_cross_entropy(context,
                              losses.view(),
                              predicted.view(),
                              dhidden.view(),
                              dw.view(),
                              a.hidden.view(),
                              own.view(),
                              a.targets.view(),
                              a.weights.view());
        sharded_cross_entropy_forward(context,
                                      forward_losses.view(),
                                      forward_predicted.view(),
                                      a.hidden.view(),
                                      own.view(),
                                      a.targets.view());
        return rank_outcome<S>{elements(losses.view()),
                               elements(forward_losses.view()),
                               dw.rows().elements,
                               elements(dhidden.view()),
                               elements(predicted.view()),
                               elements(forward_predicted.view()),
                               losses.intact() && dhidden.intact() && predicted.intact() &&
                                   dw.intact() && dw.padding_is_zero() && forward_losses.intact()};
      },
      threads);
}

inline std::vector<double> as_doubles(const auto& list) {
  std::vector<double> all;
  for (const auto& each : list) all.push_back(static_cast<double>(each));
  return all;
}

template <class S, class B>
void check_sharded(const loss_sizes& s, inputs kind, int ranks, int threads = 1) {
  CAPTURE(s.R);
  CAPTURE(s.V);
  CAPTURE(s.J);
  CAPTURE(ranks);
  loss_case<S, B> a(s, kind);
  expectation<S, B> expected(a, kind, ranks);
  if (!std::is_same_v<S, accumulate_t<S>>) {  // what a rank sends is rounded
    for (std::size_t i = 0; i < expected.dhidden_bound.elements.size(); ++i) {
      expected.dhidden_bound.elements[i] +=
          2 * unit_roundoff<S> * expected.dhidden_terms.elements[i];
    }
  }
  const auto all = run_sharded(a, ranks, threads);
  std::vector<double> dw;
  for (const auto& own : all) {
    CHECK(own.intact);
    CHECK(within(as_doubles(own.losses), expected.losses.elements, expected.loss_bound.elements));
    CHECK(within(
        as_doubles(own.dhidden), expected.dhidden.elements, expected.dhidden_bound.elements));
    CHECK(expected.predictions(own.predicted, kind));
    CHECK(same_bits(own.losses, all[0].losses));
    CHECK(same_bits(own.dhidden, all[0].dhidden));
    CHECK(same_bits(own.predicted, all[0].predicted));
    CHECK(same_bits(own.forward_losses, own.losses));
    CHECK(same_bits(own.forward_predicted, own.predicted));
    dw = join(std::move(dw), own.dw);
  }
  CHECK(within(dw, expected.dw.elements, expected.dw_bound.elements));
  CHECK(a.hidden.untouched());
  CHECK(a.targets.untouched());
  CHECK(a.weights.untouched());
}

TEST_CASE_TEMPLATE_DEFINE("sharded_cross_entropy matches the reference of whole matrices",
                          Case,
                          values_of_ranks) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  const std::vector<loss_sizes> all{{3, 2, 4, 2},
                                    {5, 7, 12, 1},
                                    {9, 33, 60, 4},
                                    {11, 3, 36, 70},
                                    {14, 65, 132, 2},
                                    {0, 3, 8, 1},
                                    {3, 4, 8, 0}};
  for (const inputs kind : {inputs::small, inputs::large, inputs::whole}) {
    for (const loss_sizes& s : some_of<B>(all)) {
      for (const int ranks : {2, 4}) check_sharded<S, B>(s, kind, ranks);
    }
  }
  if (testing<B>::at_full_size) check_sharded<S, B>({2, 3, 10004, 1}, inputs::small, 2);
  // Several chunks.
  if constexpr (backend_traits<B>::is_host_memory) {
    check_sharded<S, B>({53, 2, 40000, 1}, inputs::small, 2, 2);
  } else if (testing<B>::at_full_size && sizeof(S) == 2) {
    check_sharded<S, B>({8195, 2, 4, 1}, inputs::small, 2);
  }
}

TEST_CASE_TEMPLATE_DEFINE("sharded_cross_entropy of one rank has the bits of linear_cross_entropy",
                          Case,
                          one_rank) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  constexpr bool chunks = backend_traits<B>::is_host_memory;  // several of them
  for (const loss_sizes& s :
       {loss_sizes{9, 33, 19, 4}, loss_sizes{chunks ? 53 : 3, 2, chunks ? 20011 : 5011, 1}}) {
    if (s.V > 1000 && !testing<B>::at_full_size) continue;
    loss_case<S, B> a(s);
    const auto own = run_sharded(a, 1)[0];
    auto context = testing<B>::make_context();
    a.run(context);
    CHECK(same_bits(own.losses, elements(a.losses.view())));
    CHECK(same_bits(own.dhidden, elements(a.dhidden.view())));
    CHECK(same_bits(own.predicted, elements(a.predicted.view())));
    CHECK(same_bits(own.dw, a.dw.rows().elements));
  }
}

TEST_CASE_TEMPLATE_DEFINE("targets at the borders of the ranks' parts count once", Case, borders) {
  using B = typename Case::backend;

  const index_t V = 12;
  for (const int ranks : {2, 3, 4}) {
    const loss_sizes s{V, 5, V, 2};
    loss_case<double, B> a(s);
    target_list targets;
    for (token_t v = 0; v < V; ++v) {  // every token, beside its neighbour
      targets.push_back(v);
      targets.push_back((v + 1) % static_cast<token_t>(V));
    }
    a.set_targets(targets);
    const expectation<double, B> expected(a, inputs::small, ranks);
    std::vector<double> dw;
    const auto all = run_sharded(a, ranks);
    for (const auto& own : all) {
      CHECK(within(own.losses, expected.losses.elements, expected.loss_bound.elements));
      dw = join(std::move(dw), own.dw);
    }
    CHECK(within(dw, expected.dw.elements, expected.dw_bound.elements));
  }
}

TEST_CASE_TEMPLATE_DEFINE("equal logits on several ranks are predicted as the lowest token",
                          Case,
                          ties) {
  using B = typename Case::backend;

  const loss_sizes s{3, 1, 8, 1};
  for (const int ranks : {2, 4}) {
    loss_case<float, B> a(s);
    a.w = guarded_weight<float, B>(8, 1, {1, 2, -1, 2, 2, 0, 2, -1});
    a.hidden.set({1, -1, 0});
    const auto all = run_sharded(a, ranks);
    for (const auto& own : all) CHECK(own.predicted == std::vector<token_t>{1, 2, 0});
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "a logit that is not finite makes its row NaN on all ranks, and no other row",
    Case,
    not_finite) {
  using B = typename Case::backend;

  constexpr double huge = 1e308;
  const std::vector<std::vector<double>> rows{{100, 0}, {-100, 0}};  // infinity, -infinity
  for (const auto& bad : rows) {
    loss_case<double, B> a({4, 2, 8, 1});
    a.set_targets({0, 5, 7, -1});
    a.hidden.set({0, 0, bad[0], bad[1], 0, 0, bad[0], bad[1]});
    std::vector<double> w(16, 1e-3);
    w[2 * 6] = huge;  // token 6, which rank 3 of 4 has
    w[2 * 6 + 1] = -huge;
    a.w = guarded_weight<double, B>(8, 2, w);
    const auto all = run_sharded(a, 4);
    for (const auto& own : all) {
      CHECK(std::isnan(own.losses[1]));
      CHECK(std::isnan(own.dhidden[2]));
      CHECK(own.losses[0] == doctest::Approx(std::log(8.0)));
      CHECK(own.losses[2] == doctest::Approx(std::log(8.0)));
      CHECK(std::isfinite(own.dhidden[0]));
      CHECK(own.losses[3] == 0);  // no target, no loss, and no gradient
      CHECK(own.dhidden[6] == 0);
      CHECK(own.predicted[1] == (bad == rows[0] ? 6 : 0));
      CHECK(same_bits(own.forward_losses, own.losses));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("rows of which all logits are NaN predict nothing",
                          Case,
                          nothing_but_nan) {
  using B = typename Case::backend;

  const loss_sizes s{2, 1, 4, 1};
  loss_case<float, B> a(s);
  a.hidden.set({std::nan(""), 1});
  for (const auto& own : run_sharded(a, 2)) {
    CHECK(own.predicted[0] == -1);
    CHECK(own.predicted[1] >= 0);
    CHECK(std::isfinite(own.losses[1]));
  }
}

TEST_CASE_TEMPLATE_DEFINE("sharded_linear_forward gathers the logits of linear_forward",
                          Case,
                          logits) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  for (const int ranks : {1, 2, 3}) {
    for (const index_t rows : {1, 4, 9}) {
      const index_t C = 21, V = 66, part = V / ranks;
      const auto w = normal(V * C, 1);
      guarded<S, 2, B> x(dims<2>{rows, C}, strides(C + 1, 1), normal(rows * C, 2));
      guarded<accumulate_t<S>, 2, B> whole(dims<2>{rows, V});
      auto context = testing<B>::make_context();
      guarded_weight<S, B> all(V, C, w);
      linear_forward(context, whole.view(), x.view(), all.view());
      const auto results = from_ranks_of<std::vector<accumulate_t<S>>, B>(
          ranks,
          [&](auto& own_context, int rank) {
            guarded<accumulate_t<S>, 2, B> y(dims<2>{rows, V}, strides(V + 3, 1));
            guarded_weight<S, B> own(part, C, rows_of(w, C, rank * part, part));
            sharded_linear_forward(own_context, y.view(), x.view(), own.view());
            return y.intact() ? elements(y.view()) : std::vector<accumulate_t<S>>{};
          },
          2);
      for (const auto& own : results) CHECK(same_bits(own, elements(whole.view())));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("operations on divided matrices stay within the workspace that they plan",
                          Case,
                          workspace) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using ops = ops_of<B>;
  for (const loss_sizes& s : {loss_sizes{1, 1, 2, 1}, loss_sizes{20, 9, 1002, 2}}) {
    const index_t part = s.V / 2;
    loss_case<S, B> a(s);
    const auto rows = a.w.rows().elements;
    const auto own_rows = [&](int rank) { return rows_of(rows, s.C, rank * part, part); };
    on_ranks_of<B>(
        2,
        [&](auto& context, int rank) {
          guarded_weight<S, B> w(part, s.C, own_rows(rank));
          guarded<accumulate_t<S>, 2, B> losses(dims<2>{s.R, s.J});
          guarded<token_t, 1, B> predicted(dims<1>{s.R});
          guarded<S, 2, B> dhidden(dims<2>{s.R, s.C});
          context.reserve(
              ops::template sharded_cross_entropy_workspace<S>(s.R, part, s.C, s.J, 1, 2));
          CHECK_NOTHROW(sharded_cross_entropy(context,
                                              losses.view(),
                                              predicted.view(),
                                              dhidden.view(),
                                              weight_view<accumulate_t<S>, B>(nullptr, part, s.C),
                                              a.hidden.view(),
                                              w.view(),
                                              a.targets.view(),
                                              a.weights.view()));
        },
        1,
        0);
    on_ranks_of<B>(
        2,
        [&](auto& context, int rank) {
          guarded_weight<S, B> w(part, s.C, own_rows(rank));
          guarded<accumulate_t<S>, 2, B> y(dims<2>{s.R, s.V});
          context.reserve(ops::template sharded_linear_workspace<S>(s.R, part, s.C, 1, 2));
          CHECK_NOTHROW(sharded_linear_forward(context, y.view(), a.hidden.view(), w.view()));
        },
        1,
        0);
  }
}

TEST_CASE_TEMPLATE_DEFINE("operations on divided matrices need ranks, and matching shapes",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  const loss_sizes s{4, 3, 6, 2};
  loss_case<float, B> a(s);
  guarded<float, 2, B> dhidden(dims<2>{4, 3}), y(dims<2>{4, 6});
  auto alone = testing<B>::make_context();
  const auto call = [&](auto& context, const auto& w) {
    sharded_cross_entropy(context,
                          a.losses.view(),
                          a.predicted.view(),
                          dhidden.view(),
                          weight_view<float, B>(nullptr, w.outputs, w.inputs),
                          a.hidden.view(),
                          w,
                          a.targets.view(),
                          a.weights.view());
  };
  CHECK(rejects("sharded_cross_entropy", [&] { call(alone, a.w.view()); }));
  CHECK(rejects("sharded_linear_forward",
                [&] { sharded_linear_forward(alone, y.view(), a.hidden.view(), a.w.view()); }));
  on_ranks_of<B>(2, [&](auto& context, int rank) {
    if (rank != 0) return;
    guarded_weight<float, B> w(3, 3, std::vector<double>(9, 0.5)), wide(3, 4, normal(12, 1));
    CHECK(rejects("sharded_cross_entropy", [&] { call(context, wide.view()); }));
    CHECK(rejects("sharded_linear_forward", [&] {
      sharded_linear_forward(context, dhidden.view(), a.hidden.view(), w.view());  // [N, V / R]
    }));
  });
  CHECK(a.losses.untouched());
  CHECK(dhidden.untouched());
}

TEST_CASE_TEMPLATE_APPLY(values_of_ranks, cases);
TEST_CASE_TEMPLATE_APPLY(one_rank, cases);
TEST_CASE_TEMPLATE_APPLY(borders, one_case);
TEST_CASE_TEMPLATE_APPLY(ties, one_case);
TEST_CASE_TEMPLATE_APPLY(not_finite, one_case);
TEST_CASE_TEMPLATE_APPLY(nothing_but_nan, one_case);
TEST_CASE_TEMPLATE_APPLY(logits, cases);
TEST_CASE_TEMPLATE_APPLY(workspace, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, one_case);

}  // namespace mtp::test::linear_cross_entropy_tests
