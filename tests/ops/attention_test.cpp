// Attention over whole sequences, over a cache, and its gradients against the reference.
#include "mtp/ops/attention.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/attention.hpp"
#include "support/text.hpp"
#include "support/tolerance.hpp"

namespace {

using namespace mtp;
using namespace mtp::test;
using reference::array;
using reference::array_of;
using reference::magnitude;

struct head_sizes {
  index_t H, G, E;
};

// One, two and three query heads per key/value head; E around vectors and panels.
const head_sizes heads[] = {{1, 1, 1},
                            {2, 1, 3},
                            {3, 1, 8},
                            {2, 2, 16},
                            {4, 2, 15},
                            {6, 2, 17},
                            {1, 1, 31},
                            {2, 1, 32},
                            {3, 3, 33},
                            {2, 1, 64},
                            {4, 2, 2}};

head_sizes heads_of(index_t number) {
  return heads[number % static_cast<index_t>(std::size(heads))];
}

/// [rows, count, E] with gaps between heads and between rows.
std::array<index_t, 3> spaced(index_t count, index_t E) {
  return strides(count * (E + 1) + 2, E + 1, 1);
}

template <class S>
struct sequences {
  index_t batch, T, H, G, E;
  guarded<S, 3> q, k, v, dout;

  sequences(index_t batch_, index_t T_, const head_sizes& sizes, double deviation = 1)
      : batch(batch_),
        T(T_),
        H(sizes.H),
        G(sizes.G),
        E(sizes.E),
        q(dims<3>{N(), H, E}, spaced(H, E), normal(N() * H * E, 1, deviation)),
        k(dims<3>{N(), G, E}, spaced(G, E), normal(N() * G * E, 2)),
        v(dims<3>{N(), G, E}, spaced(G, E), normal(N() * G * E, 3)),
        dout(dims<3>{N(), H, E}, spaced(H, E), normal(N() * H * E, 4)) {}

  index_t N() const { return batch * T; }

  /// Elements of out, then of the statistics.
  std::vector<S> forward(cpu_context& context) {
    guarded<S, 3> out(dims<3>{N(), H, E});
    guarded<S, 2> statistics(dims<2>{N(), 2 * H});
    attention_forward(context, out.view(), statistics.view(), q.view(), k.view(), v.view(), batch);
    return join(elements(out.view()), elements(statistics.view()));
  }
};

/// Errors of a row of probabilities, relative: from scores that are off by `score`, the exponential
/// (four roundings), the sum of T of them and the division.
template <class S>
double probability_error(double score, index_t T) {
  return std::expm1(2 * score) + gamma(static_cast<double>(T) + 12, unit_roundoff<S>);
}

/// What the error bounds of attention are made of.
template <class S>
struct error_terms {
  array<2> score;        ///< [N, H]: absolute error of the row's scores, scaling included
  array<2> probability;  ///< [N, H]: relative error of the row's probabilities
  double below;          ///< what a probability that underflows may be off, absolutely

  error_terms(const array<3>& q, const array<3>& k, index_t batch)
      : score({q.size(0), q.size(1)}),
        probability(score.sizes),
        below(4 * static_cast<double>(std::numeric_limits<S>::min())) {
    const index_t T = q.size(0) / batch, G = k.size(1);
    const array<3> q_terms = magnitude(q), k_terms = magnitude(k);
    for (index_t n = 0; n < q.size(0); ++n) {
      for (index_t h = 0; h < q.size(1); ++h) {
        double largest = 0;
        for (index_t s = 0; s <= n % T; ++s) {
          largest = std::max(
              largest,
              reference::score(q_terms, k_terms, n, h, n / T * T + s, h / (q.size(1) / G)));
        }
        score(n, h) = dot_bound(q.size(2) + 3, unit_roundoff<S>, largest);
        probability(n, h) = probability_error<S>(score(n, h), T);
      }
    }
  }
};

/// p[t, h, s] times the sum of what is given per row.
array<3> times(array<3> p, const array<2>& factor, double below) {
  for (index_t n = 0; n < p.size(0); ++n) {
    for (index_t h = 0; h < p.size(1); ++h) {
      for (index_t s = 0; s < p.size(2); ++s) {
        p(n, h, s) = p(n, h, s) * factor(n, h) + below;
      }
    }
  }
  return p;
}

TEST_CASE_TEMPLATE("attention_forward matches the reference", S, float, double) {
  cpu_context context({.threads = 2});
  for (index_t T = 1; T <= 70; ++T) {
    sequences<S> a(1 + T % 3, T, heads_of(T), T % 2 == 0 ? 1 : 4);
    CAPTURE(T);
    CAPTURE(a.H);
    CAPTURE(a.E);
    guarded<S, 3> out(dims<3>{a.N(), a.H, a.E}, spaced(a.H, a.E));
    guarded<S, 2> statistics(dims<2>{a.N(), 2 * a.H}, strides(2 * a.H + 3, 1));
    attention_forward(
        context, out.view(), statistics.view(), a.q.view(), a.k.view(), a.v.view(), a.batch);
    const array<3> q = array_of(a.q.view()), k = array_of(a.k.view()), v = array_of(a.v.view());
    const auto expected = reference::attend(q, k, a.batch);
    const error_terms<S> error(q, k, a.batch);
    array<2> factor = error.probability, stats({a.N(), 2 * a.H}), stats_bound(stats.sizes);
    for (index_t n = 0; n < a.N(); ++n) {
      for (index_t h = 0; h < a.H; ++h) {
        factor(n, h) += gamma(static_cast<double>(T) + 3, unit_roundoff<S>);
        stats(n, h) = expected.maximum(n, h);
        stats(n, a.H + h) = expected.inverse(n, h);
        stats_bound(n, h) = error.score(n, h);
        stats_bound(n, a.H + h) = error.probability(n, h) * expected.inverse(n, h);
      }
    }
    CHECK(within(
        out.view(),
        reference::attention_forward(expected.p, v, a.batch).elements,
        reference::attention_forward(times(expected.p, factor, error.below), magnitude(v), a.batch)
            .elements));
    CHECK(within(statistics.view(), stats.elements, stats_bound.elements));
    CHECK(out.intact());
    CHECK(statistics.intact());
    CHECK(a.q.untouched());
    CHECK(a.k.untouched());
    CHECK(a.v.untouched());
  }
}

TEST_CASE_TEMPLATE("attention_backward matches the reference", S, float, double) {
  cpu_context context({.threads = 2});
  for (const index_t T : {1, 2, 3, 7, 11, 12, 13, 15, 16, 17, 31, 32, 33, 47, 48, 49, 61, 70, 97}) {
    sequences<S> a(1 + T % 3, T, heads_of(T + 2));
    CAPTURE(T);
    CAPTURE(a.H);
    CAPTURE(a.E);
    guarded<S, 3> out(dims<3>{a.N(), a.H, a.E}, spaced(a.H, a.E));
    guarded<S, 2> statistics(dims<2>{a.N(), 2 * a.H});
    attention_forward(
        context, out.view(), statistics.view(), a.q.view(), a.k.view(), a.v.view(), a.batch);
    guarded<S, 3> dq(dims<3>{a.N(), a.H, a.E}, spaced(a.H, a.E));
    guarded<S, 3> dk(dims<3>{a.N(), a.G, a.E}, spaced(a.G, a.E));
    guarded<S, 3> dv(dims<3>{a.N(), a.G, a.E}, spaced(a.G, a.E));
    attention_backward(context,
                       dq.view(),
                       dk.view(),
                       dv.view(),
                       a.dout.view(),
                       a.q.view(),
                       a.k.view(),
                       a.v.view(),
                       out.view(),
                       statistics.view(),
                       a.batch);

    const array<3> q = array_of(a.q.view()), k = array_of(a.k.view()), v = array_of(a.v.view());
    const array<3> dout = array_of(a.dout.view());
    const auto p = reference::attend(q, k, a.batch).p;
    const array<3> dscores = reference::attention_backward_scores(p, dout, v, a.batch);
    const double scale = 1 / std::sqrt(static_cast<double>(a.E)), u = unit_roundoff<S>;
    const error_terms<S> error(q, k, a.batch);
    // |dp| and its mean are at most D = the largest |dout| . |v| of the row, so |dscores| <= 2 p D;
    // p enters dscores directly and through the mean, which out brings with the errors of its row.
    array<2> p_factor = error.probability, ds_factor = error.probability;
    const double sums = gamma(static_cast<double>(T * (a.H / a.G) + a.E) + 12, u);
    for (index_t n = 0; n < a.N(); ++n) {
      for (index_t h = 0; h < a.H; ++h) {
        double D = 0;
        for (index_t s = 0; s <= n % T; ++s) {
          double product = 0;
          for (index_t e = 0; e < a.E; ++e) {
            product += std::abs(dout(n, h, e) * v(n / T * T + s, h / (a.H / a.G), e));
          }
          D = std::max(D, product);
        }
        // The mean goes over |dout| sum p |v|, which D bounds only up to the number of positions.
        double mean = 0;
        for (index_t s = 0; s <= n % T; ++s) {
          for (index_t e = 0; e < a.E; ++e) {
            mean += p(n, h, s) * std::abs(dout(n, h, e) * v(n / T * T + s, h / (a.H / a.G), e));
          }
        }
        const double r = error.probability(n, h);
        p_factor(n, h) = r + sums;
        ds_factor(n, h) = scale * ((D + mean) * (r + 2 * sums) + mean * (r + sums));
      }
    }
    const array<3> p_error = times(p, p_factor, error.below);
    const array<3> ds_error = times(p, ds_factor, error.below);
    array<3> dq_expected = reference::attention_backward_query(dscores, k, a.batch);
    array<3> dk_expected = reference::attention_backward_positions(dscores, q, a.G, a.batch);
    for (double& element : dk_expected.elements) {
      element *= scale;
    }
    CHECK(within(dq.view(),
                 dq_expected.elements,
                 reference::attention_forward(ds_error, magnitude(k), a.batch).elements));
    CHECK(within(
        dk.view(),
        dk_expected.elements,
        reference::attention_backward_positions(ds_error, magnitude(q), a.G, a.batch).elements));
    CHECK(within(
        dv.view(),
        reference::attention_backward_positions(p, dout, a.G, a.batch).elements,
        reference::attention_backward_positions(p_error, magnitude(dout), a.G, a.batch).elements));
    CHECK(dq.intact());
    CHECK(dk.intact());
    CHECK(dv.intact());
    CHECK(a.dout.untouched());
  }
}

TEST_CASE("attention gradients match differences of the forward operation") {
  cpu_context context({.threads = 2});
  const head_sizes few{2, 1, 3}, many{6, 2, 17};
  for (const index_t T : {4, 53}) {
    sequences<double> a(2, T, T < 10 ? few : many);
    const dims<3> query{a.N(), a.H, a.E}, position{a.N(), a.G, a.E};
    guarded<double, 3> out(query), dq(query), dk(position), dv(position);
    guarded<double, 2> statistics(dims<2>{a.N(), 2 * a.H});
    const array<3> dout = array_of(a.dout.view());
    const auto loss = [&](guarded<double, 3>& q, guarded<double, 3>& k, guarded<double, 3>& v) {
      attention_forward(
          context, out.view(), statistics.view(), q.view(), k.view(), v.view(), a.batch);
      return reference::inner(dout, array_of(out.view()));
    };
    loss(a.q, a.k, a.v);
    attention_backward(context,
                       dq.view(),
                       dk.view(),
                       dv.view(),
                       a.dout.view(),
                       a.q.view(),
                       a.k.view(),
                       a.v.view(),
                       out.view(),
                       statistics.view(),
                       a.batch);
    const auto moved = [](const dims<3>& shape, std::span<const double> at) {
      return guarded<double, 3>(shape, std::vector<double>(at.begin(), at.end()));
    };
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          auto q = moved(query, at);
          return loss(q, a.k, a.v);
        },
        values(a.q.view()),
        values(dq.view())));
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          auto k = moved(position, at);
          return loss(a.q, k, a.v);
        },
        values(a.k.view()),
        values(dk.view())));
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          auto v = moved(position, at);
          return loss(a.q, a.k, v);
        },
        values(a.v.view()),
        values(dv.view())));
  }
}

TEST_CASE_TEMPLATE("attention gives the same bits for any number of threads", S, float, double) {
  for (const head_sizes& sizes : {head_sizes{6, 2, 33}, head_sizes{3, 3, 16}}) {
    sequences<S> a(3, 101, sizes);
    CHECK(same_for_all_threads([&](cpu_context& context) { return a.forward(context); }));
    CHECK(same_for_all_threads([&](cpu_context& context) {
      guarded<S, 3> out(dims<3>{a.N(), a.H, a.E}), dq(dims<3>{a.N(), a.H, a.E});
      guarded<S, 3> dk(dims<3>{a.N(), a.G, a.E}), dv(dims<3>{a.N(), a.G, a.E});
      guarded<S, 2> statistics(dims<2>{a.N(), 2 * a.H});
      attention_forward(
          context, out.view(), statistics.view(), a.q.view(), a.k.view(), a.v.view(), a.batch);
      attention_backward(context,
                         dq.view(),
                         dk.view(),
                         dv.view(),
                         a.dout.view(),
                         a.q.view(),
                         a.k.view(),
                         a.v.view(),
                         out.view(),
                         statistics.view(),
                         a.batch);
      return join(join(elements(dq.view()), elements(dk.view())), elements(dv.view()));
    }));
  }
}

TEST_CASE_TEMPLATE("attention_forward gives a sequence the same bits in any batch",
                   S,
                   float,
                   double) {
  cpu_context context({.threads = 2});
  for (const index_t T : {1, 13, 40}) {
    for (index_t batch = 1; batch <= 5; ++batch) {
      sequences<S> a(batch, T, heads_of(T + batch));
      guarded<S, 3> out(dims<3>{a.N(), a.H, a.E});
      guarded<S, 2> statistics(dims<2>{a.N(), 2 * a.H});
      attention_forward(
          context, out.view(), statistics.view(), a.q.view(), a.k.view(), a.v.view(), batch);
      for (index_t b = 0; b < batch; ++b) {
        CAPTURE(T);
        CAPTURE(batch);
        guarded<S, 3> alone(dims<3>{T, a.H, a.E});
        guarded<S, 2> own(dims<2>{T, 2 * a.H});
        attention_forward(context,
                          alone.view(),
                          own.view(),
                          a.q.view().slice(0, b * T, T),
                          a.k.view().slice(0, b * T, T),
                          a.v.view().slice(0, b * T, T),
                          1);
        CHECK(same_bits(alone.view(), out.view().slice(0, b * T, T)));
        CHECK(same_bits(own.view(), statistics.view().slice(0, b * T, T)));
      }
    }
  }
}

TEST_CASE_TEMPLATE("attention_forward gives a row the same bits however many rows follow",
                   S,
                   float,
                   double) {
  cpu_context context({.threads = 2});
  for (index_t number = 0; number < 5; ++number) {
    sequences<S> a(1, 200, heads_of(2 * number));
    guarded<S, 3> whole(dims<3>{200, a.H, a.E});
    guarded<S, 2> statistics(dims<2>{200, 2 * a.H});
    attention_forward(
        context, whole.view(), statistics.view(), a.q.view(), a.k.view(), a.v.view(), 1);
    for (index_t T = 1; T <= 70; ++T) {
      CAPTURE(T);
      guarded<S, 3> out(dims<3>{T, a.H, a.E});
      guarded<S, 2> own(dims<2>{T, 2 * a.H});
      attention_forward(context,
                        out.view(),
                        own.view(),
                        a.q.view().slice(0, 0, T),
                        a.k.view().slice(0, 0, T),
                        a.v.view().slice(0, 0, T),
                        1);
      CHECK(same_bits(out.view(), whole.view().slice(0, 0, T)));
      CHECK(same_bits(own.view(), statistics.view().slice(0, 0, T)));
    }
  }
}

/// Runs [first, end) of a sequence through a cache, `chunk(position)` rows at a time.
template <class S, class Chunk>
void run_cached(cpu_context& context,
                sequences<S>& a,
                std::span<S> cache,
                index_t capacity,
                guarded<S, 3>& out,
                index_t first,
                index_t end,
                const Chunk& chunk) {
  for (index_t t = first; t < end;) {
    const index_t rows = std::min(chunk(t), end - t);
    attention_cached_forward(context,
                             out.view().slice(0, t, rows),
                             cache_view<S, cpu>{cache.data(), capacity, a.G, a.E},
                             a.q.view().slice(0, t, rows),
                             a.k.view().slice(0, t, rows),
                             a.v.view().slice(0, t, rows),
                             positions_from(t, rows).view());
    t += rows;
  }
}

template <class S>
std::vector<S> stale_cache(const sequences<S>& a, index_t capacity) {
  return std::vector<S>(
      static_cast<std::size_t>(backend_traits<cpu>::ops::kv_storage<S>(capacity, a.G, a.E)),
      std::numeric_limits<S>::quiet_NaN());
}

TEST_CASE_TEMPLATE("attention_cached_forward in any chunks gives the bits of attention_forward",
                   S,
                   float,
                   double) {
  const random_stream random(mtp::seed{5}, 0);
  for (index_t number = 0; number < 11; ++number) {
    const index_t T = 131, capacity = number % 2 == 0 ? T : 150;
    sequences<S> a(1, T, heads_of(number));
    CAPTURE(a.H);
    CAPTURE(a.E);
    for (int threads = 1; threads <= 4; ++threads) {
      cpu_context context({.threads = threads});
      guarded<S, 3> whole(dims<3>{T, a.H, a.E}), out(dims<3>{T, a.H, a.E}, spaced(a.H, a.E));
      guarded<S, 2> statistics(dims<2>{T, 2 * a.H});
      attention_forward(
          context, whole.view(), statistics.view(), a.q.view(), a.k.view(), a.v.view(), 1);
      // What the cache holds before is not a number: reading it would show.
      auto cache = stale_cache(a, capacity);
      const auto chunks = [&](index_t t) -> index_t {
        return threads == 1 ? 1
                            : 1 + static_cast<index_t>(random.below(
                                      static_cast<std::uint64_t>(t + 1000 * number), 17));
      };
      run_cached<S>(context, a, cache, capacity, out, 0, T, chunks);
      CHECK(same_bits(out.view(), whole.view()));
      CHECK(out.intact());
      auto at_once = stale_cache(a, capacity);
      guarded<S, 3> all(dims<3>{T, a.H, a.E});
      run_cached<S>(context, a, at_once, capacity, all, 0, T, [&](index_t) { return T; });
      CHECK(same_bits(all.view(), whole.view()));
    }
  }
}

TEST_CASE_TEMPLATE("setting a cache back to a length forgets what lies behind it",
                   S,
                   float,
                   double) {
  cpu_context context({.threads = 2});
  for (index_t number = 0; number < 6; ++number) {
    const index_t T = 90;
    sequences<S> a(1, T, heads_of(number)), other(1, T, heads_of(number), 2);
    other.k.set(std::vector<double>(static_cast<std::size_t>(T * a.G * a.E),
                                    std::numeric_limits<double>::quiet_NaN()));
    other.v.set(values(other.k.view()));
    guarded<S, 3> expected(dims<3>{T, a.H, a.E}), out(dims<3>{T, a.H, a.E});
    auto fresh = stale_cache(a, T), rolled = stale_cache(a, T);
    const auto one = [](index_t) { return index_t{1}; };
    const auto five = [](index_t) { return index_t{5}; };
    run_cached<S>(context, a, fresh, T, expected, 0, T, one);
    run_cached<S>(context, a, rolled, T, out, 0, 37, one);
    guarded<S, 3> lost(dims<3>{T, a.H, a.E});
    run_cached<S>(context, other, rolled, T, lost, 37, 80, five);
    run_cached<S>(context, a, rolled, T, out, 37, T, five);
    CHECK(same_bits(out.view(), expected.view()));
  }
}

TEST_CASE_TEMPLATE("no position changes a bit of what stands before it", S, float, double) {
  cpu_context context({.threads = 1});
  for (index_t number = 0; number < 8; ++number) {
    const index_t T = 41;
    sequences<S> a(1, T, heads_of(number));
    guarded<S, 3> before(dims<3>{T, a.H, a.E}), after(dims<3>{T, a.H, a.E});
    guarded<S, 2> stats_before(dims<2>{T, 2 * a.H}), stats_after(dims<2>{T, 2 * a.H});
    attention_forward(
        context, before.view(), stats_before.view(), a.q.view(), a.k.view(), a.v.view(), 1);
    for (const S strange :
         {S{7}, std::numeric_limits<S>::quiet_NaN(), std::numeric_limits<S>::infinity()}) {
      for (const index_t s : {1, 5, 11, 12, 16, 23, 31, 32, 40}) {
        CAPTURE(s);
        sequences<S> changed(1, T, heads_of(number));
        for (index_t g = 0; g < a.G; ++g) {
          for (index_t e = 0; e < a.E; ++e) {
            changed.k.view()(s, g, e) = strange;
            changed.v.view()(s, g, e) = strange;
          }
        }
        attention_forward(context,
                          after.view(),
                          stats_after.view(),
                          changed.q.view(),
                          changed.k.view(),
                          changed.v.view(),
                          1);
        CHECK(same_bits(after.view().slice(0, 0, s), before.view().slice(0, 0, s)));
        CHECK(same_bits(stats_after.view().slice(0, 0, s), stats_before.view().slice(0, 0, s)));
        CHECK_FALSE(same_bits(after.view().slice(0, s, T - s), before.view().slice(0, s, T - s)));
        if (std::isnan(static_cast<double>(strange))) {
          const auto rest = values(after.view().slice(0, s, T - s));
          CHECK(std::all_of(rest.begin(), rest.end(), [](double x) { return std::isnan(x); }));
        }
      }
    }
  }
}

TEST_CASE("attention operations reject wrong shapes and change nothing") {
  using S = float;
  cpu_context context({.threads = 1});
  const index_t N = 6, H = 4, G = 2, E = 5, capacity = 8;
  const auto random = [](index_t rows, index_t count, index_t width) {
    return guarded<S, 3>(dims<3>{rows, count, width}, uniform(rows * count * width, 1));
  };
  auto q = random(N, H, E), k = random(N, G, E), v = random(N, G, E), dout = random(N, H, E);
  auto three = random(N, 3, E), longer = random(N + 1, G, E), wider = random(N, G, E + 1);
  guarded<S, 3> out(dims<3>{N, H, E}), dk(dims<3>{N, G, E}), dv(dims<3>{N, G, E});
  guarded<S, 3> spread(dims<3>{N, H, E}, strides(H * E * 2, E * 2, 2));
  guarded<S, 3> spread_k(dims<3>{N, G, E}, strides(G * E * 2, E * 2, 2));
  guarded<S, 2> statistics(dims<2>{N, 2 * H}), narrow(dims<2>{N, H});
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

  std::vector<S> memory(
      static_cast<std::size_t>(backend_traits<cpu>::ops::kv_storage<S>(capacity, G, E)), S{3});
  const auto cached =
      [&](auto out_, index_t groups, index_t width, auto q_, auto k_, auto v_, index_t first) {
        return rejects("attention_cached_forward", [&] {
          const cache_view<S, cpu> cache{memory.data(), capacity, groups, width};
          attention_cached_forward(
              context, out_, cache, q_, k_, v_, positions_from(first, q_.extent(0)).view());
        });
      };
  CHECK(cached(o, G, E, qs, ts, ts, 0));
  CHECK(cached(o, G, E, qs, ks, longer.view(), 0));
  CHECK(cached(ks, G, E, qs, ks, vs, 0));
  CHECK(cached(sp, G, E, qs, ks, vs, 0));
  CHECK(cached(o, G + 1, E, qs, ks, vs, 0));
  CHECK(cached(o, G, E + 1, qs, ks, vs, 0));
  CHECK(cached(o, G, E, qs, ks, vs, 3));
  CHECK(cached(o, G, E, qs, ks, vs, -1));
  CHECK(std::all_of(memory.begin(), memory.end(), [](S element) { return element == S{3}; }));
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

}  // namespace
