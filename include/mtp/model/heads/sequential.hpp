// DeepSeek-V3's head: D modules one after the other, so that every depth keeps the complete causal
// chain (arXiv 2412.19437, section 2.2, equations 21-25).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "mtp/model/decode_rows.hpp"
#include "mtp/model/heads/mtp_module.hpp"
#include "mtp/model/heads/row_window.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"

namespace mtp {

/// The stream of depth k at position i is computed from that of depth k - 1 and the true token
/// t_{i+k}; it predicts t_{i+k+1}. Every depth attends causally over its own stream. Depth k uses
/// module (k - 1) mod (number of modules): with one module this is the recurrent head.
template <model_config Config, class Backend, real S>
struct sequential_head {
  static constexpr std::size_t D = static_cast<std::size_t>(Config.depth);
  static constexpr std::size_t modules = static_cast<std::size_t>(Config.head_modules());
  static constexpr bool taps_before_norm = Config.hidden_tap == norm_tap::pre_norm;
  static constexpr bool recycles_before_norm = Config.recycle_tap == norm_tap::pre_norm;

  using matrix = matrix_view<S, Backend>;
  using pass_type = model_pass<Config, Backend, S>;
  using module_type = mtp_module<Config, Backend, S>;

  struct layout {
    std::array<mtp_module_layout, modules> module;

    template <class Cursor>
    static constexpr layout make(Cursor& cursor) {
      layout at;
      for (auto& module : at.module) {
        module = mtp_module_layout::make(Config, cursor);
      }
      return at;
    }
    template <class Visitor>
    void visit(Visitor&& visitor) const {
      for (std::size_t m = 0; m < modules; ++m) {
        module[m].visit("mtp." + std::to_string(m) + ".", visitor);
      }
    }
    const mtp_module_layout& of(std::size_t k) const { return module[(k - 1) % modules]; }
  };

  /// Norm in front of the output matrix at depth k.
  static const parameter& norm_of(const layout& at,
                                  const trunk_layout<Config>& trunk,
                                  std::size_t k) {
    return Config.output_norm == output_norm_kind::shared ? trunk.norm : at.of(k).output_norm;
  }

  // ---- Training
  // -------------------------------------------------------------------------------------------

  struct activations {
    matrix hidden;   // [(D + 1) N, C]: what the output matrix reads, depth by depth
    matrix dhidden;  // [(D + 1) N, C]
    matrix carry;    // [N, C]: gradient that depth k + 1 gives depth k
    matrix dstream;  // [N, C]
    std::array<mtp_module_activations<Config, Backend, S>, D> depth;
    typename module_type::scratch scratch;

    template <class Arena>
    static constexpr activations make(Arena& arena,
                                      index_t N,
                                      const block_gradients<Config, Backend, S>& gradients) {
      return make(arena, N, gradients, std::make_index_sequence<D>{});
    }

   private:
    template <class Arena, std::size_t... K>
    static constexpr activations make(Arena& arena,
                                      index_t N,
                                      const block_gradients<Config, Backend, S>& gradients,
                                      std::index_sequence<K...>) {
      const index_t C = Config.hidden_size, rows = (Config.depth + 1) * N;
      const auto matrix_of = [&](index_t count, index_t columns) {
        return matrix(arena.template take<S>(count * columns), {count, columns});
      };
      const auto hidden = matrix_of(rows, C);
      const auto dhidden = matrix_of(rows, C);
      const auto carry = matrix_of(N, C);
      const auto dstream = matrix_of(N, C);
      return {
          hidden,
          dhidden,
          carry,
          dstream,
          {(static_cast<void>(K), mtp_module_activations<Config, Backend, S>::make(arena, N))...},
          {gradients, matrix_of(N, 2 * C)}};
    }
  };

  static matrix next_token_rows(const activations& a, index_t N) { return a.hidden.slice(0, 0, N); }

  /// stream [N, C]: the trunk's residual stream. The first N rows of a.hidden hold its norm.
  /// score(first depth, rows of hidden, rows of dhidden, output matrix) scores depths; with
  /// gradients, dnormed [N, C] = first N rows of a.dhidden and dstream receive what reaches the
  /// trunk. Returns whether dstream was written.
  template <class Score>
  static bool run(const pass_type& pass,
                  const layout& at,
                  const trunk_layout<Config>& trunk,
                  const activations& a,
                  matrix stream,
                  matrix dstream,
                  Score&& score) {
    const index_t N = pass.rows();
    const auto rows = [&](const matrix& stack, std::size_t k, std::size_t count = 1) {
      return stack.slice(0, static_cast<index_t>(k) * N, static_cast<index_t>(count) * N);
    };
    const auto input_of = [&](std::size_t k) -> matrix {
      if (k == 1) {
        return taps_before_norm ? stream : rows(a.hidden, 0);
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
    const bool shared_norm = Config.output_norm == output_norm_kind::shared;
    for (std::size_t k = D; k >= 1; --k) {
      const auto& kept = a.depth[k - 1];
      const parameter& norm = norm_of(at, trunk, k);
      const auto dnormed = rows(a.dhidden, k);
      const bool carried = k < D;
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
    }
    if (!reaches) {
      return false;
    }
    if constexpr (taps_before_norm) {
      copy(context, dstream, a.carry);
    } else {
      add(context, rows(a.dhidden, 0), rows(a.dhidden, 0), a.carry);
    }
    return taps_before_norm;
  }

  // ---- Drafting
  // -------------------------------------------------------------------------------------------

  /// Drafts the next D tokens of one sequence. Each depth has a cache over its own stream, fed with
  /// the true hidden states and true tokens of accepted positions: row i of depth k is final once
  /// token t_{i+k} is confirmed.
  class drafter {
   public:
    template <class Arena>
    static constexpr drafter make(Arena& arena, index_t max_rows) {
      drafter made;
      made.rows_ = decode_rows<Config, Backend, S>::make(arena, max_rows);
      const index_t C = Config.hidden_size;
      made.module_memory_ = mtp_module_rows{
          matrix(arena.template take<S>(max_rows * C), {max_rows, C}),
          matrix(arena.template take<S>(max_rows * 2 * C), {max_rows, 2 * C}),
          matrix(arena.template take<S>(max_rows * C), {max_rows, C}),
          vector_view<S, Backend>(arena.template take<S>(max_rows), dims<1>{max_rows})};
      for (std::size_t k = 0; k < D; ++k) {
        made.caches_[k] = make_cache<Config, Backend, S>(arena);
        made.windows_[k] = row_window<Backend, S>(
            matrix(arena.template take<S>(2 * max_rows * C), {2 * max_rows, C}));
      }
      return made;
    }

    void reset() {
      valid_.fill(0);
      for (auto& window : windows_) {
        window.reset();
      }
    }

    /// Room for the trunk's rows of the next positions.  [rows, C]
    matrix observe(index_t rows) { return windows_[0].append(rows); }

    /// `count` tokens are confirmed, the last of them not yet seen by the trunk: forgets what
    /// drafts left behind. Of the tokens confirmed since the last draft, all but the last must be
    /// drafts that were right.
    void rewind(index_t count) {
      windows_[0].truncate(count - 1);
      for (std::size_t k = 1; k <= D; ++k) {
        valid_[k - 1] =
            std::min(valid_[k - 1], std::max<index_t>(count - 1 - static_cast<index_t>(k), 0));
        if (k < D) {
          windows_[k].truncate(valid_[k - 1]);
        }
      }
    }

    /// Brings every depth up to date with `count` known tokens.
    template <class Model>
    void advance(context<Backend>& context,
                 const Model& model,
                 std::span<const token_t> tokens,
                 index_t count) {
      for (std::size_t k = 1; k <= D; ++k) {
        extend(context,
               model,
               tokens,
               k,
               std::min(windows_[0].end(), count - static_cast<index_t>(k)));
      }
      forget();
    }

    /// tokens[count ...] receive the drafts for the D tokens behind the `count` confirmed ones.
    template <class Model>
    void draft(context<Backend>& context,
               const Model& model,
               std::span<token_t> tokens,
               index_t count) {
      for (std::size_t k = 1; k <= D; ++k) {
        const index_t rows = extend(context, model, tokens, k, count - 1);
        const matrix last = rows_.normed.slice(0, rows - 1, 1);
        predict_row(context,
                    model,
                    model.trunk().output,
                    last,
                    rows_.logits,
                    tokens.subspan(static_cast<std::size_t>(count) + k - 1, 1));
      }
      forget();
    }

   private:
    struct mtp_module_rows {
      matrix embedded, combined, projected;
      vector_view<S, Backend> inverse;
    };

    /// Runs depth k for its rows up to position `end`; returns how many. Their normed streams are
    /// in rows_.normed.
    template <class Model>
    index_t extend(context<Backend>& context,
                   const Model& model,
                   std::span<const token_t> tokens,
                   std::size_t k,
                   index_t end) {
      const index_t first = valid_[k - 1], count = end - first;
      if (count <= 0) {
        return 0;
      }
      const auto head_rows = [&](const auto& memory) { return memory.slice(0, 0, count); };
      const auto& at = model.head().of(k);
      const auto inverse = module_memory_.inverse.slice(0, 0, count);
      const auto block_rows = rows_.activations(count);
      const mtp_module_activations<Config, Backend, S> a{head_rows(module_memory_.embedded),
                                                         inverse,
                                                         inverse,
                                                         head_rows(module_memory_.combined),
                                                         head_rows(module_memory_.projected),
                                                         block_rows,
                                                         head_rows(rows_.stream),
                                                         inverse};
      module_type::combine(
          context,
          at,
          model.trunk().embedding,
          model.values(),
          a,
          windows_[k - 1].rows(first, count),
          tokens.subspan(static_cast<std::size_t>(first) + k, static_cast<std::size_t>(count)));
      block<Config, Backend, S>::decode(context,
                                        at.block,
                                        model.values(),
                                        model.rope(),
                                        block_rows,
                                        a.stream,
                                        a.projected,
                                        caches_[k - 1],
                                        first);
      const parameter& norm = norm_of(model.head(), model.trunk(), k);
      rms_norm_forward(context,
                       head_rows(rows_.normed),
                       inverse,
                       a.stream,
                       model.values().vector(norm),
                       Config.epsilon());
      if (k < D) {
        copy(context,
             windows_[k].append(count),
             recycles_before_norm ? a.stream : head_rows(rows_.normed));
      }
      valid_[k - 1] = end;
      return count;
    }

    // Rows that the next depth has used for good are not needed again: rewind never goes back
    // behind them by more than the depth.
    void forget() {
      for (std::size_t k = 0; k < D; ++k) {
        windows_[k].forget(valid_[k] - static_cast<index_t>(2 * D + 1));
      }
    }

    decode_rows<Config, Backend, S> rows_;
    mtp_module_rows module_memory_{matrix(nullptr, {0, 0}),
                                   matrix(nullptr, {0, 0}),
                                   matrix(nullptr, {0, 0}),
                                   vector_view<S, Backend>(nullptr, dims<1>{0})};
    std::array<cache_view<S, Backend>, D> caches_{};
    std::array<row_window<Backend, S>, D> windows_{};
    std::array<index_t, D> valid_{};  // rows of each depth that stand in its cache
  };
};

}  // namespace mtp
