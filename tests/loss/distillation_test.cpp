// Distillation towards a trunk against its formulas in plain loops, and against differences.
#include "mtp/loss/distillation.hpp"

#include <cmath>
#include <cstddef>
#include <doctest/doctest.h>
#include <span>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/tensor.hpp"
#include "support/compare.hpp"
#include "support/gradcheck.hpp"
#include "support/random.hpp"

namespace mtp::test::loss_distillation_cases {

namespace {

using list = std::vector<double>;

list softmax(const list& z, std::size_t row, std::size_t V) {
  list p(V);
  double sum = 0;
  for (std::size_t v = 0; v < V; ++v) sum += p[v] = std::exp(z[row * V + v]);
  for (double& value : p) value /= sum;
  return p;
}

struct outcome {
  list losses, overlaps, gradient;
};

/// The formulas, one by one.
outcome in_plain_loops(const list& draft, const list& trunk, const list& weights, double share) {
  const std::size_t N = weights.size(), V = draft.size() / N;
  outcome made{list(N), list(N), list(N * V)};
  for (std::size_t n = 0; n < N; ++n) {
    const list q = softmax(draft, n, V), p = softmax(trunk, n, V);
    double divergence = 0, below = 0;
    for (std::size_t v = 0; v < V; ++v) {
      divergence += p[v] * std::log(p[v] / q[v]);
      made.overlaps[n] += std::min(p[v], q[v]);
      below += q[v] < p[v] ? q[v] : 0;
    }
    made.losses[n] = share * divergence + (1 - share) * (1 - made.overlaps[n]);
    for (std::size_t v = 0; v < V; ++v) {
      made.gradient[n * V + v] =
          weights[n] *
          (share * (q[v] - p[v]) - (1 - share) * q[v] * ((q[v] < p[v] ? 1 : 0) - below));
    }
  }
  return made;
}

/// What the library makes of the same, in S.
template <class S>
outcome in_operations(const list& draft, const list& trunk, const list& weights, double share) {
  const auto N = static_cast<index_t>(weights.size());
  const index_t V = static_cast<index_t>(draft.size()) / N;
  cpu_context context({.threads = 2, .workspace_bytes = 1 << 20});
  using room_type = distillation<cpu, S>;
  buffer<std::byte, cpu> memory(
      bytes_taken([&](auto& plan) { return room_type::make(plan, N, V); }));
  arena whole(memory.data(), memory.count());
  const auto room = room_type::make(whole, N, V);
  tensor<S, dims<2>, cpu> z(dims<2>{N, V}), p(dims<2>{N, V});  // [N, V]
  tensor<S, dims<1>, cpu> losses(dims<1>{N}), overlaps(dims<1>{N}), entropy(dims<1>{N}),
      factors(dims<1>{N});  // [N]
  for (std::size_t i = 0; i < draft.size(); ++i) {
    z.view().data()[i] = static_cast<S>(draft[i]);
    p.view().data()[i] = static_cast<S>(trunk[i]);
  }
  for (std::size_t n = 0; n < weights.size(); ++n) {
    factors.view().data()[n] = static_cast<S>(weights[n]);
  }
  const auto constant = [](auto& x) {
    return view<const S, typename std::decay_t<decltype(x.view())>::shape_type, cpu>(x.view());
  };
  room.prepare(context, p.view(), entropy.view());
  room.score(context,
             losses.view(),
             overlaps.view(),
             z.view(),
             constant(p),
             constant(entropy),
             static_cast<S>(share));
  const list lost = values(losses.view()), overlap = values(overlaps.view());
  room.gradient(context, z.view(), constant(p), constant(factors), static_cast<S>(share));
  return {lost, overlap, values(z.view())};
}

template <class S>
void check_values(index_t N, index_t V, double share, double bound) {
  const list draft = normal(N * V, 1, 2), trunk = normal(N * V, 2, 2);
  const list weights = normal(N, 3);
  const outcome got = in_operations<S>(draft, trunk, weights, share);
  const outcome expected = in_plain_loops(draft, trunk, weights, share);
  CHECK(within(got.losses, expected.losses, bound));
  CHECK(within(got.overlaps, expected.overlaps, bound));
  CHECK(within(got.gradient, expected.gradient, bound));
}

}  // namespace

TEST_CASE("distillation has the values of its formulas") {
  for (const double share : {0.0, 0.3, 1.0}) {
    for (const index_t V : {1, 2, 17, 100}) {
      CAPTURE(share);
      CAPTURE(V);
      check_values<double>(5, V, share, 1e-13);
      check_values<float>(5, V, share, 2e-5);
    }
  }
}

TEST_CASE("the gradient of distillation is that of its loss") {
  const index_t N = 3, V = 7;
  const list draft = normal(N * V, 4), trunk = normal(N * V, 5), weights{0.5, 1.5, 0};
  for (const double share : {0.0, 0.4, 1.0}) {
    const auto total = [&](std::span<const double> z) {
      const outcome got = in_operations<double>(list(z.begin(), z.end()), trunk, weights, share);
      return 0.5 * got.losses[0] + 1.5 * got.losses[1];
    };
    CHECK(gradient_matches(
        total, draft, in_operations<double>(draft, trunk, weights, share).gradient));
  }
}

TEST_CASE("a draft that has the trunk's distribution loses nothing, however large its logits") {
  const list draft{1000, 998, 2, -1000, -1001, -2000}, weights{1, 1};
  const outcome got = in_operations<float>(draft, draft, weights, 0.5);
  CHECK(within(got.losses, list{0, 0}, 1e-4));
  CHECK(within(got.overlaps, list{1, 1}, 1e-6));
  CHECK(within(got.gradient, list(6, 0), 1e-6));
}

}  // namespace mtp::test::loss_distillation_cases
