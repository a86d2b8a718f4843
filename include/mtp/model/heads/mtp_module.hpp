// One multi-token prediction module of DeepSeek-V3 (arXiv 2412.19437, section 2.2).
#pragma once

#include <string>

#include "mtp/model/block.hpp"
#include "mtp/model/model_pass.hpp"
#include "mtp/ops/embedding.hpp"

namespace mtp {

/// Parameters of a module, under the names of DeepSeek's released weights.
struct mtp_module_layout {
  parameter embedding_norm;  // [C]
  parameter hidden_norm;     // [C]
  parameter projection;      // [C, 2 C], the paper's M_k
  block_layout block;        // the paper's TRM_k
  parameter output_norm;     // [C], absent if the trunk's is shared

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
template <model_config Config, class Backend, real S>
struct mtp_module_activations {
  matrix_view<S, Backend> embedded;       // [N, C]
  vector_view<S, Backend> inv_embedding;  // [N]
  vector_view<S, Backend> inv_hidden;     // [N]
  matrix_view<S, Backend> combined;  // [N, 2 C], both norms side by side: what the projection reads
  matrix_view<S, Backend> projected;  // [N, C]
  block_activations<Config, Backend, S> block;
  matrix_view<S, Backend> stream;      // [N, C], the paper's h^k
  vector_view<S, Backend> inv_output;  // [N]

  template <class Arena>
  static constexpr mtp_module_activations make(Arena& arena, index_t N) {
    const index_t C = Config.hidden_size;
    const auto matrix = [&](index_t columns) {
      return matrix_view<S, Backend>(arena.template take<S>(N * columns), {N, columns});
    };
    const auto vector = [&] {
      return vector_view<S, Backend>(arena.template take<S>(N), dims<1>{N});
    };
    const auto embedded = matrix(C);
    const auto inv_embedding = vector();
    const auto inv_hidden = vector();
    const auto combined = matrix(2 * C);
    const auto projected = matrix(C);
    const auto kept = block_activations<Config, Backend, S>::make(arena, N);
    const auto stream = matrix(C);
    return {embedded, inv_embedding, inv_hidden, combined, projected, kept, stream, vector()};
  }

  /// The half of `combined` that comes from the hidden state, and the other: [N, C] stride 2 C.
  matrix_view<S, Backend> hidden_half() const {
    return half(Config.concat == concat_order::hidden_first ? 0 : 1);
  }
  matrix_view<S, Backend> embedding_half() const {
    return half(Config.concat == concat_order::hidden_first ? 1 : 0);
  }

 private:
  matrix_view<S, Backend> half(index_t which) const {
    return combined.slice(1, which * Config.hidden_size, Config.hidden_size);
  }
};

/// The computation of a module:
///   h'^k = M_k [ RMSNorm(h^{k-1}_i) ; RMSNorm(Emb(t_{i+k})) ]        (21), halves swapped by
///   config.concat h^k  = TRM_k(h'^k)                                               (22) out  =
///   RMSNorm(h^k), which the shared output matrix reads        (23)
template <model_config Config, class Backend, real S>
struct mtp_module {
  using matrix = matrix_view<S, Backend>;
  using pass_type = model_pass<Config, Backend, S>;
  using activations = mtp_module_activations<Config, Backend, S>;
  using block_type = block<Config, Backend, S>;

  /// Equation 21 for rows of `hidden` [N, C] with their tokens t_{i+k}; a.projected receives h'.
  static void combine(context<Backend>& context,
                      const mtp_module_layout& at,
                      const parameter& embedding,
                      parameter_array<const S, Backend> w,
                      const activations& a,
                      matrix_view<const S, Backend> hidden,
                      std::span<const token_t> tokens) {
    embedding_forward(context, a.embedded, w.matrix(embedding), tokens);
    rms_norm_forward(
        context, a.hidden_half(), a.inv_hidden, hidden, w.vector(at.hidden_norm), Config.epsilon());
    rms_norm_forward(context,
                     a.embedding_half(),
                     a.inv_embedding,
                     a.embedded,
                     w.vector(at.embedding_norm),
                     Config.epsilon());
    linear_forward(context, a.projected, a.combined, w.matrix(at.projection));
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
    combine(pass.context, at, embedding, pass.w, a, hidden, pass.tokens[k]);
    block_type::forward(
        pass.context, at.block, pass.w, pass.rope, a.block, a.stream, a.projected, pass.batch);
    rms_norm_forward(
        pass.context, out, a.inv_output, a.stream, pass.w.vector(norm), Config.epsilon());
  }

  struct scratch {
    typename block_type::scratch block;
    matrix combined;  // [N, 2 C]
  };

  /// dstream [N, C] holds the gradient of the stream (a.stream) and is used up; dhidden [N, C]
  /// receives that of `hidden`. The gradient of the embedding is added only if `reaches_embedding`.
  static void backward(const pass_type& pass,
                       const mtp_module_layout& at,
                       const parameter& embedding,
                       const activations& a,
                       const scratch& d,
                       matrix dhidden,
                       matrix dstream,
                       matrix hidden,
                       std::size_t k,
                       bool reaches_embedding) {
    auto& context = pass.context;
    const auto none = pass_type::no_rows();
    block_type::backward(context,
                         at.block,
                         pass.w,
                         pass.g,
                         pass.rope,
                         a.block,
                         d.block,
                         dstream,
                         a.projected,
                         pass.batch);
    linear_backward_weight(context, pass.g.matrix(at.projection), dstream, a.combined);
    linear_backward_input(context, d.combined, dstream, pass.w.matrix(at.projection));
    const index_t C = Config.hidden_size;
    const bool hidden_first = Config.concat == concat_order::hidden_first;
    const auto d_hidden_half = d.combined.slice(1, hidden_first ? 0 : C, C);
    const auto d_embedding_half = d.combined.slice(1, hidden_first ? C : 0, C);
    rms_norm_backward(context,
                      dhidden,
                      pass.g.vector(at.hidden_norm),
                      d_hidden_half,
                      hidden,
                      a.inv_hidden,
                      pass.w.vector(at.hidden_norm),
                      none);
    rms_norm_backward(context,
                      dstream,
                      pass.g.vector(at.embedding_norm),
                      d_embedding_half,
                      a.embedded,
                      a.inv_embedding,
                      pass.w.vector(at.embedding_norm),
                      none);
    if (reaches_embedding) {
      embedding_backward(context, pass.g.matrix(embedding), dstream, pass.tokens[k]);
    }
  }
};

}  // namespace mtp
