// Causal grouped-query attention, one row at a time. Contracts:
// mtp/ops/attention.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "rows.hpp"

namespace naive_types {

struct attention_ops {
  static void attention_forward(
      context&, heads out, matrix statistics, in_heads q, in_heads k, in_heads v, index_t batch) {
    const index_t T = q.extent(0) / batch, H = q.extent(1), group = H / k.extent(1);
    for (index_t n = 0; n < q.extent(0); ++n) {
      for (index_t h = 0; h < H; ++h) {
        const index_t first = n - n % T, g = h / group;
        const auto [largest, inverse] = attend(
            &out(n, h, 0),
            &q(n, h, 0),
            q.extent(2),
            n - first + 1,
            [&](index_t s) { return &k(first + s, g, 0); },
            [&](index_t s) { return &v(first + s, g, 0); });
        statistics(n, h) = largest;
        statistics(n, H + h) = inverse;
      }
    }
  }

  static void attention_backward(context&,
                                 heads dq,
                                 heads dk,
                                 heads dv,
                                 in_heads dout,
                                 in_heads q,
                                 in_heads k,
                                 in_heads v,
                                 in_heads out,
                                 in_matrix statistics,
                                 index_t batch) {
    const index_t N = q.extent(0), T = N / batch, H = q.extent(1), E = q.extent(2);
    const double scale = 1 / std::sqrt(static_cast<double>(E));
    for (const heads& d : {dq, dk, dv}) {
      for (index_t i = 0; i < d.count(); ++i) element(d, i) = 0;
    }
    for (index_t n = 0; n < N; ++n) {
      for (index_t h = 0; h < H; ++h) {
        const index_t g = h / (H / k.extent(1));
        const double drow = dot(&dout(n, h, 0), &out(n, h, 0), E);  // sum over s of p dp
        for (index_t s = n - n % T; s <= n; ++s) {
          const double score = dot(&q(n, h, 0), &k(s, g, 0), E) * scale;
          const double p = std::exp(score - statistics(n, h)) * statistics(n, H + h);
          const double dscore = p * (dot(&dout(n, h, 0), &v(s, g, 0), E) - drow) * scale;
          for (index_t e = 0; e < E; ++e) {
            dv(s, g, e) += p * dout(n, h, e);
            dq(n, h, e) += dscore * k(s, g, e);
            dk(s, g, e) += dscore * q(n, h, e);
          }
        }
      }
    }
  }

  /// A cache is [2, G, capacity, E]: keys, then values.
  template <mtp::scalar S>
  static constexpr index_t kv_storage(index_t capacity, index_t G, index_t E) {
    return 2 * G * capacity * E;
  }

  static void attention_cached_forward(context&,
                                       heads out,
                                       cache kept,
                                       in_heads q,
                                       in_heads k,
                                       in_heads v,
                                       in_positions where,
                                       runs sequences) {
    index_t first = 0;
    for (const mtp::row_run& run : sequences) {
      for (index_t m = first; m < first + run.rows; ++m) {
        attend_cached(out, kept.at(run.slot), q, k, v, m, where(m));
      }
      first += run.rows;
    }
  }

 private:
  /// Row m of a sequence, whose cache is given.
  static void attend_cached(
      heads out, cache kept, in_heads q, in_heads k, in_heads v, index_t m, index_t position) {
    const index_t E = q.extent(2), G = k.extent(1), group = q.extent(1) / G;
    const auto at = [&](index_t which, index_t g, index_t s) {
      return kept.data + ((which * G + g) * kept.capacity + s) * E;
    };
    for (index_t g = 0; g < G; ++g) {
      std::copy_n(&k(m, g, 0), E, at(0, g, position));
      std::copy_n(&v(m, g, 0), E, at(1, g, position));
    }
    for (index_t h = 0; h < q.extent(1); ++h) {
      attend(
          &out(m, h, 0),
          &q(m, h, 0),
          E,
          position + 1,
          [&](index_t s) { return at(0, h / group, s); },
          [&](index_t s) { return at(1, h / group, s); });
    }
  }

  struct softmax_parts {
    double largest;  // of the scores
    double inverse;  // of the sum of their exponentials
  };

  static double dot(const double* a, const double* b, index_t count) {
    double sum = 0;
    for (index_t e = 0; e < count; ++e) sum += a[e] * b[e];
    return sum;
  }

  /// out [E] = values of `count` positions, weighed by the softmax of q's products with their keys.
  /// The same for a sequence and for a cache, so both give the same bits.
  template <class Key, class Value>
  static softmax_parts attend(
      double* out, const double* q, index_t E, index_t count, const Key& key, const Value& value) {
    std::vector<double> p(static_cast<std::size_t>(count));
    const double scale = 1 / std::sqrt(static_cast<double>(E));
    for (index_t s = 0; s < count; ++s) p[static_cast<std::size_t>(s)] = dot(q, key(s), E) * scale;
    const double largest = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (double& score : p) sum += score = std::exp(score - largest);
    for (index_t e = 0; e < E; ++e) {
      double weighed = 0;
      for (index_t s = 0; s < count; ++s) weighed += p[static_cast<std::size_t>(s)] * value(s)[e];
      out[e] = weighed / sum;
    }
    return {largest, 1 / sum};
  }
};

}  // namespace naive_types
