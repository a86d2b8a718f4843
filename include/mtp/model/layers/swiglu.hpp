// SwiGLU as a layer of a block (Shazeer 2020, arXiv 2002.05202, equation 6).
#pragma once

#include <algorithm>
#include <array>
#include <string>

#include "mtp/core/view.hpp"
#include "mtp/model/layer_kind.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/swiglu.hpp"

namespace mtp::inline MTP_ABI {

///     y = residual + W_down (silu(gate) * up),      [gate ; up] = W_gate_up x
///
/// The smallest layer, and the one to read first.
template <model_config Config,
          class Backend,
          scalar S,
          index_t Width = Config.feed_forward.intermediate_size>
struct swiglu_layer {
  static constexpr index_t C = Config.hidden_size;  ///< width of the stream
  static constexpr index_t F = Width;               ///< inner width

  using matrix = matrix_view<S, Backend>;              ///< rows of activations
  using input_matrix = matrix_view<const S, Backend>;  ///< rows of activations that are read

  /// Parameters, under the names of Hugging Face's Phi-3.
  struct layout {
    parameter gate_up;  ///< W_gate_up: gate, then up  [2 F, C]
    parameter down;     ///< W_down  [C, F]

    /// Takes their places from a parameter_cursor.
    template <class Cursor>
    static constexpr layout make(Cursor& cursor) {
      layout at;
      at.gate_up = cursor.matrix(2 * F, C).by_rows(F, F);
      at.down = cursor.matrix(C, F, parameter_role::residual).by_columns();
      return at;
    }
    /// visitor(prefix + name, parameter) for each of them.
    template <class Visitor>
    void visit(const std::string& prefix, Visitor&& visitor) const {
      visitor(prefix + "mlp.gate_up_proj.weight", gate_up);
      visitor(prefix + "mlp.down_proj.weight", down);
    }
  };

  /// See tensor_parallel_layer: none.
  static constexpr std::array<parameter, 0> summed_over_ranks(const layout&) { return {}; }

  /// What the forward pass keeps; N rows.
  struct activations {
    matrix gate_up;  ///< W_gate_up x  [N, 2 F]
    matrix gated;    ///< swiglu(gate_up)  [N, F]

    /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr activations make(Arena& arena, index_t N) {
      const matrix gate_up(arena.template take<S>(N * 2 * F), {N, 2 * F});
      return {gate_up, matrix(arena.template take<S>(N * F), {N, F})};
    }
  };
  /// Gradients that live only within a backward pass: of the same shapes.
  using scratch = activations;

  /// The most bytes of workspace that its operations need, in a training pass over N rows,
  /// sequences of `length`.
  static constexpr index_t workspace(index_t N, index_t length, index_t threads) {
    using ops = ops_of<Backend>;
    static_cast<void>(length);
    return (std::max)({ops::template linear_workspace<S>(N, 2 * F, C, threads),
                       ops::template linear_workspace<S>(N, C, F, threads),
                       ops::template row_workspace<S>(N, 2 * F, threads)});
  }
  /// The same for M rows while decoding.
  static constexpr index_t decode_workspace(index_t M, index_t threads) {
    using ops = ops_of<Backend>;
    return (std::max)({ops::template linear_forward_workspace<S>(M, 2 * F, C, threads),
                       ops::template linear_forward_workspace<S>(M, C, F, threads),
                       ops::template row_workspace<S>(M, 2 * F, threads)});
  }

  /// y [N, C] (=); x, residual [N, C]; y may be residual. A row has the same bits whatever stands
  /// beside it, so training and decoding share the function; a pass is a model_pass or a row_pass.
  template <class Pass>
  static void forward(const Pass& pass,
                      const layout& at,
                      const activations& a,
                      matrix y,
                      input_matrix x,
                      input_matrix residual) {
    linear_forward(pass.context, a.gate_up, x, pass.w.matrix(at.gate_up));
    swiglu_forward(pass.context, a.gated, a.gate_up);
    linear_add_forward(pass.context, y, a.gated, pass.w.matrix(at.down), residual);
  }

  /// dx [N, C] (=) of dy [N, C]; that of residual is dy itself. Gradients of parameters accumulate
  /// (+=).
  template <class Pass>
  static void backward(const Pass& pass,
                       const layout& at,
                       const activations& a,
                       const scratch& d,
                       matrix dx,
                       input_matrix dy,
                       input_matrix x) {
    linear_backward_weight(pass.context, pass.g.matrix(at.down), dy, a.gated);
    linear_backward_input(pass.context, d.gated, dy, pass.w.matrix(at.down));
    swiglu_backward(pass.context, d.gate_up, d.gated, a.gate_up);
    linear_backward_weight(pass.context, pass.g.matrix(at.gate_up), d.gate_up, x);
    linear_backward_input(pass.context, dx, d.gate_up, pass.w.matrix(at.gate_up));
  }
};

/// The layer of feed_forward_kind::swiglu.
template <>
struct feed_forward_traits<feed_forward_kind::swiglu> {
  /// Its class template.
  template <model_config Config, class Backend, scalar S>
  using layer = swiglu_layer<Config, Backend, S>;
};

}  // namespace mtp::inline MTP_ABI
