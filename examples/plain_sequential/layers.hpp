// The layers of model.hpp in plain loops: each forward pass, and behind it the backward pass. A
// backward pass adds to the gradients of parameters and returns that of its input. A matrix is its
// numbers, row by row; N is the number of rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace plain {

using index = std::size_t;
using numbers = std::vector<double>;

// Width of the model, heads and their width, width of the feed-forward layer.
constexpr index C = 20, H = 2, E = C / H, F = 34;
constexpr double epsilon = 1e-5f, theta = 10000;  // 1e-5 as a float has it

/// y[n, o] = sum over i of x[n, i] w[o, i], with I inputs i
inline numbers linear(const numbers& x, const numbers& w, index I) {
  const index N = x.size() / I, O = w.size() / I;
  numbers y(N * O);
  for (index n = 0; n < N; ++n)
    for (index o = 0; o < O; ++o)
      for (index i = 0; i < I; ++i) y[n * O + o] += x[n * I + i] * w[o * I + i];
  return y;
}
inline numbers linear_backward(
    numbers& dw, const numbers& dy, const numbers& x, const numbers& w, index I) {
  const index N = x.size() / I, O = w.size() / I;
  numbers dx(N * I);
  for (index n = 0; n < N; ++n)
    for (index o = 0; o < O; ++o)
      for (index i = 0; i < I; ++i) {
        dx[n * I + i] += dy[n * O + o] * w[o * I + i];
        dw[o * I + i] += dy[n * O + o] * x[n * I + i];
      }
  return dx;
}

/// y[n, c] = x[n, c] scale[c] r[n], r[n] = 1 / sqrt(epsilon + mean over c of x[n, c]^2)
inline double inverse_rms(const double* row) {
  double squares = 0;
  for (index c = 0; c < C; ++c) squares += row[c] * row[c];
  return 1 / std::sqrt(squares / C + epsilon);
}
inline numbers rms_norm(const numbers& x, const numbers& scale) {
  numbers y(x.size());
  for (index n = 0; n < x.size() / C; ++n) {
    const double r = inverse_rms(&x[n * C]);
    for (index c = 0; c < C; ++c) y[n * C + c] = x[n * C + c] * scale[c] * r;
  }
  return y;
}
inline numbers rms_norm_backward(numbers& dscale,
                                 const numbers& dy,
                                 const numbers& x,
                                 const numbers& scale) {
  numbers dx(x.size());
  for (index n = 0; n < x.size() / C; ++n) {
    const double r = inverse_rms(&x[n * C]);
    double dot = 0;
    for (index c = 0; c < C; ++c) dot += dy[n * C + c] * scale[c] * x[n * C + c];
    for (index c = 0; c < C; ++c) {
      const index i = n * C + c;
      dscale[c] += dy[i] * x[i] * r;
      dx[i] = r * (dy[i] * scale[c] - x[i] * r * r * dot / C);
    }
  }
  return dx;
}

// A row of qkv holds queries of all heads, then keys of all heads, then their values: 3 C numbers.

/// Rotates queries and keys of row t by t theta^(-2e / E), in place; with sign -1 back.
inline void rotate(numbers& qkv, double sign) {
  for (index t = 0; t < qkv.size() / (3 * C); ++t)
    for (index h = 0; h < 2 * H; ++h)
      for (index e = 0; e < E / 2; ++e) {
        const double power = -2.0 * static_cast<double>(e) / static_cast<double>(E);
        const double angle = sign * static_cast<double>(t) * std::pow(theta, power);
        double& a = qkv[t * 3 * C + h * E + e];
        double& b = qkv[t * 3 * C + h * E + e + E / 2];
        const double turned = a * std::cos(angle) - b * std::sin(angle);
        b = b * std::cos(angle) + a * std::sin(angle);
        a = turned;
      }
}

/// p[s] = softmax over s <= t of (q[t] . k[s]) / sqrt(E), for head h
inline numbers attention_weights(const numbers& qkv, index t, index h) {
  numbers p(t + 1);
  for (index s = 0; s <= t; ++s) {
    for (index e = h * E; e < (h + 1) * E; ++e) p[s] += qkv[t * 3 * C + e] * qkv[s * 3 * C + C + e];
    p[s] /= std::sqrt(E);
  }
  const double largest = *std::max_element(p.begin(), p.end());
  double sum = 0;
  for (double& value : p) {
    value = std::exp(value - largest);
    sum += value;
  }
  for (double& value : p) value /= sum;
  return p;
}
/// out[t] = sum over s <= t of p[s] v[s], for each head
inline numbers attention(const numbers& qkv) {
  numbers out(qkv.size() / 3);
  for (index t = 0; t < out.size() / C; ++t)
    for (index h = 0; h < H; ++h) {
      const numbers p = attention_weights(qkv, t, h);
      for (index s = 0; s <= t; ++s)
        for (index e = h * E; e < (h + 1) * E; ++e)
          out[t * C + e] += p[s] * qkv[s * 3 * C + 2 * C + e];
    }
  return out;
}
inline numbers attention_backward(const numbers& dout, const numbers& qkv) {
  numbers dqkv(qkv.size());
  for (index t = 0; t < dout.size() / C; ++t)
    for (index h = 0; h < H; ++h) {
      const numbers p = attention_weights(qkv, t, h);
      numbers dp(t + 1);
      double mean = 0;
      for (index s = 0; s <= t; ++s) {
        for (index e = h * E; e < (h + 1) * E; ++e) {
          dp[s] += dout[t * C + e] * qkv[s * 3 * C + 2 * C + e];
          dqkv[s * 3 * C + 2 * C + e] += dout[t * C + e] * p[s];
        }
        mean += p[s] * dp[s];
      }
      for (index s = 0; s <= t; ++s)
        for (index e = h * E; e < (h + 1) * E; ++e) {
          const double dscore = p[s] * (dp[s] - mean) / std::sqrt(E);
          dqkv[t * 3 * C + e] += dscore * qkv[s * 3 * C + C + e];
          dqkv[s * 3 * C + C + e] += dscore * qkv[t * 3 * C + e];
        }
    }
  return dqkv;
}

/// y = silu(gate) up, silu(x) = x / (1 + exp(-x)); a row of gate_up is F of gate, then F of up
inline numbers swiglu(const numbers& gate_up) {
  numbers y(gate_up.size() / 2);
  for (index i = 0; i < y.size(); ++i) {
    const index gate = i / F * 2 * F + i % F, up = gate + F;
    y[i] = gate_up[gate] / (1 + std::exp(-gate_up[gate])) * gate_up[up];
  }
  return y;
}
inline numbers swiglu_backward(const numbers& dy, const numbers& gate_up) {
  numbers dx(gate_up.size());
  for (index i = 0; i < dy.size(); ++i) {
    const index gate = i / F * 2 * F + i % F, up = gate + F;
    const double s = 1 / (1 + std::exp(-gate_up[gate]));
    dx[gate] = dy[i] * gate_up[up] * s * (1 + gate_up[gate] * (1 - s));
    dx[up] = dy[i] * gate_up[gate] * s;
  }
  return dx;
}

/// a + b
inline numbers sum(numbers a, const numbers& b) {
  for (index i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

}  // namespace plain
