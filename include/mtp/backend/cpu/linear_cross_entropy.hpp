// Output matrix, softmax and cross entropy in chunks of rows on the CPU. Contracts:
// ops/linear_cross_entropy.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "mtp/backend/cpu/linear.hpp"
#include "mtp/backend/cpu/run_product.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/backend/cpu/widened.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Rows of a chunk: 2^24 logits, but at least so many rows that reading and writing the weight's
/// gradient, which each chunk does, takes less time than what is multiplied. An even number, so
/// that pairs of rows of bf16 stay together.
constexpr index_t linear_cross_entropy_chunk(index_t rows, index_t vocabulary) {
  const index_t wanted = (index_t{1} << 24) / (vocabulary > 0 ? vocabulary : 1);
  return (std::min)(rows, std::clamp<index_t>(wanted / 2 * 2, 256, 1024));
}

/// The numbers that the softmax of one row needs.
template <real S>
struct row_statistics {
  S maximum;
  token_t argmax;  // the lowest index of the maximum, NaN never; -1 if all are NaN
  bool finite;
};

template <real S>
inline row_statistics<S> inspect_row(const S* logits, index_t V) {
  auto largest = broadcast<S>(-std::numeric_limits<S>::infinity());
  auto zeros = broadcast<S>(S{0});  // x - x: NaN for every x that is not finite
  index_t v = 0;
  for (; v + lanes<S> <= V; v += lanes<S>) {
    const auto value = load<S>(logits + v);
    largest = mtp::cpu_detail::maximum(largest, value);
    zeros = add(zeros, subtract(value, value));
  }
  S peak = maximum_of_lanes<S>(largest);
  S rest = sum_of_lanes<S>(zeros);
  for (; v < V; ++v) {
    peak = logits[v] > peak ? logits[v] : peak;
    rest += logits[v] - logits[v];
  }
  if (rest == S{0}) {
    const S* at = std::find(logits, logits + V, peak);
    return {peak, static_cast<token_t>(at - logits), true};
  }
  row_statistics<S> result{-std::numeric_limits<S>::infinity(), -1, false};
  for (v = 0; v < V; ++v) {
    if (logits[v] > result.maximum || (result.argmax < 0 && logits[v] == result.maximum)) {
      result.maximum = logits[v];
      result.argmax = static_cast<token_t>(v);
    }
  }
  return result;
}

/// The weights of the targets of a row: their sum, and whether one of them is not zero.
template <real S>
struct target_weights {
  S total = 0;
  bool any = false;

  target_weights(index_t r,
                 matrix_view<const token_t, cpu> targets,
                 const matrix_view<const S, cpu>* weights) {
    for (index_t j = 0; weights != nullptr && j < targets.extent(1); ++j) {
      const S weight = targets(r, j) >= 0 ? (*weights)(r, j) : S{0};
      total += weight;
      any = any || weight != S{0};
    }
  }
};

/// logits[v] = exp(logits[v] - maximum); returns their sum.
template <real S>
S exponentiate_row(S* logits, index_t V, S maximum) {
  const auto shift = broadcast<S>(-maximum);
  auto sums = broadcast<S>(S{0});
  index_t v = 0;
  for (; v + lanes<S> <= V; v += lanes<S>) {
    const auto e = exponential<S>(add(load<S>(logits + v), shift));
    store<S>(logits + v, e);
    sums = add(sums, e);
  }
  S sum = sum_of_lanes<S>(sums);
  for (; v < V; ++v) {
    logits[v] = std::exp(logits[v] - maximum);
    sum += logits[v];
  }
  return sum;
}

/// The gradient by the logits [first, first + V) of a row, in place of their exponentials.
template <real S>
void differentiate_row(S* exponentials,
                       index_t first,
                       index_t V,
                       S scale,
                       index_t r,
                       matrix_view<const token_t, cpu> targets,
                       matrix_view<const S, cpu> weights) {
  for_each_packet<S>(V, [&](auto read, auto write) {
    write(exponentials, multiply(read(exponentials), broadcast<S>(scale)));
  });
  for (index_t j = 0; j < targets.extent(1); ++j) {
    const index_t v = targets(r, j) - first;
    if (targets(r, j) >= 0 && v >= 0 && v < V) {
      exponentials[v] -= weights(r, j);
    }
  }
}

struct cpu_linear_cross_entropy_ops {
  using targets_view = matrix_view<const token_t, cpu>;

  template <factor S>
  static void linear_cross_entropy(cpu_context& context,
                                   matrix_view<accumulate_t<S>, cpu> losses,
                                   vector_view<token_t, cpu> predicted,
                                   matrix_view<S, cpu> dhidden,
                                   weight_view<accumulate_t<S>, cpu> dw,
                                   matrix_view<const S, cpu> hidden,
                                   weight_view<const S, cpu> w,
                                   targets_view targets,
                                   matrix_view<const accumulate_t<S>, cpu> weights) {
    with_gradients(
        context, dhidden, dw, hidden, w, score_rows(context, losses, predicted, targets, &weights));
  }

  template <factor S>
  static void linear_cross_entropy_forward(cpu_context& context,
                                           matrix_view<accumulate_t<S>, cpu> losses,
                                           vector_view<token_t, cpu> predicted,
                                           matrix_view<const S, cpu> hidden,
                                           weight_view<const S, cpu> w,
                                           targets_view targets) {
    const auto score = score_rows<accumulate_t<S>>(context, losses, predicted, targets, nullptr);
    for_each_chunk(
        context, hidden, w, false, score, [](index_t, index_t, matrix_view<const S, cpu>) {});
  }

  template <real S>
  static void predict(cpu_context& context,
                      vector_view<token_t, cpu> predicted,
                      matrix_view<const S, cpu> logits) {
    const index_t V = logits.extent(1);
    context.parallel_ranges(logits.extent(0), task_rows(V), [&](index_t begin, index_t end, int) {
      for (index_t m = begin; m < end; ++m) {
        predicted(m) = inspect_row(logits.data() + m * logits.stride(0), V).argmax;
      }
    });
  }

  template <class... Views>
  requires some_widened<Views...>
  static void linear_cross_entropy(cpu_context& context, Views... views) {
    run_widened(
        context, [&](auto... each) { linear_cross_entropy(context, each...); }, views...);
  }

  template <class... Views>
  requires some_widened<Views...>
  static void linear_cross_entropy_forward(cpu_context& context, Views... views) {
    run_widened(
        context, [&](auto... each) { linear_cross_entropy_forward(context, each...); }, views...);
  }

  template <class... Views>
  requires some_widened<Views...>
  static void predict(cpu_context& context, Views... views) {
    run_widened(
        context, [&](auto... each) { predict(context, each...); }, views...);
  }

  /// The most bytes of workspace that these operations need for `rows` rows.
  template <scalar S>
  static constexpr index_t linear_cross_entropy_workspace(index_t rows,
                                                          index_t vocabulary,
                                                          index_t width,
                                                          index_t threads) {
    const index_t logits = linear_cross_entropy_chunk(rows, vocabulary) * vocabulary;
    const index_t apart =
        arena_bytes(logits, sizeof(accumulate_t<S>)) +
        cpu_linear_ops::linear_workspace<factor_type<S>>(rows, vocabulary, width, threads);
    if constexpr (real<S>) {
      return apart;
    } else if constexpr (factor<S>) {
      return apart + arena_bytes(logits, sizeof(S));
    } else {
      return apart + widened_bytes<S>(weight_storage<S>(vocabulary, width)) +
             2 * widened_bytes<S>(rows * width);
    }
  }

  /// The most bytes of workspace that predict needs for logits [rows, V].
  template <scalar S>
  static constexpr index_t predict_workspace(index_t rows, index_t vocabulary, index_t) {
    return widened_bytes<S>(rows * vocabulary);
  }

  /// Gradients of rows that `score` gives the gradients of the logits of: see for_each_chunk.
  template <factor S, class Score>
  static void with_gradients(cpu_context& context,
                             matrix_view<S, cpu> dhidden,
                             weight_view<accumulate_t<S>, cpu> dw,
                             matrix_view<const S, cpu> hidden,
                             weight_view<const S, cpu> w,
                             const Score& score) {
    const arena::scope scope(context.workspace());
    S* const transposed =
        context.workspace().template take<S>(weight_storage<S>(w.inputs, w.outputs));
    transpose_weight(context, transposed, w.data, w.outputs, w.inputs);
    for_each_chunk(context,
                   hidden,
                   w,
                   true,
                   score,
                   [&](index_t first, index_t rows, matrix_view<const S, cpu> dlogits) {
                     if (dw.data != nullptr) {
                       cpu_linear_ops::linear_backward_weight<S>(
                           context, dw, dlogits, hidden.slice(0, first, rows));
                     }
                     run_product(context,
                                 cpu_linear_ops::input_gradient_product<S>(
                                     dhidden.slice(0, first, rows), dlogits, transposed));
                   });
  }

  /// Computes the logits of a chunk of rows and calls score(logits [rows, V], first row, rows,
  /// finish). It scores the rows; if it `differentiates`, it leaves the gradients of their logits
  /// in place and calls finish(r) for each row r of the chunk. Then calls gradient(first row, rows,
  /// gradients rounded to S).
  template <factor S, class Score, class Gradient>
  static void for_each_chunk(cpu_context& context,
                             matrix_view<const S, cpu> hidden,
                             weight_view<const S, cpu> w,
                             bool differentiates,
                             const Score& score,
                             const Gradient& gradient) {
    using A = accumulate_t<S>;
    const index_t R = hidden.extent(0), V = w.outputs;
    const arena::scope scope(context.workspace());
    const index_t chunk = linear_cross_entropy_chunk(R, V);
    A* const memory = context.workspace().template take<A>(chunk * V);
    S* rounded = nullptr;
    if constexpr (real<S>) {
      rounded = memory;
    } else if (differentiates) {
      rounded = context.workspace().template take<S>(chunk * V);
    }
    const auto finish = [&](index_t r) {
      if constexpr (!real<S>) {
        convert_row(rounded + r * V, memory + r * V, V);
      }
    };
    for (index_t first = 0; first < R; first += chunk) {
      const index_t rows = (std::min)(chunk, R - first);
      const matrix_view<A, cpu> logits(memory, {rows, V});
      run_product(context,
                  cpu_linear_ops::forward_product(logits, hidden.slice(0, first, rows), w));
      score(logits, first, rows, finish);
      gradient(first, rows, matrix_view<const S, cpu>(rounded, {rows, V}));
    }
  }

 private:
  /// Scores rows of whole logits: losses, and (with weights) gradients, in place.
  template <real A>
  static auto score_rows(cpu_context& context,
                         matrix_view<A, cpu> losses,
                         vector_view<token_t, cpu> predicted,
                         targets_view targets,
                         const matrix_view<const A, cpu>* weights) {
    return
        [=, &context](matrix_view<A, cpu> logits, index_t first, index_t rows, const auto& finish) {
          const index_t V = logits.extent(1);
          context.parallel_ranges(rows, task_rows(4 * V), [&](index_t begin, index_t end, int) {
            for (index_t r = begin; r < end; ++r) {
              score_row(&logits(r, 0), V, first + r, losses, predicted, targets, weights);
              if (weights != nullptr) {
                finish(r);
              }
            }
          });
        };
  }

  template <real S>
  static void score_row(S* logits,
                        index_t V,
                        index_t r,
                        matrix_view<S, cpu> losses,
                        vector_view<token_t, cpu> predicted,
                        targets_view targets,
                        const matrix_view<const S, cpu>* weights) {
    const row_statistics<S> row = inspect_row(logits, V);
    predicted(r) = row.argmax;
    const index_t J = targets.extent(1);
    const target_weights<S> weight(r, targets, weights);
    if (!row.finite) {  // no number is right, so loss and gradients are NaN
      for (index_t j = 0; j < J; ++j) {
        losses(r, j) = targets(r, j) >= 0 ? std::numeric_limits<S>::quiet_NaN() : S{0};
      }
      std::fill_n(logits, V, weight.any ? std::numeric_limits<S>::quiet_NaN() : S{0});
      return;
    }
    for (index_t j = 0; j < J; ++j) {  // until the exponentials overwrite them
      losses(r, j) = targets(r, j) >= 0 ? logits[targets(r, j)] : S{0};
    }
    const S sum = exponentiate_row(logits, V, row.maximum);
    const S log_sum = std::log(sum);
    for (index_t j = 0; j < J; ++j) {
      losses(r, j) = targets(r, j) >= 0
                         ? mtp::detail::cross_entropy_of(losses(r, j), row.maximum, log_sum)
                         : S{0};
    }
    if (weights != nullptr) {
      differentiate_row(logits, 0, V, weight.total / sum, r, targets, *weights);
    }
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
