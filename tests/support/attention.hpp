// Sequences of queries, keys and values for tests of attention, and how far its results may be off.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "mtp/ops/attention.hpp"
#include "support/backends.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/attention.hpp"
#include "support/tolerance.hpp"

namespace mtp::test {

using reference::array;
using reference::array_of;
using reference::magnitude;

struct head_sizes {
  index_t H, G, E;
};

// One, two and three query heads per key/value head; E around vectors and panels.
inline const head_sizes few_heads[] = {{1, 1, 1},
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

inline head_sizes heads_of(index_t number) {
  return few_heads[number % static_cast<index_t>(std::size(few_heads))];
}

struct attention_sizes {
  index_t batch, T;
  head_sizes heads;
};

// Widths that matrix instructions take; lengths around their tiles of 16, 64 and 128 positions.
inline const attention_sizes matrix_sizes[] = {{2, 1, {2, 1, 16}},
                                               {3, 15, {4, 2, 32}},
                                               {1, 16, {2, 2, 64}},
                                               {2, 63, {3, 1, 16}},
                                               {1, 64, {2, 1, 128}},
                                               {1, 65, {4, 2, 64}},
                                               {1, 127, {2, 1, 96}},
                                               {1, 128, {1, 1, 128}},
                                               {2, 129, {2, 1, 32}},
                                               {1, 200, {2, 1, 128}}};

/// [rows, count, E] with gaps between heads and between rows. Odd numbers leave rows at multiples
/// of 16 bytes if E allows it.
inline std::array<index_t, 3> spaced(index_t count, index_t E, index_t number = 0) {
  const index_t gap = number % 2 == 0 ? 1 : 8;
  return strides(count * (E + gap) + 2 * gap, E + gap, 1);
}

template <class S, class B>
struct sequences {
  index_t batch, T, H, G, E, number;
  guarded<S, 3, B> q, k, v, dout;

  sequences(index_t batch_,
            index_t T_,
            const head_sizes& sizes,
            double deviation = 1,
            index_t number_ = 0)
      : batch(batch_),
        T(T_),
        H(sizes.H),
        G(sizes.G),
        E(sizes.E),
        number(number_),
        q(queries(), spaced(H, E, number), normal(N() * H * E, 1, deviation)),
        k(positions(), spaced(G, E, number), normal(N() * G * E, 2)),
        v(positions(), spaced(G, E, number), normal(N() * G * E, 3)),
        dout(queries(), spaced(H, E, number), normal(N() * H * E, 4)) {}

  index_t N() const { return batch * T; }
  dims<3> queries() const { return {N(), H, E}; }
  dims<3> positions() const { return {N(), G, E}; }

  guarded<S, 3, B> like_queries() const { return {queries(), spaced(H, E, number)}; }
  guarded<S, 3, B> like_positions() const { return {positions(), spaced(G, E, number)}; }
  guarded<accumulate_t<S>, 2, B> like_statistics() const {
    return {dims<2>{N(), 2 * H}, strides(2 * H + 3, 1)};
  }
};

/// Outputs of attention_forward or rope_attention_forward.
template <class S, class B>
struct attended {
  guarded<S, 3, B> out;
  guarded<accumulate_t<S>, 2, B> statistics;

  explicit attended(const sequences<S, B>& a)
      : out(a.like_queries()), statistics(a.like_statistics()) {}

  void forward(context<B>& context, sequences<S, B>& a) {
    attention_forward(
        context, out.view(), statistics.view(), a.q.view(), a.k.view(), a.v.view(), a.batch);
  }
  std::vector<double> elements() { return join(values(out.view()), values(statistics.view())); }
};

/// Outputs of attention_backward or rope_attention_backward.
template <class S, class B>
struct attention_gradients {
  guarded<S, 3, B> dq, dk, dv;

  explicit attention_gradients(const sequences<S, B>& a)
      : dq(a.like_queries()), dk(a.like_positions()), dv(a.like_positions()) {}

  void backward(context<B>& context, sequences<S, B>& a, attended<S, B>& forward) {
    attention_backward(context,
                       dq.view(),
                       dk.view(),
                       dv.view(),
                       a.dout.view(),
                       a.q.view(),
                       a.k.view(),
                       a.v.view(),
                       forward.out.view(),
                       forward.statistics.view(),
                       a.batch);
  }
  std::vector<double> elements() {
    return join(join(values(dq.view()), values(dk.view())), values(dv.view()));
  }
};

/// What backends round besides the sums.
template <class Case>
struct attention_rounding {
  using B = typename Case::backend;
  using S = typename Case::scalar;
  static constexpr bool is_bf16 = std::is_same_v<S, bf16>;
  /// Of sums. Matrix instructions align their terms and cut off, which costs up to two bits.
  static constexpr double u = is_bf16 ? 4 * unit_roundoff<float> : unit_roundoff<accumulate_t<S>>;
  /// Of probabilities, and of gradients of scores, before the product that follows.
  static constexpr double weight =
      is_bf16 && !backend_traits<B>::is_host_memory ? unit_roundoff<bf16> : 0;
  /// Of results that are read again.
  static constexpr double stored = is_bf16 ? unit_roundoff<bf16> : 0;
};

/// One relative error after another.
inline double compound(double a, double b) {
  return a + b + a * b;
}

/// Errors of a row of probabilities, relative: from scores that are off by `score`, the exponential
/// (four roundings), the sum of T of them and the division.
inline double probability_error(double score, index_t T, double u) {
  return std::expm1(2 * score) + gamma(static_cast<double>(T) + 12, u);
}

/// What the error bounds of attention are made of.
template <class Case>
struct error_terms {
  using rounding = attention_rounding<Case>;
  array<2> score;        ///< [N, H]: absolute error of the row's scores, scaling included
  array<2> probability;  ///< [N, H]: relative error of the row's probabilities
  double below;          ///< what a probability that underflows may be off, absolutely

  error_terms(const array<3>& q, const array<3>& k, index_t batch)
      : score({q.size(0), q.size(1)}),
        probability(score.sizes),
        below(4 * static_cast<double>(
                      std::numeric_limits<accumulate_t<typename Case::scalar>>::min())) {
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
        // Powers of two instead of e: the factor is rounded twice more.
        score(n, h) = dot_bound(q.size(2) + (rounding::is_bf16 ? 5 : 3), rounding::u, largest);
        probability(n, h) = probability_error(score(n, h), T, rounding::u);
      }
    }
  }
};

/// p[t, h, s] times what is given per row.
inline array<3> times(array<3> p, const array<2>& factor, double below) {
  for (index_t n = 0; n < p.size(0); ++n) {
    for (index_t h = 0; h < p.size(1); ++h) {
      for (index_t s = 0; s < p.size(2); ++s) {
        p(n, h, s) = p(n, h, s) * factor(n, h) + below;
      }
    }
  }
  return p;
}

template <class S>
std::vector<double> stored_bounds(const array<3>& values, const array<3>& errors) {
  std::vector<double> bounds;
  for (std::size_t i = 0; i < values.elements.size(); ++i) {
    bounds.push_back(std::is_same_v<S, bf16>
                         ? stored_bound<S>(values.elements[i], errors.elements[i])
                         : errors.elements[i]);
  }
  return bounds;
}

/// out and statistics of attention_forward for q and k as they are.
template <class Case>
struct expected_forward {
  using S = typename Case::scalar;
  using rounding = attention_rounding<Case>;
  reference::attention_probabilities p;
  array<3> out;
  array<2> statistics;
  std::vector<double> out_bounds, statistics_bounds;

  expected_forward(const array<3>& q, const array<3>& k, const array<3>& v, index_t batch)
      : p(reference::attend(q, k, batch)),
        out(reference::attention_forward(p.p, v, batch)),
        statistics({q.size(0), 2 * q.size(1)}) {
    const index_t N = q.size(0), H = q.size(1), T = N / batch;
    const error_terms<Case> error(q, k, batch);
    array<2> factor = error.probability, bound(statistics.sizes);
    for (index_t n = 0; n < N; ++n) {
      for (index_t h = 0; h < H; ++h) {
        factor(n, h) = compound(factor(n, h) + gamma(static_cast<double>(T) + 3, rounding::u),
                                rounding::weight);
        statistics(n, h) = p.maximum(n, h);
        statistics(n, H + h) = p.inverse(n, h);
        bound(n, h) = error.score(n, h);
        bound(n, H + h) = error.probability(n, h) * p.inverse(n, h);
      }
    }
    statistics_bounds = bound.elements;
    out_bounds = stored_bounds<S>(
        out, reference::attention_forward(times(p.p, factor, error.below), magnitude(v), batch));
  }
};

/// dq, dk and dv of attention_backward for q and k as they are.
template <class Case>
struct expected_backward {
  using S = typename Case::scalar;
  using rounding = attention_rounding<Case>;
  array<3> dq, dk, dv;
  array<3> dq_errors, dk_errors, dv_errors;

  expected_backward(
      const array<3>& q, const array<3>& k, const array<3>& v, const array<3>& dout, index_t batch)
      : dq(q.sizes),
        dk(k.sizes),
        dv(v.sizes),
        dq_errors(q.sizes),
        dk_errors(k.sizes),
        dv_errors(v.sizes) {
    const index_t N = q.size(0), H = q.size(1), E = q.size(2), G = k.size(1), T = N / batch;
    const index_t V = v.size(2);
    const auto p = reference::attend(q, k, batch).p;
    const array<3> dscores = reference::attention_backward_scores(p, dout, v, batch);
    const double scale = 1 / std::sqrt(static_cast<double>(E)), u = rounding::u;
    const error_terms<Case> error(q, k, batch);
    // |dp| and its mean are at most D = the largest |dout| . |v| of the row, so |dscores| <= 2 p D;
    // p enters dscores directly and through the mean, which out brings with the errors of its row.
    array<2> p_factor = error.probability, ds_factor = error.probability;
    const double sums = gamma(static_cast<double>(T * (H / G) + (std::max)(E, V)) + 12, u);
    for (index_t n = 0; n < N; ++n) {
      for (index_t h = 0; h < H; ++h) {
        double D = 0, mean = 0;
        for (index_t s = 0; s <= n % T; ++s) {
          double product = 0;
          for (index_t e = 0; e < V; ++e) {
            product += std::abs(dout(n, h, e) * v(n / T * T + s, h / (H / G), e));
          }
          D = std::max(D, product);
          // The mean goes over |dout| sum p |v|, which D bounds only up to the number of positions.
          mean += p(n, h, s) * product;
        }
        const double r = error.probability(n, h);
        const double r_out = compound(compound(r + sums, rounding::weight), rounding::stored);
        p_factor(n, h) = compound(r + sums, rounding::weight);
        ds_factor(n, h) =
            scale * ((D + mean) * compound(r + 2 * sums, rounding::weight) + mean * r_out);
      }
    }
    const array<3> p_error = times(p, p_factor, error.below);
    const array<3> ds_error = times(p, ds_factor, error.below);
    dq = reference::attention_backward_query(dscores, k, batch);
    dk = reference::attention_backward_positions(dscores, q, G, batch);
    for (double& element : dk.elements) {
      element *= scale;
    }
    dv = reference::attention_backward_positions(p, dout, G, batch);
    dq_errors = reference::attention_forward(ds_error, magnitude(k), batch);
    dk_errors = reference::attention_backward_positions(ds_error, magnitude(q), G, batch);
    dv_errors = reference::attention_backward_positions(p_error, magnitude(dout), G, batch);
  }
};

/// first, first + 1, .. in memory of a backend.
template <class B>
guarded<index_t, 1, B> positions_at(index_t first, index_t count) {
  std::vector<double> positions;
  for (index_t m = 0; m < count; ++m) {
    positions.push_back(static_cast<double>(first + m));
  }
  return {dims<1>{count}, positions};
}

/// A cache that holds what is not a number: reading it would show.
template <class S, class B>
class test_cache {
 public:
  test_cache(const sequences<S, B>& a, index_t capacity, index_t slots = 1)
      : capacity_(capacity),
        G_(a.G),
        E_(a.E),
        slots_(slots),
        stride_(ops_of<B>::template kv_storage<S>(capacity, a.G, a.E)),
        memory_(static_cast<std::size_t>(slots * stride_), poison<S>()) {}

  cache_view<S, B> view() { return {memory_.data(), capacity_, G_, E_, slots_, stride_}; }
  std::vector<S> elements() const {
    testing<B>::settle();
    return {memory_.begin(), memory_.end()};
  }

 private:
  index_t capacity_, G_, E_, slots_, stride_;
  std::vector<S, shared_allocator<S, B>> memory_;
};

}  // namespace mtp::test
