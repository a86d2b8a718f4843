// Output matrices divided among ranks, against the reference of whole ones. The CPU alone has them.
#include "mtp/ops/sharded_cross_entropy.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "mtp/ops/linear.hpp"
#include "support/cpu_cases.hpp"
#include "support/cross_entropy_case.hpp"
#include "support/gradcheck.hpp"
#include "support/tensor_ranks.hpp"

namespace mtp::test::linear_cross_entropy_tests {

namespace {

/// Rows [first, first + count) of a matrix in row-major order.
std::vector<double> rows_of(const std::vector<double>& all,
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
template <class S>
std::vector<rank_outcome<S>> run_sharded(loss_case<S, cpu>& a, int ranks, int threads = 1) {
  const loss_sizes s = a.size;
  const index_t part = s.V / ranks;
  const auto w = a.w.rows().elements, before = a.dw.rows().elements;
  return from_ranks<rank_outcome<S>>(
      ranks,
      [&](cpu_context& context, int rank) {
        using A = accumulate_t<S>;
        guarded_weight<S, cpu> own(part, s.C, rows_of(w, s.C, rank * part, part));
        guarded_weight<A, cpu> dw(part, s.C, rows_of(before, s.C, rank * part, part));
        guarded<A, 2, cpu> losses(dims<2>{s.R, s.J}, strides(s.J + 2, 1));
        guarded<A, 2, cpu> forward_losses(dims<2>{s.R, s.J}, strides(1, s.R));
        guarded<S, 2, cpu> dhidden(dims<2>{s.R, s.C});
        guarded<token_t, 1, cpu> predicted(dims<1>{s.R}), forward_predicted(dims<1>{s.R});
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

std::vector<double> as_doubles(const auto& list) {
  std::vector<double> all;
  for (const auto& each : list) all.push_back(static_cast<double>(each));
  return all;
}

template <class S>
void check_sharded(const loss_sizes& s, inputs kind, int ranks, int threads = 1) {
  CAPTURE(s.R);
  CAPTURE(s.V);
  CAPTURE(s.J);
  CAPTURE(ranks);
  loss_case<S, cpu> a(s, kind);
  expectation<S, cpu> expected(a, kind);
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

}  // namespace

TEST_CASE_TEMPLATE(
    "sharded_cross_entropy matches the reference of whole matrices", S, float, double, bf16) {
  for (const inputs kind : {inputs::small, inputs::large, inputs::whole}) {
    for (const loss_sizes& s : {loss_sizes{3, 2, 4, 2},
                                loss_sizes{5, 7, 12, 1},
                                loss_sizes{9, 33, 60, 4},
                                loss_sizes{11, 3, 36, 70},
                                loss_sizes{14, 65, 132, 2},
                                loss_sizes{0, 3, 8, 1},
                                loss_sizes{3, 4, 8, 0}}) {
      for (const int ranks : {2, 4}) check_sharded<S>(s, kind, ranks);
    }
  }
  check_sharded<S>({53, 2, 40000, 1}, inputs::small, 2, 2);  // several chunks
}

TEST_CASE("sharded_cross_entropy of one rank has the bits of linear_cross_entropy") {
  for (const loss_sizes& s : {loss_sizes{9, 33, 19, 4}, loss_sizes{53, 2, 20011, 1}}) {
    loss_case<float, cpu> a(s);
    const auto own = run_sharded(a, 1)[0];
    cpu_context context({.threads = 1});
    a.run(context);
    CHECK(same_bits(own.losses, elements(a.losses.view())));
    CHECK(same_bits(own.dhidden, elements(a.dhidden.view())));
    CHECK(same_bits(own.predicted, elements(a.predicted.view())));
    CHECK(same_bits(own.dw, a.dw.rows().elements));
  }
}

TEST_CASE("targets at the borders of the ranks' parts count once") {
  const index_t V = 12;
  for (const int ranks : {2, 3, 4}) {
    const loss_sizes s{V, 5, V, 2};
    loss_case<double, cpu> a(s);
    target_list targets;
    for (token_t v = 0; v < V; ++v) {  // every token, beside its neighbour
      targets.push_back(v);
      targets.push_back((v + 1) % static_cast<token_t>(V));
    }
    a.set_targets(targets);
    const expectation<double, cpu> expected(a, inputs::small);
    std::vector<double> dw;
    const auto all = run_sharded(a, ranks);
    for (const auto& own : all) {
      CHECK(within(own.losses, expected.losses.elements, expected.loss_bound.elements));
      dw = join(std::move(dw), own.dw);
    }
    CHECK(within(dw, expected.dw.elements, expected.dw_bound.elements));
  }
}

TEST_CASE("equal logits on several ranks are predicted as the lowest token") {
  const loss_sizes s{3, 1, 8, 1};
  for (const int ranks : {2, 4}) {
    loss_case<float, cpu> a(s);
    a.w = guarded_weight<float, cpu>(8, 1, {1, 2, -1, 2, 2, 0, 2, -1});
    a.hidden.set({1, -1, 0});
    const auto all = run_sharded(a, ranks);
    for (const auto& own : all) CHECK(own.predicted == std::vector<token_t>{1, 2, 0});
  }
}

TEST_CASE("a logit that is not finite makes its row NaN on all ranks, and no other row") {
  constexpr double huge = 1e308;
  const std::vector<std::vector<double>> rows{{100, 0}, {-100, 0}};  // infinity, -infinity
  for (const auto& bad : rows) {
    loss_case<double, cpu> a({4, 2, 8, 1});
    a.set_targets({0, 5, 7, -1});
    a.hidden.set({0, 0, bad[0], bad[1], 0, 0, bad[0], bad[1]});
    std::vector<double> w(16, 1e-3);
    w[2 * 6] = huge;  // token 6, which rank 3 of 4 has
    w[2 * 6 + 1] = -huge;
    a.w = guarded_weight<double, cpu>(8, 2, w);
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

TEST_CASE("rows of which all logits are NaN predict nothing") {
  const loss_sizes s{2, 1, 4, 1};
  loss_case<float, cpu> a(s);
  a.hidden.set({std::nan(""), 1});
  for (const auto& own : run_sharded(a, 2)) {
    CHECK(own.predicted[0] == -1);
    CHECK(own.predicted[1] >= 0);
    CHECK(std::isfinite(own.losses[1]));
  }
}

TEST_CASE("sharded_cross_entropy gradients match differences of the weighted losses") {
  const loss_sizes s{6, 4, 8, 2};
  loss_case<double, cpu> a(s);
  const auto before = a.dw.rows().elements;
  const array<2> weights = array_of(a.weights.view());
  const auto all = run_sharded(a, 2);
  std::vector<double> dw = join(all[0].dw, all[1].dw);
  for (std::size_t i = 0; i < dw.size(); ++i) dw[i] -= before[i];
  loss_case<double, cpu> moved(s);
  const auto loss = [&] {
    double sum = 0;
    const auto losses = run_sharded(moved, 2)[1].losses;
    for (std::size_t i = 0; i < losses.size(); ++i) sum += weights.elements[i] * losses[i];
    return sum;
  };
  CHECK(gradient_matches(
      [&](std::span<const double> at) {
        moved.hidden.set({at.begin(), at.end()});
        return loss();
      },
      values(a.hidden.view()),
      all[0].dhidden));
  moved.hidden.set(values(a.hidden.view()));
  CHECK(gradient_matches(
      [&](std::span<const double> at) {
        moved.w = guarded_weight<double, cpu>(s.V, s.C, {at.begin(), at.end()});
        return loss();
      },
      a.w.rows().elements,
      dw,
      gradcheck_options{.error = 0x1p-50}));
}

TEST_CASE_TEMPLATE("results over ranks have the same bits with any number of threads",
                   S,
                   float,
                   bf16) {
  loss_case<S, cpu> a({200, 9, 302, 2});
  const auto one = run_sharded(a, 2, 1), three = run_sharded(a, 2, 3);
  for (std::size_t rank = 0; rank < 2; ++rank) {
    CHECK(same_bits(one[rank].losses, three[rank].losses));
    CHECK(same_bits(one[rank].dhidden, three[rank].dhidden));
    CHECK(same_bits(one[rank].dw, three[rank].dw));
  }
}

TEST_CASE_TEMPLATE(
    "sharded_linear_forward gathers the logits of linear_forward", S, float, double, bf16) {
  for (const int ranks : {1, 2, 3}) {
    for (const index_t rows : {1, 4, 9}) {
      const index_t C = 21, V = 66, part = V / ranks;
      const auto w = normal(V * C, 1);
      guarded<S, 2, cpu> x(dims<2>{rows, C}, strides(C + 1, 1), normal(rows * C, 2));
      guarded<accumulate_t<S>, 2, cpu> whole(dims<2>{rows, V});
      cpu_context context({.threads = 1});
      guarded_weight<S, cpu> all(V, C, w);
      linear_forward(context, whole.view(), x.view(), all.view());
      const auto results = from_ranks<std::vector<accumulate_t<S>>>(
          ranks,
          [&](cpu_context& own_context, int rank) {
            guarded<accumulate_t<S>, 2, cpu> y(dims<2>{rows, V}, strides(V + 3, 1));
            guarded_weight<S, cpu> own(part, C, rows_of(w, C, rank * part, part));
            sharded_linear_forward(own_context, y.view(), x.view(), own.view());
            return y.intact() ? elements(y.view()) : std::vector<accumulate_t<S>>{};
          },
          2);
      for (const auto& own : results) CHECK(same_bits(own, elements(whole.view())));
    }
  }
}

TEST_CASE_TEMPLATE("operations on divided matrices stay within the workspace that they plan",
                   S,
                   float,
                   bf16) {
  for (const loss_sizes& s : {loss_sizes{1, 1, 2, 1}, loss_sizes{20, 9, 1002, 2}}) {
    const index_t part = s.V / 2;
    loss_case<S, cpu> a(s);
    const auto rows = a.w.rows().elements;
    on_ranks(
        2,
        [&](cpu_context& context, int rank) {
          using ops = ops_of<cpu>;
          guarded_weight<S, cpu> w(part, s.C, rows_of(rows, s.C, rank * part, part));
          guarded<accumulate_t<S>, 2, cpu> losses(dims<2>{s.R, s.J}), y(dims<2>{s.R, s.V});
          guarded<token_t, 1, cpu> predicted(dims<1>{s.R});
          guarded<S, 2, cpu> dhidden(dims<2>{s.R, s.C});
          context.reserve(ops::sharded_cross_entropy_workspace<S>(s.R, part, s.C, s.J, 1, 2));
          CHECK_NOTHROW(sharded_cross_entropy(context,
                                              losses.view(),
                                              predicted.view(),
                                              dhidden.view(),
                                              weight_view<accumulate_t<S>, cpu>(nullptr, part, s.C),
                                              a.hidden.view(),
                                              w.view(),
                                              a.targets.view(),
                                              a.weights.view()));
          cpu_context small({.threads = 1, .workspace_bytes = 0});
          small.join(*context.ranks());
          small.reserve(ops::sharded_linear_workspace<S>(s.R, part, s.C, 1, 2));
          CHECK_NOTHROW(sharded_linear_forward(small, y.view(), a.hidden.view(), w.view()));
        },
        1,
        0);
  }
}

TEST_CASE(
    "operations on divided matrices reject wrong shapes, targets, and contexts without ranks") {
  const loss_sizes s{4, 3, 6, 2};
  loss_case<float, cpu> a(s);
  guarded<float, 2, cpu> dhidden(dims<2>{4, 3}), y(dims<2>{4, 6});
  cpu_context alone({.threads = 1});
  const auto call = [&](cpu_context& context, const auto& w) {
    sharded_cross_entropy(context,
                          a.losses.view(),
                          a.predicted.view(),
                          dhidden.view(),
                          weight_view<float, cpu>(nullptr, w.outputs, w.inputs),
                          a.hidden.view(),
                          w,
                          a.targets.view(),
                          a.weights.view());
  };
  CHECK(rejects("sharded_cross_entropy", [&] { call(alone, a.w.view()); }));
  CHECK(rejects("sharded_linear_forward",
                [&] { sharded_linear_forward(alone, y.view(), a.hidden.view(), a.w.view()); }));
  on_ranks(2, [&](cpu_context& context, int rank) {
    if (rank != 0) return;
    guarded_weight<float, cpu> w(3, 3, std::vector<double>(9, 0.5)), wide(3, 4, normal(12, 1));
    CHECK(rejects("sharded_cross_entropy", [&] { call(context, wide.view()); }));
    CHECK(rejects("sharded_linear_forward", [&] {
      sharded_linear_forward(context, dhidden.view(), a.hidden.view(), w.view());  // [N, V / R]
    }));
    a.set_targets({0, 1, 2, 3, 6, 5, -1, 0});  // 6 is V
    CHECK(rejects("sharded_cross_entropy", [&] { call(context, w.view()); }));
    CHECK(rejects("sharded_cross_entropy_forward", [&] {
      sharded_cross_entropy_forward(context,
                                    a.losses.view(),
                                    a.predicted.view(),
                                    a.hidden.view(),
                                    w.view(),
                                    a.targets.view());
    }));
  });
  CHECK(a.losses.untouched());
  CHECK(dhidden.untouched());
}

}  // namespace mtp::test::linear_cross_entropy_tests
