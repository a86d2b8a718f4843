// Reference of model/layers/multi_head_latent_attention.hpp, for one sequence and in both forms.
// Each number carries how far the layer may be off: running error analysis (Higham 2002, section
// 3.3) with the rounding errors of the sums of each step.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <type_traits>
#include <vector>

#include "mtp/core/scalar.hpp"
#include "support/reference/array.hpp"
#include "support/tolerance.hpp"

namespace mtp::test::reference {

/// Rows of numbers, and how far each may be off.
struct tracked {
  array<2> value, error;

  tracked(index_t rows, index_t columns) : value({rows, columns}), error({rows, columns}) {}
  index_t rows() const { return value.size(0); }
  index_t columns() const { return value.size(1); }
};

/// Roundings of arithmetic with elements S: of sums, and of what is stored.
template <scalar S>
struct tracked_arithmetic {
  static constexpr bool is_bf16 = std::is_same_v<S, bf16>;
  static constexpr double u = unit_roundoff<accumulate_t<S>> * (is_bf16 ? 2 : 1);
  static constexpr double stored = is_bf16 ? unit_roundoff<S> : 0;

  static void store(double value, double& error) { error += stored * (std::abs(value) + error); }

  /// y = x w^T of columns [first, first + K) of x and rows [row, row + N) of w
  static tracked linear(
      const tracked& x, index_t first, const array<2>& w, index_t row, index_t N) {
    const index_t K = w.size(1);
    tracked y(x.rows(), N);
    for (index_t m = 0; m < y.rows(); ++m) {
      for (index_t n = 0; n < N; ++n) {
        double terms = 0, error = 0;
        for (index_t k = 0; k < K; ++k) {
          const double weight = w(row + n, k);
          y.value(m, n) += weight * x.value(m, first + k);
          error += std::abs(weight) * x.error(m, first + k);
          terms += std::abs(weight) * (std::abs(x.value(m, first + k)) + x.error(m, first + k));
        }
        y.error(m, n) = error + gamma(static_cast<double>(K + 1), u) * terms;
        store(y.value(m, n), y.error(m, n));
      }
    }
    return y;
  }

  /// Columns [first, first + count) through an RMSNorm; the others are left out.
  static tracked norm(const tracked& x, index_t count, const array<1>& scale, double epsilon) {
    tracked y(x.rows(), count);
    for (index_t m = 0; m < x.rows(); ++m) {
      double mean = epsilon, off = 0;
      for (index_t c = 0; c < count; ++c) {
        const double value = x.value(m, c), error = x.error(m, c);
        mean += value * value / static_cast<double>(count);
        off += (2 * std::abs(value) * error + error * error) / static_cast<double>(count);
      }
      const double r = 1 / std::sqrt(mean);
      const double relative = off / mean + gamma(static_cast<double>(count) + 8, u);
      for (index_t c = 0; c < count; ++c) {
        y.value(m, c) = x.value(m, c) * r * scale(c);
        y.error(m, c) = std::abs(r * scale(c)) * (1 + relative) *
                        (x.error(m, c) + std::abs(x.value(m, c)) * (relative + gamma(3, u)));
        store(y.value(m, c), y.error(m, c));
      }
    }
    return y;
  }

  /// Rotates columns [first, first + r) of row m to position m. table [P, r]
  static void rotate(tracked& x, index_t first, index_t r, const array<2>& table) {
    for (index_t m = 0; m < x.rows(); ++m) {
      for (index_t e = first; e < first + r / 2; ++e) {
        const double c = table(m, e - first), s = table(m, e - first + r / 2);
        const double a = x.value(m, e), b = x.value(m, e + r / 2);
        const double a_off = x.error(m, e), b_off = x.error(m, e + r / 2);
        const auto turn =
            [&](double x0, double off0, double x1, double off1, double sign, index_t to) {
              x.value(m, to) = x0 * c + sign * x1 * s;
              x.error(m, to) = std::abs(c) * off0 + std::abs(s) * off1 +
                               gamma(4, u) * (std::abs(x0 * c) + std::abs(x1 * s) + off0 + off1);
              store(x.value(m, to), x.error(m, to));
            };
        turn(a, a_off, b, b_off, -1, e);
        turn(b, b_off, a, a_off, 1, e + r / 2);
      }
    }
  }

  /// Causal attention of one head: `width` columns of queries and keys, `value_width` of values.
  static tracked attend(
      const tracked& q, const tracked& k, const tracked& v, double scale, index_t value_width) {
    const index_t T = q.rows(), width = q.columns();
    tracked out(T, value_width);
    for (index_t t = 0; t < T; ++t) {
      std::vector<double> p(static_cast<std::size_t>(t + 1));
      double largest = -HUGE_VAL, off = 0, total = 0, most = 0;
      for (index_t s = 0; s <= t; ++s) {
        double score = 0, error = 0, terms = 0;
        for (index_t e = 0; e < width; ++e) {
          const double a = q.value(t, e), b = k.value(s, e);
          const double a_off = q.error(t, e), b_off = k.error(s, e);
          score += a * b;
          error += std::abs(a) * b_off + std::abs(b) * a_off + a_off * b_off;
          terms += (std::abs(a) + a_off) * (std::abs(b) + b_off);
        }
        p[static_cast<std::size_t>(s)] = score * scale;
        largest = std::max(largest, score * scale);
        most = std::max(most, std::abs(score * scale));
        off = std::max(off, scale * (error + gamma(static_cast<double>(width) + 5, u) * terms));
      }
      // A factor for each block of positions, whose argument is a difference of scores.
      const double blocks = static_cast<double>(T) / 32 + 1;
      off += blocks * 2 * u * most;
      for (double& each : p) total += each = std::exp(each - largest);
      const double relative =
          std::expm1(2 * off) + gamma(2 * static_cast<double>(T) + 15 + 8 * blocks, u);
      for (index_t s = 0; s <= t; ++s) {
        const double weight = p[static_cast<std::size_t>(s)] / total;
        for (index_t e = 0; e < value_width; ++e) {
          out.value(t, e) += weight * v.value(s, e);
          out.error(t, e) +=
              weight * (relative * (std::abs(v.value(s, e)) + v.error(s, e)) + v.error(s, e));
        }
      }
      for (index_t e = 0; e < value_width; ++e) store(out.value(t, e), out.error(t, e));
    }
    return out;
  }
};

/// Columns [first, first + count) of x, then those of `more` from `other` on.
inline tracked side_by_side(
    const tracked& x, index_t first, index_t count, const tracked& more, index_t other, index_t r) {
  tracked all(x.rows(), count + r);
  for (index_t m = 0; m < x.rows(); ++m) {
    for (index_t e = 0; e < count + r; ++e) {
      all.value(m, e) = e < count ? x.value(m, first + e) : more.value(m, other + e - count);
      all.error(m, e) = e < count ? x.error(m, first + e) : more.error(m, other + e - count);
    }
  }
  return all;
}

/// The parameters of a layer, row by row.
struct latent_parameters {
  index_t H, n, r, V, rank;
  bool has_query_rank;
  double scale, epsilon;
  array<2> query_down, query, down, key, value, output, rope;  // rope [P, r]
  array<1> query_norm, norm;
};

/// residual + layer(x), of the full form or with absorbed matrices.
template <scalar S>
tracked multi_head_latent_attention(const latent_parameters& w,
                                    const array<2>& x_rows,
                                    const array<2>& residual,
                                    bool absorbed) {
  using arithmetic = tracked_arithmetic<S>;
  const index_t T = x_rows.size(0), C = x_rows.size(1), E = w.n + w.r;
  tracked x(T, C);
  x.value = x_rows;
  tracked q(0, 0);
  if (w.has_query_rank) {
    const index_t rank = w.query_down.size(0);
    const tracked lower = arithmetic::norm(
        arithmetic::linear(x, 0, w.query_down, 0, rank), rank, w.query_norm, w.epsilon);
    q = arithmetic::linear(lower, 0, w.query, 0, w.H * E);
  } else {
    q = arithmetic::linear(x, 0, w.query, 0, w.H * E);
  }
  tracked raw = arithmetic::linear(x, 0, w.down, 0, w.rank + w.r);
  const tracked c = arithmetic::norm(raw, w.rank, w.norm, w.epsilon);
  arithmetic::rotate(raw, w.rank, w.r, w.rope);
  tracked attended(T, w.H * w.V);
  for (index_t h = 0; h < w.H; ++h) {
    arithmetic::rotate(q, h * E + w.n, w.r, w.rope);
    tracked own(T, w.V);
    if (absorbed) {
      array<2> turned({w.rank, w.n});  // U_h^T
      for (index_t k = 0; k < w.rank; ++k) {
        for (index_t i = 0; i < w.n; ++i) turned(k, i) = w.key(h * w.n + i, k);
      }
      const tracked up = arithmetic::linear(q, h * E, turned, 0, w.rank);
      const tracked key = side_by_side(c, 0, w.rank, raw, w.rank, w.r);
      const tracked weighed = arithmetic::attend(
          side_by_side(up, 0, w.rank, q, h * E + w.n, w.r), key, c, w.scale, w.rank);
      own = arithmetic::linear(weighed, 0, w.value, h * w.V, w.V);
    } else {
      const tracked key = arithmetic::linear(c, 0, w.key, h * w.n, w.n);
      own = arithmetic::attend(side_by_side(q, h * E, w.n, q, h * E + w.n, w.r),
                               side_by_side(key, 0, w.n, raw, w.rank, w.r),
                               arithmetic::linear(c, 0, w.value, h * w.V, w.V),
                               w.scale,
                               w.V);
    }
    for (index_t t = 0; t < T; ++t) {
      for (index_t e = 0; e < w.V; ++e) {
        attended.value(t, h * w.V + e) = own.value(t, e);
        attended.error(t, h * w.V + e) = own.error(t, e);
      }
    }
  }
  tracked y = arithmetic::linear(attended, 0, w.output, 0, C);
  for (index_t t = 0; t < T; ++t) {
    for (index_t c0 = 0; c0 < C; ++c0) {
      y.value(t, c0) += residual(t, c0);
      // The sum starts from the residual.
      y.error(t, c0) +=
          gamma(static_cast<double>(w.H * w.V + 2), arithmetic::u) * std::abs(residual(t, c0));
      arithmetic::store(residual(t, c0), y.error(t, c0));
    }
  }
  return y;
}

}  // namespace mtp::test::reference
