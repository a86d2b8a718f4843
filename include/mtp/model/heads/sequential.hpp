// DeepSeek-V3's head: D modules one after the other, so that every depth keeps the complete causal
// chain (arXiv 2412.19437, section 2.2, equations 21-25).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <utility>

#include "mtp/model/heads/mtp_module.hpp"
#include "mtp/model/heads/sequential_drafter.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/rms_norm.hpp"

namespace mtp::inline MTP_ABI {

/// The stream of depth k at position i is computed from that of depth k - 1 and the true token
/// t_{i+k}; it predicts t_{i+k+1}. Every depth attends causally over its own stream. Depth k uses
/// module (k - 1) mod (number of modules): with one module this is the recurrent head. With
/// chain_input::target_hidden every depth reads the trunk's hidden state in place of the stream of
/// depth k - 1, so that no depth rests on another.
template <model_config Config, class Backend, scalar S>
struct sequential_head {
  /// Depth of the configuration.
  static constexpr std::size_t D = static_cast<std::size_t>(Config.prediction.depth);
  /// Modules with parameters of their own.
  static constexpr std::size_t modules = static_cast<std::size_t>(Config.prediction.modules());
  /// Whether depth 1 is given the trunk's residual stream rather than its norm.
  static constexpr bool taps_before_norm = Config.prediction.hidden_tap == norm_tap::pre_norm;
  /// Whether depth k + 1 is given the stream of depth k rather than its norm.
  static constexpr bool recycles_before_norm = Config.prediction.recycle_tap == norm_tap::pre_norm;

  /// Whether depth k + 1 is given anything of depth k.
  static constexpr bool chained = Config.prediction.chain == chain_input::previous_output;

  using matrix = matrix_view<S, Backend>;              ///< rows of activations
  using pass_type = model_pass<Config, Backend, S>;    ///< what a pass carries
  using trunk_type = trunk<Config, Backend, S>;        ///< what it is given its rows by
  using block_type = typename trunk_type::block_type;  ///< the computation of a block
  using module_type = mtp_module<Config, Backend, S>;  ///< the computation of a module
  using module_layout = typename module_type::layout;  ///< parameters of a module

  /// Parameters of the modules.
  struct layout {
    std::array<module_layout, modules> parts;  ///< one for each module

    /// Takes their places from a parameter_cursor.
    template <class Cursor>
    static constexpr layout make(Cursor& cursor) {
      layout at;
      for (auto& part : at.parts) {
        part = module_layout::make(cursor);
      }
      return at;
    }
    /// visitor(name, parameter) for each of them.
    template <class Visitor>
    void visit(Visitor&& visitor) const {
      for (std::size_t m = 0; m < modules; ++m) {
        parts[m].visit("mtp." + std::to_string(m) + ".", visitor);
      }
    }
    /// The module of depth k >= 1.
    const module_layout& of(std::size_t k) const { return parts[(k - 1) % modules]; }
  };

  /// Norm in front of the output matrix at depth k.
  static const parameter& norm_of(const layout& at,
                                  const typename trunk_type::layout& trunk,
                                  std::size_t k) {
    return Config.prediction.output_norm == output_norm_kind::shared ? trunk.norm
                                                                     : at.of(k).output_norm;
  }

  // ---- Training ----

  /// Memory for training: all depths at a time, because gradients go back through all of them.
  struct activations {
    matrix hidden;   ///< what the output matrix reads, depth by depth  [(D + 1) N, C]
    matrix dhidden;  ///< its gradient  [(D + 1) N, C]
    matrix carry;    ///< gradient that depth k + 1 gives depth k  [N, C]
    matrix dstream;  ///< gradient of a depth's stream  [N, C]
    std::array<typename module_type::activations, D> depth;  ///< depth k at k - 1
    typename block_type::scratch scratch;                    ///< what backward passes work in

    /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr activations make(Arena& arena,
                                      index_t N,
                                      const typename trunk_type::scratch& scratch) {
      return make(arena, N, scratch.block, std::make_index_sequence<D>{});
    }

   private:
    template <class Arena, std::size_t... K>
    static constexpr activations make(Arena& arena,
                                      index_t N,
                                      const typename block_type::scratch& scratch,
                                      std::index_sequence<K...>) {
      const index_t C = Config.hidden_size, rows = (Config.prediction.depth + 1) * N;
      const auto matrix_of = [&](index_t count, index_t columns) {
        return matrix(arena.template take<S>(count * columns), {count, columns});
      };
      const auto hidden = matrix_of(rows, C);
      const auto dhidden = matrix_of(rows, C);
      const auto carry = matrix_of(N, C);
      const auto dstream = matrix_of(N, C);
      return {hidden,
              dhidden,
              carry,
              dstream,
              {(static_cast<void>(K), module_type::activations::make(arena, N))...},
              scratch};
    }
  };

  /// Where the caller puts the norm of the trunk's stream before run.  [N, C]
  static matrix next_token_rows(const activations& a, index_t N) { return a.hidden.slice(0, 0, N); }

  /// The most bytes of workspace that its operations need, in a training pass over N rows,
  /// sequences of `length`.
  static constexpr index_t workspace(index_t N, index_t length, index_t threads) {
    return (std::max)(module_type::workspace(N, length, threads),
                      ops_of<Backend>::template row_workspace<S>(N, Config.hidden_size, threads));
  }

  /// stream [N, C]: the trunk's residual stream. The first N rows of a.hidden hold its norm.
  /// score(first depth, rows of hidden, rows of dhidden, output matrix) scores depths; with
  /// gradients, dnormed [N, C] = first N rows of a.dhidden and dstream receive what reaches the
  /// trunk. Returns whether dstream was written.
  template <class Score>
  static bool run(const pass_type& pass,
                  const layout& at,
                  const typename trunk_type::layout& trunk,
                  const activations& a,
                  matrix stream,
                  matrix dstream,
                  Score&& score) {
    const index_t N = pass.rows();
    const auto rows = [&](const matrix& stack, std::size_t k, std::size_t count = 1) {
      return stack.slice(0, static_cast<index_t>(k) * N, static_cast<index_t>(count) * N);
    };
    const auto input_of = [&](std::size_t k) -> matrix {
      if (k == 1 || !chained) {
        return trunk_type::tapped(stream, rows(a.hidden, 0));
      }
      return recycles_before_norm ? a.depth[k - 2].stream : rows(a.hidden, k - 1);
    };
    for (std::size_t k = 1; k <= D; ++k) {
      module_type::forward(pass,
                           at.of(k),
                           trunk.embedding,
                           norm_of(at, trunk, k),
                           a.depth[k - 1],
                           rows(a.hidden, k),
                           input_of(k),
                           k);
    }
    if (pass.heads_reach_trunk()) {
      score(0, a.hidden, a.dhidden, trunk.output);
    } else {
      score(0, rows(a.hidden, 0), rows(a.dhidden, 0), trunk.output);
      score(1, rows(a.hidden, 1, D), rows(a.dhidden, 1, D), trunk.output);
    }
    if (!pass.wants_gradients()) {
      return false;
    }
    auto& context = pass.context;
    const bool reaches = pass.heads_reach_trunk();
    const bool shared_norm = Config.prediction.output_norm == output_norm_kind::shared;
    for (std::size_t k = D; k >= 1; --k) {
      const auto& kept = a.depth[k - 1];
      const parameter& norm = norm_of(at, trunk, k);
      const auto dnormed = rows(a.dhidden, k);
      const bool carried = chained && k < D;
      if (carried && !recycles_before_norm) {
        add(context, dnormed, dnormed, a.carry);
      }
      rms_norm_backward(context,
                        a.dstream,
                        pass.shared_vector(norm, reaches || !shared_norm),
                        dnormed,
                        kept.stream,
                        kept.inv_output,
                        pass.w.vector(norm),
                        carried && recycles_before_norm ? matrix_view<const S, Backend>(a.carry)
                                                        : pass_type::no_rows());
      module_type::backward(pass,
                            at.of(k),
                            trunk.embedding,
                            kept,
                            a.scratch,
                            a.carry,
                            a.dstream,
                            input_of(k),
                            k,
                            reaches);
      if (reaches && (k == 1 || !chained)) {  // what the trunk gets of this depth
        if constexpr (!taps_before_norm) {
          add(context, rows(a.dhidden, 0), rows(a.dhidden, 0), a.carry);
        } else if (chained || k == D) {
          copy(context, dstream, a.carry);
        } else {
          add(context, dstream, dstream, a.carry);
        }
      }
      if (k <= modules) {  // no lower depth has this module or one behind it
        pass.finished(at.of(k).embedding_norm.offset);
      }
    }
    return reaches && taps_before_norm;
  }

  /// Drafts the next tokens of sequences.
  using drafter = sequential_drafter<sequential_head, Config, Backend, S>;
};

/// The head of head_kind::sequential.
template <>
struct head_traits<head_kind::sequential> {
  /// The mean over depths: equation 25.
  static double default_weight(std::size_t, std::size_t D) { return 1.0 / static_cast<double>(D); }

  /// DeepSeek-V3's schedule.
  static constexpr lambda_factors default_lambda = deepseek_lambda;

  /// Its class template.
  template <model_config Config, class Backend, scalar S>
  using head = sequential_head<Config, Backend, S>;
};

}  // namespace mtp::inline MTP_ABI
