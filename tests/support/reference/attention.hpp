// Reference of ops/attention.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/reference/array.hpp"

namespace mtp::test::reference {

/// (q[t, h] . k[s, g]) / sqrt(E), row indices into the whole batch
inline double score(
    const array<3>& q, const array<3>& k, index_t t, index_t h, index_t s, index_t g) {
  double sum = 0;
  for (index_t e = 0; e < q.size(2); ++e) {
    sum += q(t, h, e) * k(s, g, e);
  }
  return sum / std::sqrt(static_cast<double>(q.size(2)));
}

struct attention_probabilities {
  array<3> p;        ///< [N, H, T]: of position s of the row's own sequence; zero for s > t
  array<2> maximum;  ///< [N, H]: the largest score
  array<2> inverse;  ///< [N, H]: 1 / sum of exp(score - maximum)
};

inline attention_probabilities attend(const array<3>& q, const array<3>& k, index_t batch) {
  const index_t N = q.size(0), H = q.size(1), G = k.size(1), T = N / batch;
  attention_probabilities result{array<3>({N, H, T}), array<2>({N, H}), array<2>({N, H})};
  for (index_t n = 0; n < N; ++n) {
    const index_t row0 = n / T * T, t = n % T;
    for (index_t h = 0; h < H; ++h) {
      const index_t g = h / (H / G);
      double maximum = -std::numeric_limits<double>::infinity(), sum = 0;
      for (index_t s = 0; s <= t; ++s) {
        maximum = std::max(maximum, score(q, k, n, h, row0 + s, g));
      }
      for (index_t s = 0; s <= t; ++s) {
        result.p(n, h, s) = std::exp(score(q, k, n, h, row0 + s, g) - maximum);
        sum += result.p(n, h, s);
      }
      for (index_t s = 0; s <= t; ++s) {
        result.p(n, h, s) /= sum;
      }
      result.maximum(n, h) = maximum;
      result.inverse(n, h) = 1 / sum;
    }
  }
  return result;
}

/// out[t, h] = sum over s <= t of p[t, h, s] v[s, g]
inline array<3> attention_forward(const array<3>& p, const array<3>& v, index_t batch) {
  const index_t N = p.size(0), H = p.size(1), G = v.size(1), E = v.size(2), T = N / batch;
  array<3> out({N, H, E});
  for (index_t n = 0; n < N; ++n) {
    for (index_t h = 0; h < H; ++h) {
      for (index_t s = 0; s <= n % T; ++s) {
        for (index_t e = 0; e < E; ++e) {
          out(n, h, e) += p(n, h, s) * v(n / T * T + s, h / (H / G), e);
        }
      }
    }
  }
  return out;
}

/// dscores[t, h, s] = p (dp - sum over s' of p dp) with dp[t, h, s] = dout[t, h] . v[s, g]
inline array<3> attention_backward_scores(const array<3>& p,
                                          const array<3>& dout,
                                          const array<3>& v,
                                          index_t batch) {
  const index_t N = p.size(0), H = p.size(1), G = v.size(1), E = v.size(2), T = N / batch;
  array<3> dscores(p.sizes);
  for (index_t n = 0; n < N; ++n) {
    for (index_t h = 0; h < H; ++h) {
      double mean = 0;
      for (index_t s = 0; s <= n % T; ++s) {
        for (index_t e = 0; e < E; ++e) {
          dscores(n, h, s) += dout(n, h, e) * v(n / T * T + s, h / (H / G), e);
        }
        mean += p(n, h, s) * dscores(n, h, s);
      }
      for (index_t s = 0; s <= n % T; ++s) {
        dscores(n, h, s) = p(n, h, s) * (dscores(n, h, s) - mean);
      }
    }
  }
  return dscores;
}

/// dq[t, h] = sum over s <= t of dscores[t, h, s] k[s, g] / sqrt(E)
inline array<3> attention_backward_query(const array<3>& dscores,
                                         const array<3>& k,
                                         index_t batch) {
  array<3> dq = attention_forward(dscores, k, batch);
  for (double& element : dq.elements) {
    element /= std::sqrt(static_cast<double>(k.size(2)));
  }
  return dq;
}

/// to[s, g] = sum over h of the group and t >= s of weights[t, h, s] from[t, h]: dv with weights =
/// p and from = dout, dk sqrt(E) with weights = dscores and from = q.
inline array<3> attention_backward_positions(const array<3>& weights,
                                             const array<3>& from,
                                             index_t groups,
                                             index_t batch) {
  const index_t N = from.size(0), H = from.size(1), E = from.size(2), T = N / batch;
  array<3> to({N, groups, E});
  for (index_t n = 0; n < N; ++n) {
    for (index_t h = 0; h < H; ++h) {
      for (index_t s = 0; s <= n % T; ++s) {
        for (index_t e = 0; e < E; ++e) {
          to(n / T * T + s, h / (H / groups), e) += weights(n, h, s) * from(n, h, e);
        }
      }
    }
  }
  return to;
}

}  // namespace mtp::test::reference
