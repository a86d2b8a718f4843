// One multi-token prediction module of DeepSeek-V3 (arXiv 2412.19437, section 2.2).
#pragma once

#include <cstddef>
#include <string>

#include "mtp/model/block.hpp"
#include "mtp/model/model_pass.hpp"
#include "mtp/ops/combine.hpp"

namespace mtp::inline MTP_ABI {

/// Parameters of a module, under the names of DeepSeek's released weights.
struct mtp_module_layout {
  parameter embedding_norm;  ///< scale of the norm of the embedding  [C]
  parameter hidden_norm;     ///< scale of the norm of the stream  [C]
  parameter projection;      ///< the paper's M_k  [C, 2 C]
  block_layout block;        ///< the paper's TRM_k
  parameter output_norm;     ///< scale; absent if the trunk's is shared  [C]

  /// Takes their places from a parameter_cursor.
  template <class Cursor>
  static constexpr mtp_module_layout make(const model_config& config, Cursor& cursor) {
    const index_t C = config.hidden_size;
    mtp_module_layout at;
    at.embedding_norm = cursor.vector(C, parameter_role::norm);
    at.hidden_norm = cursor.vector(C, parameter_role::norm);
    at.projection = cursor.matrix(C, 2 * C);
    at.block = block_layout::make(config, cursor);
    if (config.output_norm == output_norm_kind::per_depth) {
      at.output_norm = cursor.vector(C, parameter_role::norm);
    }
    return at;
  }

  /// visitor(prefix + name, parameter) for each parameter that the configuration has.
  template <class Visitor>
  void visit(const std::string& prefix, Visitor&& visitor) const {
    visitor(prefix + "enorm.weight", embedding_norm);
    visitor(prefix + "hnorm.weight", hidden_norm);
    visitor(prefix + "eh_proj.weight", projection);
    block.visit(prefix + "block.", visitor);
    if (output_norm.exists()) {
      visitor(prefix + "norm.weight", output_norm);
    }
  }
};

/// What the forward pass of a module keeps; N rows.
template <model_config Config, class Backend, scalar S>
struct mtp_module_activations {
  /// What sums are kept in.
  using sum_type = accumulate_t<S>;

  vector_view<sum_type, Backend> inv_embedding;  ///< 1 / RMS of the embeddings  [N]
  vector_view<sum_type, Backend> inv_hidden;     ///< 1 / RMS of the stream given  [N]
  matrix_view<S, Backend> projected;             ///< the paper's h'^k  [N, C]
  block_activations<Config, Backend, S> block;   ///< what the block keeps
  matrix_view<S, Backend> stream;                ///< the paper's h^k  [N, C]
  vector_view<sum_type, Backend> inv_output;     ///< 1 / RMS of the stream  [N]

  /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
  template <class Arena>
  static constexpr mtp_module_activations make(Arena& arena, index_t N) {
    const index_t C = Config.hidden_size;
    const auto matrix = [&](index_t columns) {
      return matrix_view<S, Backend>(arena.template take<S>(N * columns), {N, columns});
    };
    const auto vector = [&] {
      return vector_view<sum_type, Backend>(arena.template take<sum_type>(N), dims<1>{N});
    };
    const auto inv_embedding = vector();
    const auto inv_hidden = vector();
    const auto projected = matrix(C);
    const auto kept = block_activations<Config, Backend, S>::make(arena, N);
    const auto stream = matrix(C);
    return {inv_embedding, inv_hidden, projected, kept, stream, vector()};
  }
};

/// The computation of a module, equations 21 to 23 of the paper:
///
///     h'^k = M_k [ RMSNorm(h^{k-1}_i) ; RMSNorm(Emb(t_{i+k})) ]
///     h^k  = TRM_k(h'^k)
///     out  = RMSNorm(h^k)
///
/// config.concat swaps the halves; the shared output matrix reads out.
template <model_config Config, class Backend, scalar S>
struct mtp_module {
  /// Rows of activations.
  using matrix = matrix_view<S, Backend>;
  /// What a pass carries.
  using pass_type = model_pass<Config, Backend, S>;
  /// What forward keeps.
  using activations = mtp_module_activations<Config, Backend, S>;
  /// The computation of TRM_k.
  using block_type = block<Config, Backend, S>;
  /// Which half of the projection's columns comes first.
  static constexpr bool hidden_first = Config.concat == concat_order::hidden_first;

  /// Equation 21 for rows of `hidden` [N, C] with their tokens t_{i+k} [N]; a.projected [N, C]
  /// receives h' (=).
  static void combine(context<Backend>& context,
                      const mtp_module_layout& at,
                      const parameter& embedding,
                      parameter_array<const S, Backend> w,
                      const activations& a,
                      matrix_view<const S, Backend> hidden,
                      vector_view<const token_t, Backend> tokens) {
    combine_forward(context,
                    a.projected,
                    a.inv_hidden,
                    a.inv_embedding,
                    hidden,
                    w.matrix(embedding),
                    tokens,
                    w.vector(at.hidden_norm),
                    w.vector(at.embedding_norm),
                    w.matrix(at.projection),
                    hidden_first,
                    Config.epsilon());
  }

  /// out [N, C] = the normed stream of this depth, of hidden [N, C] and the tokens of depth k.
  static void forward(const pass_type& pass,
                      const mtp_module_layout& at,
                      const parameter& embedding,
                      const parameter& norm,
                      const activations& a,
                      matrix out,
                      matrix hidden,
                      std::size_t k) {
    combine(pass.context, at, embedding, pass.w, a, hidden, pass.tokens_at(k));
    block_type::forward(
        pass.context, at.block, pass.w, pass.rope, a.block, a.stream, a.projected, pass.batch);
    rms_norm_forward(
        pass.context, out, a.inv_output, a.stream, pass.w.vector(norm), Config.epsilon());
  }

  /// dstream [N, C] holds the gradient of the stream (a.stream) and is used up; dhidden [N, C]
  /// receives that of `hidden` (=). Gradients of parameters accumulate (+=), that of the embedding
  /// only if `reaches_embedding`.
  static void backward(const pass_type& pass,
                       const mtp_module_layout& at,
                       const parameter& embedding,
                       const activations& a,
                       const typename block_type::scratch& d,
                       matrix dhidden,
                       matrix dstream,
                       matrix hidden,
                       std::size_t k,
                       bool reaches_embedding) {
    block_type::backward(pass.context,
                         at.block,
                         pass.w,
                         pass.g,
                         pass.rope,
                         a.block,
                         d,
                         dstream,
                         a.projected,
                         pass.batch);
    combine_backward(pass.context,
                     dhidden,
                     pass.g.vector(at.hidden_norm),
                     pass.g.vector(at.embedding_norm),
                     pass.g.matrix(at.projection),
                     pass.shared_matrix(embedding, reaches_embedding),
                     dstream,
                     hidden,
                     a.inv_hidden,
                     a.inv_embedding,
                     pass.w.matrix(embedding),
                     pass.tokens_at(k),
                     pass.w.vector(at.hidden_norm),
                     pass.w.vector(at.embedding_norm),
                     pass.w.matrix(at.projection),
                     hidden_first);
  }
};

}  // namespace mtp::inline MTP_ABI
