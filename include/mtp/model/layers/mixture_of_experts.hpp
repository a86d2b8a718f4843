// A mixture of experts as a layer of a block (DeepSeekMoE, Dai et al. 2024, arXiv 2401.06066;
// DeepSeek-V3, arXiv 2412.19437, section 2.1.2; Mixtral, arXiv 2401.04088; Qwen3, arXiv
// 2505.09388).
#pragma once

#include <algorithm>
#include <string>

#include "mtp/core/view.hpp"
#include "mtp/model/layer_kind.hpp"
#include "mtp/model/layers/swiglu.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/ops/expert_rows.hpp"
#include "mtp/ops/grouped_linear.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/route.hpp"
#include "mtp/ops/swiglu.hpp"

namespace mtp::inline MTP_ABI {

///     y = residual + FFN_shared(x) + sum over the experts e of a row of weight_e FFN_e(x)
///
/// where an FFN is a SwiGLU, and the k experts of a row and their weights are those of
/// ops/route.hpp for the logits W_gate x. Every row goes to all of its experts, however many others
/// go there, so what a row gets does not depend on the batch.
template <model_config Config, class Backend, scalar S>
struct mixture_of_experts_layer {
  static constexpr feed_forward_config settings = Config.feed_forward;  ///< of the layer
  static constexpr index_t C = Config.hidden_size;                      ///< width of the stream
  static constexpr index_t E = settings.n_routed_experts;               ///< experts
  static constexpr index_t k = settings.num_experts_per_tok;            ///< experts of a row
  static constexpr index_t F = settings.moe_intermediate_size;          ///< width of an expert
  /// Whether there are experts for every row.
  static constexpr bool has_shared = settings.n_shared_experts > 0;
  /// The experts for every row, as one layer.
  using shared_layer = swiglu_layer<Config, Backend, S, settings.n_shared_experts * F>;

  static_assert(weight_view<S, Backend>::splits_at(2 * F) && weight_view<S, Backend>::splits_at(C),
                "model_config: in a mixture of experts hidden_size and 2 moe_intermediate_size "
                "must be multiples of 32, so that an expert's outputs are a part of one matrix");

  /// How experts are chosen.
  static constexpr routing_rule rule{
      .scoring_func = settings.scoring_func,
      .n_group = settings.n_group,
      .topk_group = settings.topk_group,
      .norm_topk_prob = settings.norm_topk_prob,
      .routed_scaling_factor = static_cast<double>(settings.routed_scaling_factor)};

  using matrix = matrix_view<S, Backend>;              ///< rows of activations
  using input_matrix = matrix_view<const S, Backend>;  ///< rows of activations that are read
  using sum_type = accumulate_t<S>;                    ///< accumulator type
  using sum_matrix = matrix_view<sum_type, Backend>;   ///< rows of what the router computes

  /// Parameters, under the names of Hugging Face's DeepSeek-V3; those of experts are one matrix.
  struct layout {
    parameter gate;                        ///< W_gate  [E, C]
    parameter bias;                        ///< of the choice, with e_score_correction_bias  [E]
    parameter gate_up;                     ///< expert after expert, gate, then up  [E 2 F, C]
    parameter down;                        ///< expert after expert  [E C, F]
    typename shared_layer::layout shared;  ///< with n_shared_experts

    /// Takes their places from a parameter_cursor.
    template <class Cursor>
    static constexpr layout make(Cursor& cursor) {
      layout at;
      at.gate = cursor.matrix(E, C).in_elements();
      if (settings.e_score_correction_bias) {
        at.bias = cursor.vector(E, parameter_role::routing_bias);
      }
      at.gate_up = cursor.matrix(E * 2 * F, C);
      at.down = cursor.matrix(E * C, F, parameter_role::residual);
      if (has_shared) {
        at.shared = shared_layer::layout::make(cursor);
      }
      return at;
    }
    /// visitor(prefix + name, parameter) for each that the configuration has.
    template <class Visitor>
    void visit(const std::string& prefix, Visitor&& visitor) const {
      visitor(prefix + "mlp.gate.weight", gate);
      if (bias.exists()) {
        visitor(prefix + "mlp.gate.e_score_correction_bias", bias);
      }
      visitor(prefix + "mlp.experts.gate_up_proj", gate_up);
      visitor(prefix + "mlp.experts.down_proj", down);
      if (has_shared) {
        visitor(prefix + "mlp.shared_experts.gate_up_proj.weight", shared.gate_up);
        visitor(prefix + "mlp.shared_experts.down_proj.weight", shared.down);
      }
    }
  };

  /// What the forward pass keeps; N rows, and R = N k for the experts, in their order.
  struct activations {
    sum_matrix logits;                          ///< W_gate x  [N, E]
    sum_matrix scores;                          ///< of the experts  [N, E]
    sum_matrix weights;                         ///< of a row's experts  [N, k]
    matrix_view<index_t, Backend> experts;      ///< of a row  [N, k]
    matrix_view<index_t, Backend> rows;         ///< where they are among the R  [N, k]
    vector_view<index_t, Backend> offsets;      ///< where an expert's rows begin  [E + 1]
    vector_view<index_t, Backend> pairs;        ///< which of the N k each of them is  [R]
    matrix gathered;                            ///< rows of x  [R, C]
    matrix gate_up;                             ///< W_gate_up x  [R, 2 F]
    matrix gated;                               ///< swiglu(gate_up)  [R, F]
    matrix outputs;                             ///< of the experts, not yet weighted  [R, C]
    typename shared_layer::activations shared;  ///< of the experts for every row

    /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr activations make(Arena& arena, index_t N) {
      const index_t R = N * k;
      const auto logits = table<sum_type>(arena, N, E);
      const auto scores = table<sum_type>(arena, N, E);
      const auto weights = table<sum_type>(arena, N, k);
      const auto experts = table<index_t>(arena, N, k);
      const auto rows = table<index_t>(arena, N, k);
      const vector_view<index_t, Backend> offsets(arena.template take<index_t>(E + 1),
                                                  dims<1>{E + 1});
      const vector_view<index_t, Backend> pairs(arena.template take<index_t>(R), dims<1>{R});
      const auto gathered = table<S>(arena, R, C);
      const auto gate_up = table<S>(arena, R, 2 * F);
      const auto gated = table<S>(arena, R, F);
      const auto outputs = table<S>(arena, R, C);
      return {logits,
              scores,
              weights,
              experts,
              rows,
              offsets,
              pairs,
              gathered,
              gate_up,
              gated,
              outputs,
              shared_layer::activations::make(arena, N)};
    }
  };

  /// Gradients that live only within a backward pass; N rows, and R = N k.
  struct scratch {
    sum_matrix weights;                     ///< of the weights of a row's experts  [N, k]
    sum_matrix scores;                      ///< of the balance of sequences  [N, E]
    matrix logits;                          ///< of the router's logits  [N, E]
    matrix rows;                            ///< of the experts' outputs, then inputs  [R, C]
    matrix gate_up;                         ///< of W_gate_up x  [R, 2 F]
    matrix gated;                           ///< of swiglu(gate_up)  [R, F]
    typename shared_layer::scratch shared;  ///< of the experts for every row

    /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr scratch make(Arena& arena, index_t N) {
      const index_t R = N * k;
      const auto weights = table<sum_type>(arena, N, k);
      const auto scores = table<sum_type>(arena, N, E);
      const auto logits = table<S>(arena, N, E);
      const auto rows = table<S>(arena, R, C);
      const auto gate_up = table<S>(arena, R, 2 * F);
      const auto gated = table<S>(arena, R, F);
      return {weights, scores, logits, rows, gate_up, gated, shared_layer::scratch::make(arena, N)};
    }
  };

  /// The most bytes of workspace that its operations need, in a training pass over N rows,
  /// sequences of `length`.
  static constexpr index_t workspace(index_t N, index_t length, index_t threads) {
    using ops = ops_of<Backend>;
    return (std::max)({ops::template linear_workspace<S>(N, E, C, threads),
                       ops::template route_workspace<S>(E, threads),
                       ops::template grouped_linear_workspace<S>(N * k, E, 2 * F, C, threads),
                       ops::template grouped_linear_workspace<S>(N * k, E, C, F, threads),
                       ops::template row_workspace<S>(N * k, 2 * F, threads),
                       has_shared ? shared_layer::workspace(N, length, threads) : 0});
  }
  /// The same for M rows while decoding.
  static constexpr index_t decode_workspace(index_t M, index_t threads) {
    using ops = ops_of<Backend>;
    return (std::max)(
        {ops::template linear_forward_workspace<S>(M, E, C, threads),
         ops::template route_workspace<S>(E, threads),
         ops::template grouped_linear_forward_workspace<S>(M * k, E, 2 * F, C, threads),
         ops::template grouped_linear_forward_workspace<S>(M * k, E, C, F, threads),
         ops::template row_workspace<S>(M * k, 2 * F, threads),
         has_shared ? shared_layer::decode_workspace(M, threads) : 0});
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
    auto& context = pass.context;
    linear_forward(context, a.logits, x, pass.w.matrix(at.gate));
    route(context, a.experts, a.weights, a.scores, a.logits, bias(pass, at), rule);
    group_rows(context, a.offsets, a.pairs, a.rows, a.experts);
    gather_rows(context, a.gathered, x, a.pairs);
    grouped_linear_forward(context, a.gate_up, a.gathered, pass.w.matrix(at.gate_up), a.offsets);
    swiglu_forward(context, a.gated, a.gate_up);
    grouped_linear_forward(context, a.outputs, a.gated, pass.w.matrix(at.down), a.offsets);
    input_matrix start = residual;
    if constexpr (has_shared) {
      shared_layer::forward(pass, at.shared, a.shared, y, x, residual);
      start = y;
    }
    scatter_rows(context, y, start, a.outputs, a.rows, a.weights);
  }

  /// dx [N, C] (=) of dy [N, C]; that of residual is dy itself. Gradients of parameters accumulate
  /// (+=). In the place of the bias's gradient the number of each expert's rows accumulates.
  template <class Pass>
  static void backward(const Pass& pass,
                       const layout& at,
                       const activations& a,
                       const scratch& d,
                       matrix dx,
                       input_matrix dy,
                       input_matrix x) {
    auto& context = pass.context;
    scatter_rows_backward(context, d.rows, d.weights, dy, a.outputs, a.rows, a.weights);
    grouped_linear_backward_weight(context, pass.g.matrix(at.down), d.rows, a.gated, a.offsets);
    grouped_linear_backward_input(context, d.gated, d.rows, pass.w.matrix(at.down), a.offsets);
    swiglu_backward(context, d.gate_up, d.gated, a.gate_up);
    grouped_linear_backward_weight(
        context, pass.g.matrix(at.gate_up), d.gate_up, a.gathered, a.offsets);
    grouped_linear_backward_input(context, d.rows, d.gate_up, pass.w.matrix(at.gate_up), a.offsets);
    sum_matrix balanced(nullptr, {0, 0});
    if (pass.aux_loss_alpha > 0) {
      balanced = d.scores;
      const double weight = pass.aux_loss_alpha / static_cast<double>(pass.batch);
      sequence_balance_backward(
          context, balanced, pass.balance, a.scores, a.experts, pass.length, weight);
    }
    route_backward(context, d.logits, d.weights, a.experts, a.scores, balanced, rule);
    linear_backward_weight(context, pass.g.matrix(at.gate), d.logits, x);
    if constexpr (has_shared) {
      shared_layer::backward(pass, at.shared, a.shared, d.shared, dx, dy, x);
      linear_add_backward_input(context, dx, d.logits, pass.w.matrix(at.gate), dx);
    } else {
      linear_backward_input(context, dx, d.logits, pass.w.matrix(at.gate));
    }
    scatter_rows(context, dx, dx, d.rows, a.rows, sum_matrix(nullptr, {0, 0}));
    if constexpr (settings.e_score_correction_bias) {
      add_group_sizes(context, pass.g.vector(at.bias), a.offsets);
    }
  }

 private:
  /// Rows in memory of an arena.
  template <class Element, class Arena>
  static constexpr matrix_view<Element, Backend> table(Arena& arena, index_t N, index_t columns) {
    return {arena.template take<Element>(N * columns), {N, columns}};
  }

  template <class Pass>
  static vector_view<const S, Backend> bias(const Pass& pass, const layout& at) {
    if constexpr (settings.e_score_correction_bias) {
      return pass.w.vector(at.bias);
    } else {
      return {nullptr, dims<1>{0}};
    }
  }
};

/// The layer of feed_forward_kind::mixture_of_experts.
template <>
struct feed_forward_traits<feed_forward_kind::mixture_of_experts> {
  /// Its class template.
  template <model_config Config, class Backend, scalar S>
  using layer = mixture_of_experts_layer<Config, Backend, S>;
};

}  // namespace mtp::inline MTP_ABI
