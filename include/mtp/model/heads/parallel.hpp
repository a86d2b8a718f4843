// Gloeckle et al.'s head: D extra transformer blocks side by side on one trunk output, before a
// shared output matrix (arXiv 2404.19737, section 2).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>

#include "mtp/model/decode_rows.hpp"
#include "mtp/model/heads/row_window.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/elementwise.hpp"

namespace mtp {

/// z is the output of the trunk's first L - 1 blocks. Head 1, the ordinary next-token head, is the
/// trunk's last block on z; depth k is the extra block k on the same z. None sees a later token:
/// the D + 1 predictions are made from the same position alone.
template <model_config Config, class Backend, real S>
struct parallel_head {
  static constexpr std::size_t D = static_cast<std::size_t>(Config.depth);
  static constexpr bool shares_norm = Config.output_norm == output_norm_kind::shared;

  using matrix = matrix_view<S, Backend>;
  using pass_type = model_pass<Config, Backend, S>;
  using block_type = block<Config, Backend, S>;

  struct layout {
    std::array<block_layout, D> block;
    std::array<parameter, D> norm;  // [C] each, absent if the trunk's is shared

    template <class Cursor>
    static constexpr layout make(Cursor& cursor) {
      layout at;
      for (std::size_t k = 0; k < D; ++k) {
        at.block[k] = block_layout::make(Config, cursor);
        if (!shares_norm) {
          at.norm[k] = cursor.vector(Config.hidden_size, parameter_role::norm);
        }
      }
      return at;
    }
    template <class Visitor>
    void visit(Visitor&& visitor) const {
      for (std::size_t k = 0; k < D; ++k) {
        const std::string prefix = "mtp." + std::to_string(k) + ".";
        block[k].visit(prefix + "block.", visitor);
        if (!shares_norm) {
          visitor(prefix + "norm.weight", norm[k]);
        }
      }
    }
  };

  static const block_layout& block_of(const layout& at,
                                      const trunk_layout<Config>& trunk,
                                      std::size_t k) {
    return k == 0 ? trunk.blocks.back() : at.block[k - 1];
  }
  static const parameter& norm_of(const layout& at,
                                  const trunk_layout<Config>& trunk,
                                  std::size_t k) {
    return k == 0 || shares_norm ? trunk.norm : at.norm[k - 1];
  }

  // ---- Training
  // -------------------------------------------------------------------------------------------

  /// Memory for one head: the paper's trick. Forward, loss and backward of a head are done before
  /// the next one begins; only the gradient of z adds up.
  struct activations {
    block_activations<Config, Backend, S> block;
    block_gradients<Config, Backend, S> scratch;
    matrix stream;                    // [N, C]
    vector_view<S, Backend> inverse;  // [N]
    matrix hidden;                    // [N, C]
    matrix dhidden;                   // [N, C]
    matrix dstream;                   // [N, C]

    template <class Arena>
    static constexpr activations make(Arena& arena,
                                      index_t N,
                                      const block_gradients<Config, Backend, S>& gradients) {
      const index_t C = Config.hidden_size;
      const auto rows = [&] { return matrix(arena.template take<S>(N * C), {N, C}); };
      const auto block = block_activations<Config, Backend, S>::make(arena, N);
      const auto stream = rows();
      const vector_view<S, Backend> inverse(arena.template take<S>(N), dims<1>{N});
      const auto hidden = rows();
      const auto dhidden = rows();
      return {block, gradients, stream, inverse, hidden, dhidden, rows()};
    }
  };

  /// z, dz [N, C]; score as in the other heads. With gradients, dz receives the sum over heads of
  /// their gradients of z.
  template <class Score>
  static bool run(const pass_type& pass,
                  const layout& at,
                  const trunk_layout<Config>& trunk,
                  const activations& a,
                  matrix z,
                  matrix dz,
                  Score&& score) {
    bool written = false;
    for (std::size_t k = 0; k <= D; ++k) {
      const block_layout& block = block_of(at, trunk, k);
      const parameter& norm = norm_of(at, trunk, k);
      block_type::forward(pass.context, block, pass.w, pass.rope, a.block, a.stream, z, pass.batch);
      rms_norm_forward(
          pass.context, a.hidden, a.inverse, a.stream, pass.w.vector(norm), Config.epsilon());
      score(k, a.hidden, a.dhidden, trunk.output);
      const bool trains_block = k > 0 || pass.trains_trunk();
      if (!pass.wants_gradients() || !trains_block) {
        continue;
      }
      const bool norm_reached = k == 0 || !shares_norm || pass.heads_reach_trunk();
      rms_norm_backward(pass.context,
                        a.dstream,
                        pass.shared_vector(norm, norm_reached),
                        a.dhidden,
                        a.stream,
                        a.inverse,
                        pass.w.vector(norm),
                        pass_type::no_rows());
      block_type::backward(pass.context,
                           block,
                           pass.w,
                           pass.g,
                           pass.rope,
                           a.block,
                           a.scratch,
                           a.dstream,
                           z,
                           pass.batch);
      if (k == 0 || pass.heads_reach_trunk()) {
        if (written) {
          add(pass.context, dz, dz, a.dstream);
        } else {
          copy(pass.context, dz, a.dstream);
          written = true;
        }
      }
    }
    return written;
  }

  // ---- Drafting
  // -------------------------------------------------------------------------------------------

  /// Drafts the next D tokens of one sequence. Each extra block has a cache over z, which is true
  /// for every position that the trunk has seen.
  class drafter {
   public:
    template <class Arena>
    static constexpr drafter make(Arena& arena, index_t max_rows) {
      drafter made;
      const index_t C = Config.hidden_size;
      made.rows_ = decode_rows<Config, Backend, S>::make(arena, max_rows);
      made.inverse_ = vector_view<S, Backend>(arena.template take<S>(max_rows), dims<1>{max_rows});
      made.window_ = row_window<Backend, S>(
          matrix(arena.template take<S>(2 * max_rows * C), {2 * max_rows, C}));
      for (auto& cache : made.caches_) {
        cache = make_cache<Config, Backend, S>(arena);
      }
      return made;
    }

    void reset() {
      window_.reset();
      valid_ = 0;
    }

    /// Room for the trunk's rows z of the next positions.  [rows, C]
    matrix observe(index_t rows) { return window_.append(rows); }

    void rewind(index_t count) {
      window_.truncate(count - 1);
      valid_ = std::min(
          valid_, std::max<index_t>(count - 2, 0));  // the last row is what drafts are made from
    }

    template <class Model>
    void advance(context<Backend>& context, const Model& model, std::span<const token_t>, index_t) {
      for (std::size_t k = 1; k <= D; ++k) {
        extend(context, model, k, window_.end());
      }
      finish(window_.end());
    }

    template <class Model>
    void draft(context<Backend>& context,
               const Model& model,
               std::span<token_t> tokens,
               index_t count) {
      for (std::size_t k = 1; k <= D; ++k) {
        const index_t rows = extend(context, model, k, count - 1);
        const matrix last = rows_.stream.slice(0, rows - 1, 1);
        const parameter& norm = norm_of(model.head(), model.trunk(), k);
        const matrix normed = rows_.normed.slice(0, 0, 1);
        rms_norm_forward(context,
                         normed,
                         inverse_.slice(0, 0, 1),
                         last,
                         model.values().vector(norm),
                         Config.epsilon());
        predict_row(context,
                    model,
                    model.trunk().output,
                    normed,
                    rows_.logits,
                    tokens.subspan(static_cast<std::size_t>(count) + k - 1, 1));
      }
      finish(count - 1);
    }

   private:
    template <class Model>
    index_t extend(context<Backend>& context, const Model& model, std::size_t k, index_t end) {
      const index_t count = end - valid_;
      if (count > 0) {
        block_type::decode(context,
                           model.head().block[k - 1],
                           model.values(),
                           model.rope(),
                           rows_.activations(count),
                           rows_.stream.slice(0, 0, count),
                           window_.rows(valid_, count),
                           caches_[k - 1],
                           valid_);
      }
      return count;
    }

    void finish(index_t end) {
      valid_ = end;
      window_.forget(end - 1);
    }

    decode_rows<Config, Backend, S> rows_;
    vector_view<S, Backend> inverse_{nullptr, dims<1>{0}};
    row_window<Backend, S> window_;
    std::array<cache_view<S, Backend>, D> caches_{};
    index_t valid_ = 0;  // positions that stand in the caches
  };
};

}  // namespace mtp
