// One multi-token prediction module of DeepSeek-V3 (arXiv 2412.19437, section 2.2).
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include "mtp/model/block.hpp"
#include "mtp/model/model_pass.hpp"
#include "mtp/model/vocabulary.hpp"
#include "mtp/ops/rms_norm.hpp"

namespace mtp::inline MTP_ABI {

/// The computation of a module, equations 21 to 23 of the paper:
///
///     h'^k = M_k [ RMSNorm(h^{k-1}_i) ; RMSNorm(Emb(t_{i+k})) ]
///     h^k  = TRM_k(h'^k)
///     out  = RMSNorm(h^k)
///
/// config.prediction.concat swaps the halves; the shared output matrix reads out.
template <model_config Config, class Backend, scalar S>
struct mtp_module {
  using matrix = matrix_view<S, Backend>;            ///< rows of activations
  using sum_type = accumulate_t<S>;                  ///< accumulator type
  using pass_type = model_pass<Config, Backend, S>;  ///< a pass over whole sequences
  using block_type = block<Config, Backend, S>;      ///< the computation of TRM_k
  static constexpr index_t C = Config.hidden_size;   ///< width of the stream
  /// Which half of the projection's columns comes first.
  static constexpr concat_order order = Config.prediction.concat;

  /// Parameters of a module, under the names of DeepSeek's released weights.
  struct layout {
    parameter embedding_norm;           ///< scale of the norm of the embedding  [C]
    parameter hidden_norm;              ///< scale of the norm of the stream  [C]
    parameter projection;               ///< the paper's M_k  [C, 2 C]
    typename block_type::layout block;  ///< the paper's TRM_k
    parameter output_norm;              ///< scale; absent if the trunk's is shared  [C]

    /// Takes their places from a parameter_cursor.
    template <class Cursor>
    static constexpr layout make(Cursor& cursor) {
      const auto embedding_norm = cursor.vector(C, parameter_role::norm);
      const auto hidden_norm = cursor.vector(C, parameter_role::norm);
      const auto projection = cursor.matrix(C, 2 * C);
      const auto block = block_type::layout::make(cursor);
      const auto output_norm = Config.prediction.output_norm == output_norm_kind::per_depth
                                   ? cursor.vector(C, parameter_role::norm)
                                   : parameter{};
      return {embedding_norm, hidden_norm, projection, block, output_norm};
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

  /// What the forward pass keeps; N rows.
  struct activations {
    vector_view<sum_type, Backend> inv_embedding;  ///< 1 / RMS of the embeddings  [N]
    vector_view<sum_type, Backend> inv_hidden;     ///< 1 / RMS of the stream given  [N]
    matrix projected;                              ///< the paper's h'^k  [N, C]
    typename block_type::activations block;        ///< what the block keeps
    matrix stream;                                 ///< the paper's h^k  [N, C]
    vector_view<sum_type, Backend> inv_output;     ///< 1 / RMS of the stream  [N]

    /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr activations make(Arena& arena, index_t N) {
      const auto rows = [&] { return matrix(arena.template take<S>(N * C), {N, C}); };
      const auto sums = [&] {
        return vector_view<sum_type, Backend>(arena.template take<sum_type>(N), dims<1>{N});
      };
      const auto inv_embedding = sums();
      const auto inv_hidden = sums();
      const auto projected = rows();
      const auto kept = block_type::activations::make(arena, N);
      const auto stream = rows();
      return {inv_embedding, inv_hidden, projected, kept, stream, sums()};
    }
  };

  /// The most bytes of workspace that its operations need, in a training pass over N rows,
  /// sequences of `length`.
  static constexpr index_t workspace(index_t N, index_t length, index_t threads) {
    return (std::max)(block_type::workspace(N, length, threads), combine_bytes(N, threads));
  }
  /// The same for M rows while decoding.
  static constexpr index_t decode_workspace(index_t M, index_t threads) {
    return (std::max)(block_type::decode_workspace(M, threads), combine_bytes(M, threads));
  }

  /// Equation 21 for rows of `hidden` [N, C] with their tokens t_{i+k} [N]: projected [N, C] = h';
  /// inv_hidden and inv_embedding [N] receive 1 / RMS of what is normed.
  template <class Pass>
  static void combine(const Pass& pass,
                      const layout& at,
                      const parameter& embedding,
                      matrix projected,
                      vector_view<sum_type, Backend> inv_hidden,
                      vector_view<sum_type, Backend> inv_embedding,
                      matrix_view<const S, Backend> hidden,
                      vector_view<const token_t, Backend> tokens) {
    vocabulary<Config>::combine(pass.context,
                                projected,
                                inv_hidden,
                                inv_embedding,
                                hidden,
                                pass.w.matrix(embedding),
                                tokens,
                                pass.w.vector(at.hidden_norm),
                                pass.w.vector(at.embedding_norm),
                                pass.w.matrix(at.projection),
                                order,
                                Config.rms_norm_eps);
  }

  /// out [N, C] = the normed stream of this depth, of hidden [N, C] and the tokens of depth k.
  static void forward(const pass_type& pass,
                      const layout& at,
                      const parameter& embedding,
                      const parameter& norm,
                      const activations& a,
                      matrix out,
                      matrix hidden,
                      std::size_t k) {
    combine(
        pass, at, embedding, a.projected, a.inv_hidden, a.inv_embedding, hidden, pass.tokens_at(k));
    block_type::forward(pass, at.block, a.block, a.stream, a.projected);
    rms_norm_forward(
        pass.context, out, a.inv_output, a.stream, pass.w.vector(norm), Config.rms_norm_eps);
  }

  /// dstream [N, C] holds the gradient of the stream (a.stream) and is used up; dhidden [N, C]
  /// receives that of `hidden` (=). Gradients of parameters accumulate (+=), that of the embedding
  /// only if `reaches_embedding`.
  static void backward(const pass_type& pass,
                       const layout& at,
                       const parameter& embedding,
                       const activations& a,
                       const typename block_type::scratch& d,
                       matrix dhidden,
                       matrix dstream,
                       matrix hidden,
                       std::size_t k,
                       bool reaches_embedding) {
    block_type::backward(pass, at.block, a.block, d, dstream, a.projected);
    vocabulary<Config>::combine_gradient(pass.context,
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
                                         order);
  }

 private:
  static constexpr index_t combine_bytes(index_t rows, index_t threads) {
    return vocabulary<Config>::template combine_bytes<Backend, S>(rows, threads);
  }
};

}  // namespace mtp::inline MTP_ABI
