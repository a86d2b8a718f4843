// The loss, and the step of the optimizer. Contracts: mtp/ops/linear_cross_entropy.hpp,
// optimizer.hpp.
#pragma once

#include <cmath>
#include <vector>

#include "mtp/ops/optimizer.hpp"
#include "naive.hpp"

namespace naive_types {

using in_targets = mtp::matrix_view<const token_t, naive>;

struct loss_ops {
  static void linear_cross_entropy(context&,
                                   matrix losses,
                                   tokens predicted,
                                   matrix dhidden,
                                   weight dw,
                                   in_matrix hidden,
                                   in_weight w,
                                   in_targets targets,
                                   in_matrix weights) {
    const index_t V = w.outputs, C = w.inputs;
    for (index_t r = 0; r < hidden.extent(0); ++r) {
      const std::vector<double> p = score_row(losses, predicted, hidden, w, targets, r);  // [V]
      std::vector<double> dz(p.size());                                                   // [V]
      bool counts = false;  // a row without weight gives no gradient, whatever its logits are
      for (index_t j = 0; j < targets.extent(1); ++j) {
        if (targets(r, j) < 0 || weights(r, j) == 0) continue;
        counts = true;
        for (std::size_t i = 0; i < dz.size(); ++i) dz[i] += weights(r, j) * p[i];
        dz[static_cast<std::size_t>(targets(r, j))] -= weights(r, j);
      }
      for (index_t v = 0; counts && dw.data != nullptr && v < V; ++v) {
        const double d = dz[static_cast<std::size_t>(v)];
        for (index_t c = 0; c < C; ++c) dw(v, c) += d * hidden(r, c);
      }
      for (index_t c = 0; c < C; ++c) {  // behind dw, because dhidden may be hidden
        double sum = 0;
        for (index_t v = 0; counts && v < V; ++v) sum += dz[static_cast<std::size_t>(v)] * w(v, c);
        dhidden(r, c) = sum;
      }
    }
  }

  static void linear_cross_entropy_forward(context&,
                                           matrix losses,
                                           tokens predicted,
                                           in_matrix hidden,
                                           in_weight w,
                                           in_targets targets) {
    for (index_t r = 0; r < hidden.extent(0); ++r) {
      score_row(losses, predicted, hidden, w, targets, r);
    }
  }

  static void predict(context&, tokens predicted, in_matrix logits) {
    for (index_t m = 0; m < logits.extent(0); ++m) {
      predicted(m) = most_likely(&logits(m, 0), logits.extent(1));
    }
  }

  static void sum_of_squares(context&, vector result, in_vector x) {
    double sum = 0;
    for (index_t i = 0; i < x.extent(0); ++i) sum += x(i) * x(i);
    result(0) = sum;
  }

  static void adamw_update(context&,
                           vector value,
                           vector,  // master: value itself, because sums of f64 are f64
                           vector first,
                           vector second,
                           in_vector gradient,
                           mtp::vector_view<const mtp::adamw_range, naive> ranges,
                           const mtp::adamw_coefficients& k) {
    for (index_t r = 0; r < ranges.extent(0); ++r) {
      const double decay = ranges(r).decays != 0 ? k.weight_decay : 0;
      for (index_t p = ranges(r).begin; p < ranges(r).begin + ranges(r).count; ++p) {
        const double g = k.gradient_scale * gradient(p);
        first(p) = k.beta1 * first(p) + (1 - k.beta1) * g;
        second(p) = k.beta2 * second(p) + (1 - k.beta2) * g * g;
        const double step = first(p) / k.correction1;
        const double root = std::sqrt(second(p) / k.correction2);
        const double delta = std::isinf(root) ? 0 : step / (root + k.epsilon);
        value(p) -= k.learning_rate * (decay * value(p) + delta);
      }
    }
  }

 private:
  /// The lowest index of the largest of z [V]; NaN never wins, and -1 stands for nothing but NaN.
  static token_t most_likely(const double* z, index_t V) {
    index_t best = -1;
    for (index_t v = 0; v < V; ++v) {
      if (best < 0 ? !std::isnan(z[v]) : z[v] > z[best]) best = v;
    }
    return static_cast<token_t>(best);
  }

  /// Losses and prediction of row r; returns the softmax of its logits.  [V]
  static std::vector<double> score_row(matrix losses,
                                       tokens predicted,
                                       in_matrix hidden,
                                       in_weight w,
                                       in_targets targets,
                                       index_t r) {
    std::vector<double> z(static_cast<std::size_t>(w.outputs));  // [V]
    for (index_t v = 0; v < w.outputs; ++v) {
      for (index_t c = 0; c < w.inputs; ++c)
        z[static_cast<std::size_t>(v)] += w(v, c) * hidden(r, c);
    }
    predicted(r) = most_likely(z.data(), w.outputs);
    double largest = predicted(r) < 0 ? NAN : z[static_cast<std::size_t>(predicted(r))];
    for (const double logit : z) {
      if (!std::isfinite(logit)) largest = NAN;  // and with it everything that the row gives
    }
    double sum = 0;
    for (const double logit : z) sum += std::exp(logit - largest);
    const double log_sum = std::log(sum);
    for (index_t j = 0; j < targets.extent(1); ++j) {
      const token_t t = targets(r, j);
      losses(r, j) = t < 0 ? 0 : log_sum - (z[static_cast<std::size_t>(t)] - largest);
    }
    for (double& logit : z) logit = std::exp(logit - largest) / sum;
    return z;
  }
};

}  // namespace naive_types
