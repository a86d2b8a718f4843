// Gloeckle et al.'s head: D extra transformer blocks side by side on one trunk output, before a
// shared output matrix (arXiv 2404.19737, section 2).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>

#include "mtp/model/block_run.hpp"
#include "mtp/model/blocks_apart.hpp"
#include "mtp/model/decode_rows.hpp"
#include "mtp/model/draft_progress.hpp"
#include "mtp/model/draft_tokens.hpp"
#include "mtp/model/pass_rows.hpp"
#include "mtp/model/row_ring.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// z is the output of the trunk's first L - 1 blocks. Head 1, the ordinary next-token head, is the
/// trunk's last block on z; depth k is the extra block k on the same z. None sees a later token:
/// the D + 1 predictions are made from the same position alone.
template <model_config Config, class Backend, scalar S>
struct parallel_head {
  /// Depth of the configuration.
  static constexpr std::size_t D = static_cast<std::size_t>(Config.prediction.depth);
  /// Whether all depths use the trunk's final norm.
  static constexpr bool shares_norm = Config.prediction.output_norm == output_norm_kind::shared;

  using matrix = matrix_view<S, Backend>;              ///< rows of activations
  using pass_type = model_pass<Config, Backend, S>;    ///< what a pass carries
  using trunk_type = trunk<Config, Backend, S>;        ///< what it is given its rows by
  static constexpr bool reads_embedding = false;       ///< see prediction_head
  using block_type = typename trunk_type::block_type;  ///< the computation of a block
  using block_layout = typename block_type::layout;    ///< parameters of a block

  /// Parameters of the extra blocks; depth k at k - 1.
  struct layout {
    std::array<block_layout, D> block;  ///< the extra blocks
    std::array<parameter, D> norm;      ///< scales; absent if the trunk's is shared  [C] each

    /// Takes their places from a parameter_cursor.
    template <class Cursor>
    static constexpr layout make(Cursor& cursor) {
      layout at;
      for (std::size_t k = 0; k < D; ++k) {
        at.block[k] = block_layout::make(cursor);
        if (!shares_norm) {
          at.norm[k] = cursor.vector(Config.hidden_size, parameter_role::norm);
        }
      }
      return at;
    }
    /// visitor(name, parameter) for each of them.
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

  /// The block of depth k; of depth 0 it is the trunk's last.
  static block_layout block_of(const layout& at,
                               const typename trunk_type::layout& trunk,
                               std::size_t k) {
    return k == 0 ? trunk.last_block() : at.block[k - 1];
  }
  /// The norm between the stream of depth k and the output matrix.
  static const parameter& norm_of(const layout& at,
                                  const typename trunk_type::layout& trunk,
                                  std::size_t k) {
    return k == 0 || shares_norm ? trunk.norm : at.norm[k - 1];
  }

  // ---- Training ----

  /// Memory for one head: the paper's trick. Forward, loss and backward of a head are done before
  /// the next one begins; only the gradient of z adds up.
  struct activations {
    typename block_type::activations block;         ///< of the head's block
    typename block_type::scratch scratch;           ///< what its backward pass works in
    matrix stream;                                  ///< output of the block  [N, C]
    vector_view<accumulate_t<S>, Backend> inverse;  ///< 1 / RMS of the stream  [N]
    matrix hidden;                                  ///< what the output matrix reads  [N, C]
    matrix dhidden;                                 ///< its gradient  [N, C]
    matrix dstream;                                 ///< gradient of the stream, then of z  [N, C]

    /// Takes the memory for N rows from an arena, or counts it with an arena_plan.
    template <class Arena>
    static constexpr activations make(Arena& arena,
                                      index_t N,
                                      const typename trunk_type::scratch& scratch) {
      const index_t C = Config.hidden_size;
      const auto rows = [&] { return matrix(arena.template take<S>(N * C), {N, C}); };
      const auto block = block_type::activations::make(arena, N);
      const auto stream = rows();
      const vector_view<accumulate_t<S>, Backend> inverse(arena.template take<accumulate_t<S>>(N),
                                                          dims<1>{N});
      const auto hidden = rows();
      const auto dhidden = rows();
      return {block, scratch.block, stream, inverse, hidden, dhidden, rows()};
    }
  };

  /// The most bytes of workspace that its operations need, in a training pass over N rows,
  /// sequences of `length`.
  static constexpr index_t workspace(index_t N, index_t length, index_t threads) {
    return (std::max)(block_type::workspace(N, length, threads),
                      ops_of<Backend>::template row_workspace<S>(N, Config.hidden_size, threads));
  }

  /// z, dz [N, C]. score(k, rows of depth k, rows for their gradient, output matrix) scores one
  /// depth at a time. With gradients, dz receives (=) the sum over heads of their gradients of z.
  /// Returns whether dz was written.
  template <class Score>
  static bool run(const pass_type& pass,
                  const layout& at,
                  const typename trunk_type::layout& trunk,
                  const activations& a,
                  matrix z,
                  matrix dz,
                  Score&& score) {
    bool written = false;
    for (std::size_t k = 0; k <= D; ++k) {
      const block_layout block = block_of(at, trunk, k);
      const parameter& norm = norm_of(at, trunk, k);
      block_type::forward(pass, block, a.block, a.stream, z);
      rms_norm_forward(
          pass.context, a.hidden, a.inverse, a.stream, pass.w.vector(norm), Config.rms_norm_eps);
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
      block_type::backward(pass, block, a.block, a.scratch, a.dstream, z);
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

  // ---- Drafting ----

  /// Drafts the next tokens of sequences, up to D of each. Each extra block has a cache over z,
  /// which is true for every position that the trunk has seen. All drafts of a sequence come from
  /// the last of these positions, so one product with the output matrix serves them all.
  class drafter {
   public:
    using rows_type = decode_rows<Config, Backend, S>;        ///< the rows of a pass
    using ring_type = row_ring<S, Backend>;                   ///< the latest rows of a stream
    using tasks_type = std::span<const draft_task<Backend>>;  ///< what is to be drafted
    static constexpr bool takes_trees = true;                 ///< what drafts stand behind is
                                                              ///< nothing that it looks at

    /// Takes the memory for the sequences of `slots` slots from an arena, or counts it with an
    /// arena_plan.
    template <class Arena>
    static constexpr drafter make(Arena& arena, index_t slots) {
      constexpr index_t C = Config.hidden_size, V = Config.vocab_size;
      const index_t max_rows = limits::drafter_rows(slots), drafts = slots * max_depth;
      drafter made;
      made.rows_ = rows_type::template make<block_type>(arena, max_rows);
      made.ring_ = ring_type::make(arena, slots, limits::ring, C);
      made.input_ = matrix(arena.template take<S>(max_rows * C), {max_rows, C});
      made.last_ = matrix(arena.template take<S>(drafts * C), {drafts, C});
      made.logits_ = {arena.template take<accumulate_t<S>>(drafts * V), {drafts, V}};
      made.predicted_ = {arena.template take<token_t>(drafts), dims<1>{drafts}};
      made.caches_ = run_caches<block_type>::make(arena, Config.prediction.depth, slots);
      return made;
    }

    /// The most bytes of workspace that its passes need.
    static constexpr index_t workspace(index_t slots, index_t threads) {
      const index_t rows = limits::drafter_rows(slots);
      const index_t apart = runs_blocks_apart<Config, Backend>
                                ? (std::min)(max_depth, threads) * apart_workspace(rows)
                                : 0;
      return (std::max)({block_type::decode_workspace(rows, threads),
                         apart,
                         logits_workspace<Config, Backend, S>(slots * max_depth, threads)});
    }

    /// A new sequence in a slot.
    void reset(index_t slot) {
      for (auto& progress : progress_) {
        progress[static_cast<std::size_t>(slot)].reset();
      }
    }

    /// For a host that drives a sequence itself: `count` tokens of it are confirmed, the last of
    /// them not yet seen by the trunk. Needed between drafts only where tokens became confirmed
    /// that no draft proposed; draft does it once.
    void rewind(index_t slot, index_t count) {
      for (auto& progress : progress_) {
        progress[static_cast<std::size_t>(slot)].rewind(count, rewound);
      }
    }

    /// A new sequence in a slot that begins as the last one did: keeps nothing at or behind
    /// `position`. The trunk is to be run from the position on that it returns.
    index_t keep(index_t slot, index_t position) {
      index_t kept = position;
      for (auto& progress : progress_) {
        kept = (std::min)(kept, progress[static_cast<std::size_t>(slot)].keep(position));
      }
      return kept;
    }
    /// What slot `to` holds (=) what slot `from` does, but for what the trunk gave it.
    void copy_slot(context<Backend>& context, index_t to, index_t from) {
      caches_.copy_slot(context, max_depth, to, from);
      for (auto& progress : progress_) {
        progress[static_cast<std::size_t>(to)] = progress[static_cast<std::size_t>(from)];
      }
    }

    /// Where the trunk's rows z are kept.
    const ring_type& ring() const { return ring_; }

    /// Brings depths 1 .. `depth` of a sequence up to date: the trunk has seen `seen` of the
    /// `count` confirmed tokens. At most row_limits::step rows of each depth are missing.
    template <class Model>
    void advance(context<Backend>& context,
                 const Model& model,
                 const sequence_view<Backend>& sequence,
                 index_t count,
                 index_t seen,
                 index_t depth) {
      const std::array<draft_task<Backend>, 1> only{{{sequence, depth}}};
      run(
          context,
          model,
          only,
          [&](auto& progress, const auto&) { return progress.up_to(seen, count); },
          [](auto&, std::size_t, const pass_rows&, const rows_type&) {});
    }

    /// Drafts for the tokens behind the confirmed ones. Tasks are of different sequences, in the
    /// order of falling depth.
    template <class Model>
    void draft(context<Backend>& context, const Model& model, tasks_type tasks) {
      std::array<index_t, max_slots> first{};  // row of last_ for depth 1 of a task
      index_t drafts = 0;
      for (std::size_t i = 0; i < tasks.size(); ++i) {
        first[i] = drafts;
        drafts += tasks[i].depth;
        if constexpr (backend_traits<Backend>::is_host_memory) {  // throws before rows count as run
          rewind(tasks[i].sequence.slot, tasks[i].sequence.state(sequence_count));
        }
      }
      run(
          context,
          model,
          tasks,
          [](auto& progress, const auto& task) {
            return progress.for_draft(task.sequence, rewound);
          },
          [&](auto& own, std::size_t k, const pass_rows& list, const rows_type& rows) {
            for (std::size_t i = 0; i < list.runs().size(); ++i) {
              rms_norm_forward(
                  own,
                  last_.slice(0, first[i] + static_cast<index_t>(k) - 1, 1),
                  rows.inverse.slice(0, 0, 1),
                  list.last(i, rows.stream),
                  model.values().vector(norm_of(model.head_layout(), model.trunk_layout(), k)),
                  Config.rms_norm_eps);
            }
          });
      draft_tokens(
          context,
          model,
          model.trunk_layout().output,
          last_.slice(0, 0, drafts),
          logits_.slice(0, 0, drafts),
          predicted_.slice(0, 0, drafts),
          tasks,
          [](const auto& task) { return task.depth; },
          0);
    }

   private:
    using limits = row_limits<Config, Backend>;
    using progress_type = draft_progress<Config, Backend, block_type::rewindable>;
    static constexpr index_t max_depth = Config.prediction.depth;
    static constexpr index_t rewound = 2;  // the row that drafts are made from is run anew

    /// Bytes of workspace of one of several blocks that run at the same time.
    static constexpr index_t apart_workspace(index_t rows) {
      return round_up(block_type::decode_workspace(rows, 1), arena_alignment);
    }

    /// For each depth that a task asks for: runs the rows range_of(progress, task), then calls
    /// done(context, k, the rows, what they became). Depths whose rows are the same run at the same
    /// time where that is faster: each reads z alone and writes what is its own.
    template <class Model, class RangeOf, class Done>
    void run(context<Backend>& context,
             const Model& model,
             tasks_type tasks,
             const RangeOf& range_of,
             const Done& done) {
      std::array<pass_rows, D> lists;  // of depth k at k - 1
      for (std::size_t k = 1; k <= D; ++k) {
        for (const draft_task<Backend>& task : tasks_of_depth(tasks, static_cast<index_t>(k))) {
          const index_t slot = task.sequence.slot;
          lists[k - 1].add(slot, range_of(progress_[k - 1][static_cast<std::size_t>(slot)], task));
        }
      }
      const pass_rows* loaded = nullptr;
      for (std::size_t k = 1; k <= D;) {
        const pass_rows& list = lists[k - 1];
        const index_t M = list.rows();
        if (M == 0) {
          ++k;
          continue;
        }
        const matrix input = input_.slice(0, 0, M);  // [M, C]
        if (loaded == nullptr || !(list == *loaded)) {
          const auto rows = rows_.first(M);
          rows.select(context, tasks, list, 0);
          ring_.load(context, list, input, rows.positions);
          loaded = &list;
        }
        const auto other = std::find_if(
            lists.begin() + k, lists.end(), [&](const auto& each) { return !(each == list); });
        k += static_cast<std::size_t>(run_blocks<Config, Backend>(
            context,
            other - lists.begin() - static_cast<std::ptrdiff_t>(k) + 1,
            M * block_row_work<block_type, Backend, S>(),
            rows_.template room<block_type>(M),
            apart_workspace(M),
            [&](index_t n, auto& own) {
              const std::size_t own_depth = k + static_cast<std::size_t>(n);
              const auto rows = rows_.template beside<block_type>(n, M);
              block_type::decode(rows.pass(own, model, list.runs()),
                                 model.head_layout().block[own_depth - 1],
                                 rows.template activations<block_type>(),
                                 caches_.at(static_cast<int>(own_depth) - 1),
                                 rows.stream,
                                 input);
              done(own, own_depth, list, rows);
            }));
      }
    }

    rows_type rows_;
    ring_type ring_;
    matrix input_{nullptr, {0, 0}};                                   // [rows, C]
    matrix last_{nullptr, {0, 0}};                                    // [slots D, C]
    matrix_view<accumulate_t<S>, Backend> logits_{nullptr, {0, 0}};   // [slots D, V]
    vector_view<token_t, Backend> predicted_{nullptr, dims<1>{0}};    // [slots D]
    run_caches<block_type> caches_;                                   // one for each depth
    std::array<std::array<progress_type, max_slots>, D> progress_{};  // depth k at k - 1
  };
};

/// The head of head_kind::parallel.
template <>
struct head_traits<head_kind::parallel> {
  /// The plain sum: equation 2.
  static double default_weight(std::size_t, std::size_t) { return 1; }

  /// Its class template.
  template <model_config Config, class Backend, scalar S>
  using head = parallel_head<Config, Backend, S>;
};

}  // namespace mtp::inline MTP_ABI
