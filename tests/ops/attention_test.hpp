// Attention over whole sequences and its gradients against the reference. Who includes this says
// for which cases: see support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include "mtp/ops/attention.hpp"
#include "support/attention.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"

namespace mtp::test::attention {

/// Lengths that a backend is tested with: all of them up to 70 where threads are not emulated.
template <class B>
std::vector<index_t> lengths() {
  if (!backend_traits<B>::is_host_memory) {
    return {1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65};
  }
  std::vector<index_t> all;
  for (index_t T = 1; T <= 70; ++T) {
    all.push_back(T);
  }
  return all;
}

/// Sizes of every kind for an element type.
template <class Case>
std::vector<attention_sizes> all_sizes(const std::vector<index_t>& lengths, index_t shift) {
  std::vector<attention_sizes> sizes;
  for (const index_t T : lengths) {
    sizes.push_back({1 + T % 3, T, heads_of(T + shift)});
  }
  if constexpr (std::is_same_v<typename Case::scalar, bf16>) {
    sizes.insert(sizes.end(), std::begin(matrix_sizes), std::end(matrix_sizes));
  }
  return sizes;
}

TEST_CASE_TEMPLATE_DEFINE("attention_forward matches the reference", Case, forward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  index_t number = 0;
  for (const attention_sizes& sizes : some_of<B>(all_sizes<Case>(lengths<B>(), 0))) {
    CAPTURE(sizes.T);
    CAPTURE(sizes.heads.H);
    CAPTURE(sizes.heads.E);
    sequences<S, B> a(sizes.batch, sizes.T, sizes.heads, sizes.T % 2 == 0 ? 1 : 4, number++);
    attended<S, B> actual(a);
    actual.forward(context, a);
    const expected_forward<Case> expected(
        array_of(a.q.view()), array_of(a.k.view()), array_of(a.v.view()), a.batch);
    CHECK(within(actual.out.view(), expected.out.elements, expected.out_bounds));
    CHECK(
        within(actual.statistics.view(), expected.statistics.elements, expected.statistics_bounds));
    CHECK(actual.out.intact());
    CHECK(actual.statistics.intact());
    CHECK(a.q.untouched());
    CHECK(a.k.untouched());
    CHECK(a.v.untouched());
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention_backward matches the reference", Case, backward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const std::vector<index_t> lengths{
      1, 2, 3, 7, 11, 12, 13, 15, 16, 17, 31, 32, 33, 47, 48, 49, 61, 70, 97};
  index_t number = 0;
  for (const attention_sizes& sizes : some_of<B>(all_sizes<Case>(lengths, 2))) {
    CAPTURE(sizes.T);
    CAPTURE(sizes.heads.H);
    CAPTURE(sizes.heads.E);
    sequences<S, B> a(sizes.batch, sizes.T, sizes.heads, 1, number++);
    attended<S, B> forward(a);
    forward.forward(context, a);
    attention_gradients<S, B> actual(a);
    actual.backward(context, a, forward);
    const expected_backward<Case> expected(array_of(a.q.view()),
                                           array_of(a.k.view()),
                                           array_of(a.v.view()),
                                           array_of(a.dout.view()),
                                           a.batch);
    CHECK(within(
        actual.dq.view(), expected.dq.elements, stored_bounds<S>(expected.dq, expected.dq_errors)));
    CHECK(within(
        actual.dk.view(), expected.dk.elements, stored_bounds<S>(expected.dk, expected.dk_errors)));
    CHECK(within(
        actual.dv.view(), expected.dv.elements, stored_bounds<S>(expected.dv, expected.dv_errors)));
    CHECK(actual.dq.intact());
    CHECK(actual.dk.intact());
    CHECK(actual.dv.intact());
    CHECK(a.dout.untouched());
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention gradients match differences of the forward operation",
                          Case,
                          gradients) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  if constexpr (std::is_same_v<S, double>) {
    auto context = testing<B>::make_context();
    const head_sizes few{2, 1, 3}, many{6, 2, 17};
    for (const index_t T : {4, 53}) {
      sequences<S, B> a(2, T, T < 10 ? few : many);
      attended<S, B> forward(a);
      attention_gradients<S, B> actual(a);
      const array<3> dout = array_of(a.dout.view());
      const auto loss = [&](guarded<S, 3, B>& q, guarded<S, 3, B>& k, guarded<S, 3, B>& v) {
        attention_forward(context,
                          forward.out.view(),
                          forward.statistics.view(),
                          q.view(),
                          k.view(),
                          v.view(),
                          a.batch);
        return reference::inner(dout, array_of(forward.out.view()));
      };
      loss(a.q, a.k, a.v);
      actual.backward(context, a, forward);
      const auto moved = [](const dims<3>& shape, std::span<const double> at) {
        return guarded<S, 3, B>(shape, std::vector<double>(at.begin(), at.end()));
      };
      CHECK(gradient_matches(
          [&](std::span<const double> at) {
            auto q = moved(a.queries(), at);
            return loss(q, a.k, a.v);
          },
          values(a.q.view()),
          values(actual.dq.view())));
      CHECK(gradient_matches(
          [&](std::span<const double> at) {
            auto k = moved(a.positions(), at);
            return loss(a.q, k, a.v);
          },
          values(a.k.view()),
          values(actual.dk.view())));
      CHECK(gradient_matches(
          [&](std::span<const double> at) {
            auto v = moved(a.positions(), at);
            return loss(a.q, a.k, v);
          },
          values(a.v.view()),
          values(actual.dv.view())));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention gives the same bits however it is computed", Case, ways) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  for (const head_sizes& sizes : {head_sizes{6, 2, 33}, head_sizes{3, 3, 16}}) {
    const bool host = backend_traits<B>::is_host_memory;
    sequences<S, B> a(host ? 3 : 2, host ? 101 : 70, sizes);
    CHECK(same_in_all_ways<B>([&](auto& context) {
      attended<S, B> forward(a);
      forward.forward(context, a);
      attention_gradients<S, B> gradients(a);
      gradients.backward(context, a, forward);
      return join(forward.elements(), gradients.elements());
    }));
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention gives the same bits wherever rows begin", Case, alignments) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const head_sizes& sizes : {head_sizes{2, 1, 32}, head_sizes{2, 1, 128}}) {
    std::vector<double> elements[2];
    for (index_t number = 0; number < 2; ++number) {
      sequences<S, B> a(1, 77, sizes, 1, number);
      attended<S, B> forward(a);
      forward.forward(context, a);
      attention_gradients<S, B> gradients(a);
      gradients.backward(context, a, forward);
      elements[number] = join(forward.elements(), gradients.elements());
    }
    CHECK(same_bits(elements[0], elements[1]));
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention_forward gives a sequence the same bits in any batch",
                          Case,
                          batches) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const index_t T : {1, 13, 40}) {
    for (index_t batch = 1; batch <= 5; ++batch) {
      sequences<S, B> a(batch, T, heads_of(T + batch));
      attended<S, B> all(a);
      all.forward(context, a);
      for (index_t b = 0; b < batch; ++b) {
        CAPTURE(T);
        CAPTURE(batch);
        guarded<S, 3, B> alone(dims<3>{T, a.H, a.E});
        guarded<accumulate_t<S>, 2, B> own(dims<2>{T, 2 * a.H});
        attention_forward(context,
                          alone.view(),
                          own.view(),
                          a.q.view().slice(0, b * T, T),
                          a.k.view().slice(0, b * T, T),
                          a.v.view().slice(0, b * T, T),
                          1);
        CHECK(same_bits(alone.view(), all.out.view().slice(0, b * T, T)));
        CHECK(same_bits(own.view(), all.statistics.view().slice(0, b * T, T)));
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention_forward gives a row the same bits however many rows follow",
                          Case,
                          rows_behind) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const bool emulated = !backend_traits<B>::is_host_memory;
  for (index_t number = 0; number < 5; ++number) {
    sequences<S, B> a(1, emulated ? 140 : 200, heads_of(2 * number));
    attended<S, B> whole(a);
    whole.forward(context, a);
    for (const index_t T : lengths<B>()) {
      CAPTURE(T);
      guarded<S, 3, B> out(dims<3>{T, a.H, a.E});
      guarded<accumulate_t<S>, 2, B> own(dims<2>{T, 2 * a.H});
      attention_forward(context,
                        out.view(),
                        own.view(),
                        a.q.view().slice(0, 0, T),
                        a.k.view().slice(0, 0, T),
                        a.v.view().slice(0, 0, T),
                        1);
      CHECK(same_bits(out.view(), whole.out.view().slice(0, 0, T)));
      CHECK(same_bits(own.view(), whole.statistics.view().slice(0, 0, T)));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("no position changes a bit of what stands before it", Case, causality) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const double infinity = std::numeric_limits<double>::infinity();
  for (index_t number = 0; number < 8; ++number) {
    const index_t T = 41;
    sequences<S, B> a(1, T, heads_of(number));
    attended<S, B> before(a), after(a);
    before.forward(context, a);
    for (const double strange : {7.0, std::numeric_limits<double>::quiet_NaN(), infinity}) {
      for (const index_t s : {1, 5, 11, 12, 16, 23, 31, 32, 40}) {
        CAPTURE(s);
        sequences<S, B> changed(1, T, heads_of(number));
        for (index_t g = 0; g < a.G; ++g) {
          for (index_t e = 0; e < a.E; ++e) {
            changed.k.view()(s, g, e) = stored<S>(strange);
            changed.v.view()(s, g, e) = stored<S>(strange);
          }
        }
        after.forward(context, changed);
        const auto out = after.out.view(), unchanged = before.out.view();
        CHECK(same_bits(out.slice(0, 0, s), unchanged.slice(0, 0, s)));
        CHECK(same_bits(after.statistics.view().slice(0, 0, s),
                        before.statistics.view().slice(0, 0, s)));
        CHECK_FALSE(same_bits(out.slice(0, s, T - s), unchanged.slice(0, s, T - s)));
        if (std::isnan(strange)) {
          const auto rest = values(out.slice(0, s, T - s));
          CHECK(std::all_of(rest.begin(), rest.end(), [](double x) { return std::isnan(x); }));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "a value that is not finite shows in its own column of the rows that see it",
    Case,
    strange_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const double infinity = std::numeric_limits<double>::infinity();
  const index_t T = 150;
  for (const head_sizes& sizes : {head_sizes{2, 1, 16}, head_sizes{1, 1, 48}}) {
    sequences<S, B> a(1, T, sizes, 1, 1);
    attended<S, B> before(a), after(a);
    before.forward(context, a);
    for (const double strange : {infinity, -infinity, std::numeric_limits<double>::quiet_NaN()}) {
      for (const index_t s : {3, 63, 64, 100, 149}) {
        CAPTURE(s);
        const index_t e = s % a.E;
        sequences<S, B> changed(1, T, sizes, 1, 1);
        changed.v.view()(s, 0, e) = stored<S>(strange);
        after.forward(context, changed);
        std::vector<double> actual, expected;
        for (index_t t = 0; t < T; ++t) {
          for (index_t h = 0; h < a.H; ++h) {
            for (index_t c = 0; c < a.E; ++c) {
              const bool hit = t >= s && c == e;
              const auto value = static_cast<double>(after.out.view()(t, h, c));
              actual.push_back(hit ? std::isnan(strange) ? std::isnan(value) : value == strange
                                   : value);
              expected.push_back(hit ? 1 : static_cast<double>(before.out.view()(t, h, c)));
            }
          }
        }
        CHECK(same_bits(actual, expected));
      }
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention keeps NaN of a sequence away from the others",
                          Case,
                          other_sequences) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  for (const head_sizes& sizes : {head_sizes{4, 2, 16}, head_sizes{2, 1, 15}}) {
    const index_t T = 20;
    sequences<S, B> a(3, T, sizes), changed(3, T, sizes);
    for (auto* const x : {&changed.q, &changed.k, &changed.v, &changed.dout}) {
      for (index_t h = 0; h < x->view().extent(1); ++h) {
        x->view()(T + 7, h, 3) = unwritten<S>();
      }
    }
    attended<S, B> before(a), after(changed);
    attention_gradients<S, B> gradients_before(a), gradients_after(changed);
    before.forward(context, a);
    after.forward(context, changed);
    gradients_before.backward(context, a, before);
    gradients_after.backward(context, changed, after);
    for (const index_t b : {0, 2}) {
      const auto same = [&](auto& x, auto& y) {
        return same_bits(x.view().slice(0, b * T, T), y.view().slice(0, b * T, T));
      };
      CHECK(same(after.out, before.out));
      CHECK(same(after.statistics, before.statistics));
      CHECK(same(gradients_after.dq, gradients_before.dq));
      CHECK(same(gradients_after.dk, gradients_before.dk));
      CHECK(same(gradients_after.dv, gradients_before.dv));
    }
    CHECK(std::isnan(static_cast<double>(gradients_after.dk.view()(T, 0, 0))));
  }
}

TEST_CASE_TEMPLATE_DEFINE("attention of nothing does nothing", Case, empty) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  sequences<S, B> a(1, 0, {2, 1, 16});
  attended<S, B> forward(a);
  attention_gradients<S, B> gradients(a);
  forward.forward(context, a);
  gradients.backward(context, a, forward);
  CHECK(forward.out.intact());
  CHECK(gradients.dk.intact());
}

TEST_CASE_TEMPLATE_DEFINE("attention operations reject wrong shapes and change nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const index_t N = 6, H = 4, G = 2, E = 5;
  const auto random = [](index_t rows, index_t count, index_t width) {
    return guarded<S, 3, B>(dims<3>{rows, count, width}, uniform(rows * count * width, 1));
  };
  auto q = random(N, H, E), k = random(N, G, E), v = random(N, G, E), dout = random(N, H, E);
  auto three = random(N, 3, E), longer = random(N + 1, G, E), wider = random(N, G, E + 1);
  guarded<S, 3, B> out(dims<3>{N, H, E}), dk(dims<3>{N, G, E}), dv(dims<3>{N, G, E});
  guarded<S, 3, B> spread(dims<3>{N, H, E}, strides(H * E * 2, E * 2, 2));
  guarded<S, 3, B> spread_k(dims<3>{N, G, E}, strides(G * E * 2, E * 2, 2));
  guarded<accumulate_t<S>, 2, B> statistics(dims<2>{N, 2 * H}), narrow(dims<2>{N, H});
  const auto forward = [&](auto out_, auto statistics_, auto q_, auto k_, auto v_, index_t batch) {
    return rejects("attention_forward",
                   [&] { attention_forward(context, out_, statistics_, q_, k_, v_, batch); });
  };
  const auto o = out.view(), qs = q.view(), ks = k.view(), vs = v.view(), ds = dout.view();
  const auto st = statistics.view();
  CHECK(forward(o, st, qs, three.view(), three.view(), 1));
  CHECK(forward(o, st, qs, longer.view(), longer.view(), 1));
  CHECK(forward(o, st, qs, wider.view(), wider.view(), 1));
  CHECK(forward(o, st, qs, ks, longer.view(), 1));
  CHECK(forward(o, st, qs, ks, vs, 4));
  CHECK(forward(o, st, qs, ks, vs, 0));
  CHECK(forward(ks, st, qs, ks, vs, 1));
  CHECK(forward(o, narrow.view(), qs, ks, vs, 1));
  CHECK(forward(spread.view(), st, qs, ks, vs, 1));
  CHECK(forward(o, st, spread.view(), ks, vs, 1));
  CHECK(forward(o, st, qs, spread_k.view(), vs, 1));
  CHECK(forward(o, st, qs, ks, spread_k.view(), 1));
  const auto backward = [&](auto dq_,
                            auto dk_,
                            auto dv_,
                            auto dout_,
                            auto q_,
                            auto k_,
                            auto v_,
                            auto out_,
                            auto statistics_) {
    return rejects("attention_backward", [&] {
      attention_backward(context, dq_, dk_, dv_, dout_, q_, k_, v_, out_, statistics_, 1);
    });
  };
  const auto ts = three.view(), sp = spread.view(), sk = spread_k.view();
  CHECK(backward(ts, dk.view(), dv.view(), ds, qs, ks, vs, o, st));
  CHECK(backward(o, ts, dv.view(), ds, qs, ks, vs, o, st));
  CHECK(backward(o, dk.view(), ts, ds, qs, ks, vs, o, st));
  CHECK(backward(o, dk.view(), dv.view(), ts, qs, ks, vs, o, st));
  CHECK(backward(o, dk.view(), dv.view(), ds, ts, ks, vs, o, st));
  CHECK(backward(o, dk.view(), dv.view(), ds, qs, ts, vs, o, st));
  CHECK(backward(o, dk.view(), dv.view(), ds, qs, ks, ts, o, st));
  CHECK(backward(o, dk.view(), dv.view(), ds, qs, ks, vs, ts, st));
  CHECK(backward(o, dk.view(), dv.view(), ds, qs, ks, vs, o, narrow.view()));
  CHECK(backward(sp, dk.view(), dv.view(), ds, qs, ks, vs, o, st));
  CHECK(backward(o, sk, dv.view(), ds, qs, ks, vs, o, st));
  CHECK(backward(o, dk.view(), sk, ds, qs, ks, vs, o, st));
  CHECK(backward(o, dk.view(), dv.view(), sp, qs, ks, vs, o, st));
  CHECK(backward(o, dk.view(), dv.view(), ds, qs, ks, vs, sp, st));
  CHECK(out.untouched());
  CHECK(dk.untouched());
  CHECK(dv.untouched());
  CHECK(statistics.untouched());
  CHECK(narrow.untouched());
  CHECK(three.untouched());
  CHECK(k.untouched());
  CHECK(spread.untouched());
  CHECK(spread_k.untouched());
}

TEST_CASE_TEMPLATE_APPLY(forward_values, cases);
TEST_CASE_TEMPLATE_APPLY(backward_values, cases);
TEST_CASE_TEMPLATE_APPLY(gradients, cases);
TEST_CASE_TEMPLATE_APPLY(ways, cases);
TEST_CASE_TEMPLATE_APPLY(alignments, cases);
TEST_CASE_TEMPLATE_APPLY(batches, cases);
TEST_CASE_TEMPLATE_APPLY(rows_behind, cases);
TEST_CASE_TEMPLATE_APPLY(causality, cases);
TEST_CASE_TEMPLATE_APPLY(strange_values, cases);
TEST_CASE_TEMPLATE_APPLY(other_sequences, cases);
TEST_CASE_TEMPLATE_APPLY(empty, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::attention
