// Kernels with one of their barriers or waits turned off: each must show, as a wrong result, a
// fault or a race. Runs with ThreadSanitizer.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "emulation/unneeded_sites.hpp"
#include "mtp/ops/attention.hpp"
#include "mtp/ops/embedding.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"
#include "mtp/ops/matmul.hpp"
#include "mtp/ops/reduce.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "support/attention.hpp"
#include "support/compare.hpp"
#include "support/cuda_cases.hpp"
#include "support/guard.hpp"
#include "support/random.hpp"
#include "support/weights.hpp"

namespace mtp::test::cuda_deliberate_bugs_races_cases {

namespace {

/// Elements as numbers, one list behind the other.
template <class... View>
std::vector<double> numbers(const View&... views) {
  std::vector<double> all;
  const auto append = [&](const auto& list) {
    for (const auto& element : list) {
      all.push_back(static_cast<double>(element));
    }
  };
  (append(elements(views)), ...);
  return all;
}

std::string name_of(const emulation::site& site) {
  return site.file.substr(site.file.rfind('/') + 1) + ":" + std::to_string(site.line);
}

/// Where a kernel waits although nobody would miss it: run(context) returns the elements of all
/// outputs. Copies arrive as early as they may, and then as late: one of both must show each place.
/// `least` places must have been met at all.
template <class Run>
std::string needless_waits(std::size_t least, const Run& run) {
  const emulation::options before = emulation::settings();
  const auto results = [&] {
    auto context = testing<staged>::make_context();
    return run(context);
  };
  const std::vector<double> expected = results();
  std::vector<std::string> needless;
  for (const auto copies : {emulation::copy_mode::eager, emulation::copy_mode::deferred}) {
    emulation::settings().copies = copies;
    std::vector<std::string> unnoticed;
    for (const emulation::site& site :
         emulation::unneeded_sites([&] { return bool(same_bits(results(), expected)); })) {
      unnoticed.push_back(name_of(site));
    }
    if (copies == emulation::copy_mode::eager) {
      needless = unnoticed;
    } else {
      std::erase_if(needless, [&](const std::string& name) {
        return std::find(unnoticed.begin(), unnoticed.end(), name) == unnoticed.end();
      });
    }
  }
  CHECK(emulation::sites().size() >= least);
  emulation::settings() = before;
  std::string all;
  for (const std::string& name : needless) {
    all += (all.empty() ? "" : ", ") + name;
  }
  return all;
}

const std::string none;

TEST_CASE("products in tiles need every barrier") {
  const index_t M = 33, N = 20, K = 40;
  guarded<float, 2, staged> a(dims<2>{M, K}, strides(1, M), uniform(M * K, 1));
  guarded<float, 2, staged> b(dims<2>{K, N}, uniform(K * N, 2));
  CHECK(needless_waits(2, [&](auto& context) {
          guarded<float, 2, staged> c(dims<2>{M, N});
          matmul(context, c.view(), a.view(), b.view());
          return numbers(c.view());
        }) == none);
}

TEST_CASE("products of few rows on tensor cores need every barrier") {
  using S = bf16;
  const index_t M = 5, N = 3, K = 4360;
  guarded<S, 2, staged> x(dims<2>{M, K}, uniform(M * K, 1));
  guarded_weight<S, staged> w(N, K, uniform(N * K, 2));
  CHECK(needless_waits(1, [&](auto& context) {
          guarded<S, 2, staged> y(dims<2>{M, N});
          linear_forward(context, y.view(), x.view(), w.view());
          return numbers(y.view());
        }) == none);
}

TEST_CASE_TEMPLATE("RMSNorm needs every barrier", S, float, bf16) {
  for (const index_t C : {index_t{40}, index_t{1104}}) {
    const index_t N = 3;
    const dims<3> shape{N, 1, C};
    guarded<S, 3, staged> x(shape, uniform(N * C, 1)), dy(shape, uniform(N * C, 2));
    guarded<S, 1, staged> scale(dims<1>{C}, uniform(C, 3));
    CHECK(needless_waits(1, [&](auto& context) {
            guarded<S, 3, staged> y(shape), dx(shape);
            guarded<float, 2, staged> inverse(dims<2>{N, 1});
            guarded<float, 1, staged> dscale(dims<1>{C},
                                             std::vector<double>(static_cast<std::size_t>(C), 0.0));
            rms_norm_forward(context, y.view(), inverse.view(), x.view(), scale.view(), 1e-5);
            rms_norm_backward(context,
                              dx.view(),
                              dscale.view(),
                              dy.view(),
                              x.view(),
                              inverse.view(),
                              scale.view(),
                              view<const S, dims<3>, staged>(nullptr, {0, 0, 0}));
            return numbers(y.view(), dx.view(), dscale.view());
          }) == none);
  }
}

TEST_CASE("sums need every barrier") {
  const index_t N = 2, C = 5000;
  guarded<float, 2, staged> x(dims<2>{N, C}, uniform(N * C, 1));
  CHECK(needless_waits(1, [&](auto& context) {
          guarded<float, 1, staged> y(dims<1>{N});
          sum(context, y.view(), x.view());
          return numbers(y.view());
        }) == none);
}

const head_sizes few_heads_of_matrices{2, 1, 16};

/// Rows 0 .. T - 1 through a cache, all but the last ones at once, and rows before its beginning.
template <class S>
std::vector<double> through_cache(staged_context& context, sequences<S, staged>& a, index_t last) {
  test_cache<S, staged> cache(a, a.T);
  auto out = a.like_queries();
  const auto attend = [&](index_t row, index_t count, index_t position) {
    auto positions = positions_at<staged>(position, count);
    attention_cached_forward(context,
                             out.view().slice(0, row, count),
                             cache.view(),
                             a.q.view().slice(0, row, count),
                             a.k.view().slice(0, row, count),
                             a.v.view().slice(0, row, count),
                             positions.view());
    context.synchronize();
  };
  attend(0, 70, -200);  // more rows than decoding has
  attend(0, a.T - last, 0);
  attend(a.T - last, last, a.T - last);
  return numbers(out.view());
}

TEST_CASE_TEMPLATE("attention needs every barrier and every wait", S, float, bf16) {
  sequences<S, staged> a(1, 80, few_heads_of_matrices, 1, 1);
  CHECK(needless_waits(2, [&](auto& context) {
          attended<S, staged> forward(a);
          forward.forward(context, a);
          std::vector<double> all = numbers(forward.out.view(), forward.statistics.view());
          const auto cached = through_cache<S>(context, a, 12);
          all.insert(all.end(), cached.begin(), cached.end());
          return all;
        }) == none);
}

TEST_CASE_TEMPLATE("gradients of attention need every barrier and every wait", S, float, bf16) {
  // Of two lengths, so that the ring of tiles ends in either slot.
  sequences<S, staged> shorter(1, 70, few_heads_of_matrices, 1, 1),
      longer(1, 140, few_heads_of_matrices, 1, 1);
  attended<S, staged> shorter_forward(shorter), longer_forward(longer);
  {
    auto context = testing<staged>::make_context();
    shorter_forward.forward(context, shorter);
    longer_forward.forward(context, longer);
    context.synchronize();
  }
  CHECK(needless_waits(2, [&](auto& context) {
          attention_gradients<S, staged> of_shorter(shorter), of_longer(longer);
          of_shorter.backward(context, shorter, shorter_forward);
          of_longer.backward(context, longer, longer_forward);
          return numbers(of_shorter.dq.view(),
                         of_shorter.dk.view(),
                         of_shorter.dv.view(),
                         of_longer.dq.view(),
                         of_longer.dk.view(),
                         of_longer.dv.view());
        }) == none);
}

TEST_CASE("the gradient of an embedding needs every barrier") {
  const index_t N = 600, C = 40, V = 4;
  std::vector<double> list;
  for (index_t n = 0; n < N; ++n) {
    list.push_back(static_cast<double>(n % 7 == 0 ? 3 : 1));
  }
  guarded<token_t, 1, staged> tokens(dims<1>{N}, list);
  guarded<bf16, 2, staged> dx(dims<2>{N, C}, uniform(N * C, 1));
  CHECK(needless_waits(1, [&](auto& context) {
          guarded_weight<float, staged> dtable(
              V, C, std::vector<double>(static_cast<std::size_t>(V * C), 0.0));
          embedding_backward(context, dtable.view(), dx.view(), tokens.view());
          context.synchronize();
          return dtable.rows().elements;
        }) == none);
}

TEST_CASE("linear cross entropy needs every barrier") {
  const index_t R = 5, C = 16, V = 2500;
  guarded<bf16, 2, staged> hidden(dims<2>{R, C}, uniform(R * C, 1));
  guarded_weight<bf16, staged> w(V, C, uniform(V * C, 2));
  guarded<token_t, 2, staged> targets(dims<2>{R, 1}, std::vector<double>{3, 600, -1, 0, 2499});
  guarded<float, 2, staged> weights(dims<2>{R, 1}, uniform(R, 3, 0.5, 1.0));
  CHECK(needless_waits(1, [&](auto& context) {
          guarded<float, 2, staged> losses(dims<2>{R, 1});
          guarded<token_t, 1, staged> predicted(dims<1>{R});
          guarded<bf16, 2, staged> dhidden(dims<2>{R, C});
          guarded_weight<float, staged> dw(
              V, C, std::vector<double>(static_cast<std::size_t>(V * C), 0.0));
          linear_cross_entropy(context,
                               losses.view(),
                               predicted.view(),
                               dhidden.view(),
                               dw.view(),
                               hidden.view(),
                               w.view(),
                               targets.view(),
                               weights.view());
          context.synchronize();
          auto all = numbers(losses.view(), predicted.view(), dhidden.view());
          const auto rows = dw.rows().elements;
          all.insert(all.end(), rows.begin(), rows.end());
          return all;
        }) == none);
}

}  // namespace

}  // namespace mtp::test::cuda_deliberate_bugs_races_cases
