// Rotation and attention in one operation, against one after the other and against the references.
// Who includes this says for which cases: see support/cpu_cases.hpp and support/cuda_cases.hpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <type_traits>
#include <vector>

#include "mtp/core/random.hpp"
#include "mtp/ops/rope_attention.hpp"
#include "support/attention.hpp"
#include "support/backends.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/rope.hpp"
#include "support/rope.hpp"

namespace mtp::test::rope_attention {

// Even widths, those of matrix instructions among them; lengths around tiles.
inline const attention_sizes sizes[] = {{1, 1, {1, 1, 2}},
                                        {2, 7, {4, 2, 6}},
                                        {3, 33, {3, 1, 14}},
                                        {2, 1, {2, 1, 16}},
                                        {3, 15, {4, 2, 32}},
                                        {2, 40, {6, 2, 16}},
                                        {1, 65, {2, 1, 64}},
                                        {2, 70, {2, 2, 96}},
                                        {1, 130, {2, 1, 128}},
                                        {1, 20, {2, 1, 48}}};

template <class S, class B>
struct rotating_sequences : sequences<S, B> {
  guarded<accumulate_t<S>, 2, B> table;

  rotating_sequences(const attention_sizes& sizes_, index_t number_)
      : sequences<S, B>(sizes_.batch, sizes_.T, sizes_.heads, 1, number_),
        table(rope_table<accumulate_t<S>, B>(
            sizes_.T + 2, sizes_.heads.E, number_ % 2 == 0 ? 3 : 4)) {}

  void forward(context<B>& context, attended<S, B>& to) {
    rope_attention_forward(context,
                           to.out.view(),
                           to.statistics.view(),
                           this->q.view(),
                           this->k.view(),
                           this->v.view(),
                           table.view(),
                           this->batch);
  }
  void backward(context<B>& context, attention_gradients<S, B>& to, attended<S, B>& forward) {
    rope_attention_backward(context,
                            to.dq.view(),
                            to.dk.view(),
                            to.dv.view(),
                            this->dout.view(),
                            this->q.view(),
                            this->k.view(),
                            this->v.view(),
                            forward.out.view(),
                            forward.statistics.view(),
                            table.view(),
                            this->batch);
  }
};

/// Errors of pairs that are rotated: those of both elements, and the roundings of a rotation.
template <class S>
std::vector<double> rotated_bounds(const array<3>& before,
                                   const array<3>& before_errors,
                                   const array<3>& after) {
  const index_t half = before.size(2) / 2;
  array<3> errors(before.sizes);
  for (index_t n = 0; n < before.size(0); ++n) {
    for (index_t h = 0; h < before.size(1); ++h) {
      for (index_t e = 0; e < before.size(2); ++e) {
        for (const index_t i : {e % half, e % half + half}) {
          errors(n, h, e) +=
              before_errors(n, h, i) + gamma(5, unit_roundoff<accumulate_t<S>>) *
                                           (std::abs(before(n, h, i)) + before_errors(n, h, i));
        }
      }
    }
  }
  return stored_bounds<S>(after, errors);
}

TEST_CASE_TEMPLATE_DEFINE("rope_attention_forward is rope_forward, then attention_forward",
                          Case,
                          forward_parts) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  index_t number = 0;
  for (const attention_sizes& some : some_of<B>(sizes)) {
    CAPTURE(some.T);
    CAPTURE(some.heads.E);
    rotating_sequences<S, B> a(some, number), parts(some, number);
    ++number;
    attended<S, B> together(a), apart(a);
    const array<3> q = array_of(a.q.view()), k = array_of(a.k.view());
    a.forward(context, together);
    rope_forward(context, parts.q.view(), parts.table.view(), a.T, 0);
    rope_forward(context, parts.k.view(), parts.table.view(), a.T, 0);
    apart.forward(context, parts);
    CHECK(same_bits(a.q.view(), parts.q.view()));
    CHECK(same_bits(a.k.view(), parts.k.view()));
    CHECK(same_bits(together.out.view(), apart.out.view()));
    CHECK(same_bits(together.statistics.view(), apart.statistics.view()));

    const array<3> none_q(q.sizes), none_k(k.sizes);
    const array<3> turned_q = reference::rope(q, rope_theta, a.T, 0);
    const array<3> turned_k = reference::rope(k, rope_theta, a.T, 0);
    CHECK(within(a.q.view(), turned_q.elements, rotated_bounds<S>(q, none_q, turned_q)));
    CHECK(within(a.k.view(), turned_k.elements, rotated_bounds<S>(k, none_k, turned_k)));
    const expected_forward<Case> expected(
        array_of(a.q.view()), array_of(a.k.view()), array_of(a.v.view()), a.batch);
    CHECK(within(together.out.view(), expected.out.elements, expected.out_bounds));
    CHECK(within(
        together.statistics.view(), expected.statistics.elements, expected.statistics_bounds));
    CHECK(a.q.intact());
    CHECK(a.k.intact());
    CHECK(a.v.untouched());
    CHECK(together.out.intact());
    CHECK(together.statistics.intact());
    CHECK(a.table.untouched());
  }
}

TEST_CASE_TEMPLATE_DEFINE("rope_attention_backward matches the reference", Case, backward_values) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  index_t number = 0;
  for (const attention_sizes& some : some_of<B>(sizes)) {
    CAPTURE(some.T);
    CAPTURE(some.heads.E);
    rotating_sequences<S, B> a(some, number++);
    attended<S, B> forward(a);
    attention_gradients<S, B> actual(a);
    a.forward(context, forward);
    a.backward(context, actual, forward);
    expected_backward<Case> expected(array_of(a.q.view()),
                                     array_of(a.k.view()),
                                     array_of(a.v.view()),
                                     array_of(a.dout.view()),
                                     a.batch);
    const auto check = [&](auto& gradient, const array<3>& turned, array<3> errors) {
      const array<3> back = reference::rope(turned, rope_theta, a.T, 0, -1);
      // A backend may store gradients before it turns them back.
      for (std::size_t i = 0; i < errors.elements.size(); ++i) {
        errors.elements[i] +=
            attention_rounding<Case>::stored * (std::abs(turned.elements[i]) + errors.elements[i]);
      }
      CHECK(within(gradient.view(), back.elements, rotated_bounds<S>(turned, errors, back)));
      CHECK(gradient.intact());
    };
    check(actual.dq, expected.dq, expected.dq_errors);
    check(actual.dk, expected.dk, expected.dk_errors);
    CHECK(within(
        actual.dv.view(), expected.dv.elements, stored_bounds<S>(expected.dv, expected.dv_errors)));
    CHECK(actual.dv.intact());
    CHECK(a.dout.untouched());
    CHECK(a.table.untouched());
  }
}

TEST_CASE_TEMPLATE_DEFINE("rope_attention gradients match differences of the forward operation",
                          Case,
                          gradients) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  if constexpr (std::is_same_v<S, double>) {
    auto context = testing<B>::make_context();
    for (const attention_sizes& some :
         {attention_sizes{2, 4, {2, 1, 4}}, attention_sizes{2, 37, {6, 2, 16}}}) {
      rotating_sequences<S, B> a(some, 0);
      attended<S, B> forward(a);
      attention_gradients<S, B> actual(a);
      const std::vector<double> q = values(a.q.view()), k = values(a.k.view());
      const std::vector<double> v = values(a.v.view());
      const array<3> dout = array_of(a.dout.view());
      const auto loss = [&](const auto& q_, const auto& k_, const auto& v_) {
        a.q.set({q_.begin(), q_.end()});
        a.k.set({k_.begin(), k_.end()});
        a.v.set({v_.begin(), v_.end()});
        a.forward(context, forward);
        return reference::inner(dout, array_of(forward.out.view()));
      };
      loss(q, k, v);
      a.backward(context, actual, forward);
      using list = std::span<const double>;
      CHECK(gradient_matches([&](list at) { return loss(at, k, v); }, q, values(actual.dq.view())));
      CHECK(gradient_matches([&](list at) { return loss(q, at, v); }, k, values(actual.dk.view())));
      CHECK(gradient_matches([&](list at) { return loss(q, k, at); }, v, values(actual.dv.view())));
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("rope_attention gives the same bits however it is computed", Case, ways) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  for (const attention_sizes& some :
       {attention_sizes{2, 37, {4, 2, 6}}, attention_sizes{1, 70, {2, 1, 32}}}) {
    CHECK(same_in_all_ways<B>([&](auto& context) {
      rotating_sequences<S, B> a(some, 1);
      attended<S, B> forward(a);
      attention_gradients<S, B> actual(a);
      a.forward(context, forward);
      a.backward(context, actual, forward);
      return join(join(values(a.q.view()), forward.elements()), actual.elements());
    }));
  }
}

TEST_CASE_TEMPLATE_DEFINE(
    "rope_attention_cached_forward is rope_forward, then attention_cached_forward",
    Case,
    cached_parts) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  auto context = testing<B>::make_context();
  const random_stream random(mtp::seed{5}, 2);
  index_t number = 0;
  for (const attention_sizes& some : some_of<B>(sizes)) {
    for (const std::uint64_t most : {1u, 6u, 90u}) {
      CAPTURE(some.T);
      CAPTURE(some.heads.E);
      CAPTURE(most);
      const attention_sizes one{1, some.T, some.heads};
      rotating_sequences<S, B> a(one, number), parts(one, number);
      ++number;
      test_cache<S, B> cache(a, a.T + 1), expected(a, a.T + 1);
      auto together = a.like_queries(), apart = a.like_queries();
      for (index_t t = 0; t < a.T;) {
        const index_t M = std::min(
            a.T - t,
            1 + static_cast<index_t>(random.below(static_cast<std::uint64_t>(t + number), most)));
        auto positions = positions_at<B>(t, M);
        const auto part = [&](auto& x) { return x.view().slice(0, t, M); };
        rope_attention_cached_forward(context,
                                      part(together),
                                      cache.view(),
                                      part(a.q),
                                      part(a.k),
                                      part(a.v),
                                      a.table.view(),
                                      positions.view());
        rope_forward(context, part(parts.q), parts.table.view(), M, t);
        rope_forward(context, part(parts.k), parts.table.view(), M, t);
        attention_cached_forward(context,
                                 part(apart),
                                 expected.view(),
                                 part(parts.q),
                                 part(parts.k),
                                 part(parts.v),
                                 positions.view());
        t += M;
      }
      CHECK(same_bits(together.view(), apart.view()));
      CHECK(same_bits(cache.elements(), expected.elements()));
      CHECK(together.intact());
      CHECK(a.q.intact());
      CHECK(a.k.intact());
      CHECK(a.v.untouched());
      CHECK(a.table.untouched());
    }
  }
}

TEST_CASE_TEMPLATE_DEFINE("rope_attention operations reject wrong shapes and change nothing",
                          Case,
                          rejections) {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  using A = accumulate_t<S>;
  auto context = testing<B>::make_context();
  rotating_sequences<S, B> a({1, 6, {4, 2, 6}}, 0), wider({1, 6, {4, 2, 8}}, 0);
  attended<S, B> forward(a);
  attention_gradients<S, B> gradients(a);
  test_cache<S, B> cache(a, 8);
  auto short_table = rope_table<A, B>(5, 6);
  auto three = guarded<S, 3, B>(dims<3>{6, 3, 6}, uniform(6 * 3 * 6, 1));
  const auto k = a.k.view(), v = a.v.view(), odd = three.view();
  const auto forward_rejects = [&](auto table, auto k_, auto v_, index_t batch) {
    return rejects("rope_attention_forward", [&] {
      rope_attention_forward(
          context, forward.out.view(), forward.statistics.view(), a.q.view(), k_, v_, table, batch);
    });
  };
  CHECK(forward_rejects(short_table.view(), k, v, 1));
  CHECK(forward_rejects(wider.table.view(), k, v, 1));
  CHECK(forward_rejects(a.table.view(), odd, odd, 1));
  CHECK(forward_rejects(a.table.view(), k, odd, 1));
  CHECK(forward_rejects(a.table.view(), k, v, 4));
  const auto backward_rejects = [&](auto table, auto dk) {
    return rejects("rope_attention_backward", [&] {
      rope_attention_backward(context,
                              gradients.dq.view(),
                              dk,
                              gradients.dv.view(),
                              a.dout.view(),
                              a.q.view(),
                              k,
                              v,
                              forward.out.view(),
                              forward.statistics.view(),
                              table,
                              1);
    });
  };
  CHECK(backward_rejects(short_table.view(), gradients.dk.view()));
  CHECK(backward_rejects(wider.table.view(), gradients.dk.view()));
  CHECK(backward_rejects(a.table.view(), odd));
  const auto cached_rejects = [&](auto table, auto k_, index_t positions) {
    return rejects("rope_attention_cached_forward", [&] {
      rope_attention_cached_forward(context,
                                    forward.out.view(),
                                    cache.view(),
                                    a.q.view(),
                                    k_,
                                    v,
                                    table,
                                    positions_at<B>(0, positions).view());
    });
  };
  CHECK(cached_rejects(short_table.view(), k, 6));
  CHECK(cached_rejects(wider.table.view(), k, 6));
  CHECK(cached_rejects(a.table.view(), odd, 6));
  CHECK(cached_rejects(a.table.view(), k, 5));
  CHECK(a.q.untouched());
  CHECK(a.k.untouched());
  CHECK(forward.out.untouched());
  CHECK(forward.statistics.untouched());
  CHECK(gradients.dq.untouched());
  CHECK(gradients.dk.untouched());
  CHECK(three.untouched());
}

TEST_CASE_TEMPLATE_APPLY(forward_parts, cases);
TEST_CASE_TEMPLATE_APPLY(backward_values, cases);
TEST_CASE_TEMPLATE_APPLY(gradients, cases);
TEST_CASE_TEMPLATE_APPLY(ways, cases);
TEST_CASE_TEMPLATE_APPLY(cached_parts, cases);
TEST_CASE_TEMPLATE_APPLY(rejections, cases);

}  // namespace mtp::test::rope_attention
