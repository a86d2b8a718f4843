// How a sequential head drafts.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "mtp/core/draft_tree.hpp"
#include "mtp/model/block_run.hpp"
#include "mtp/model/decode_rows.hpp"
#include "mtp/model/draft_progress.hpp"
#include "mtp/model/draft_tokens.hpp"
#include "mtp/model/heads/mtp_module.hpp"
#include "mtp/model/pass_rows.hpp"
#include "mtp/model/row_ring.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/sequence.hpp"
#include "mtp/ops/tree.hpp"

namespace mtp::inline MTP_ABI {

/// Drafts the next tokens of sequences, up to D of each. Each depth has a cache over its own
/// stream, fed with the true hidden states and true tokens of accepted positions: row i of depth
/// k is final once token t_{i+k} is confirmed.
template <class Head, model_config Config, class Backend, scalar S>
class sequential_drafter {
 public:
  static constexpr auto D = static_cast<std::size_t>(Config.prediction.depth);  ///< depths
  using matrix = matrix_view<S, Backend>;                     ///< rows of activations
  using rows_type = decode_rows<Config, Backend, S>;          ///< the rows of a pass
  using ring_type = row_ring<S, Backend>;                     ///< the latest rows of a stream
  using tasks_type = std::span<const draft_task<Backend>>;    ///< what is to be drafted
  using logits_type = matrix_view<accumulate_t<S>, Backend>;  ///< rows of logits
  /// Whether it drafts trees.
  static constexpr bool takes_trees =
      decodes_trees<Backend> && trunk<Config, Backend, S>::block_type::takes_trees;
  /// Their drafts rest on each other, so it puts them into the sequence itself: see draft_trees.
  static constexpr bool grows_trees = true;

  /// Takes the memory for the sequences of `slots` slots from an arena, or counts it with an
  /// arena_plan.
  template <class Arena>
  static constexpr sequential_drafter make(Arena& arena, index_t slots) {
    constexpr index_t C = Config.hidden_size, V = Config.vocab_size;
    const index_t max_rows = limits::drafter_rows(slots);
    const auto matrix_of = [&](index_t rows, index_t columns) {
      return matrix(arena.template take<S>(rows * columns), {rows, columns});
    };
    sequential_drafter made;
    made.rows_ = rows_type::template make<block_type>(arena, max_rows);
    if constexpr (takes_trees) {
      made.rows_.places = {arena.template take<index_t>(max_rows), dims<1>{max_rows}};
      made.levels_ = matrix_of(slots * max_tree_rows, C);
    }
    made.input_ = matrix_of(max_rows, C);
    made.projected_ = matrix_of(max_rows, C);
    made.inv_hidden_ = {arena.template take<accumulate_t<S>>(max_rows), dims<1>{max_rows}};
    made.inv_embedding_ = {arena.template take<accumulate_t<S>>(max_rows), dims<1>{max_rows}};
    made.last_ = matrix_of(slots, C);
    made.logits_ = {arena.template take<accumulate_t<S>>(slots * V), {slots, V}};
    made.predicted_ = {arena.template take<token_t>(slots), dims<1>{slots}};
    made.caches_ = run_caches<block_type>::make(arena, Config.prediction.depth, slots);
    for (std::size_t k = 0; k < rings; ++k) {
      made.rings_[k] = ring_type::make(arena, slots, limits::ring, C);
    }
    return made;
  }

  /// The most bytes of workspace that its passes need.
  static constexpr index_t workspace(index_t slots, index_t threads) {
    return (std::max)(module_type::decode_workspace(limits::drafter_rows(slots), threads),
                      logits_workspace<Config, Backend, S>(slots, threads));
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
    for (std::size_t k = 1; k <= D; ++k) {
      progress_of(k, slot).rewind(count, static_cast<index_t>(k) + 1);
    }
  }

  /// A new sequence in a slot that begins as the last one did: keeps nothing at or behind
  /// `position`. The trunk is to be run from the position on that it returns.
  index_t keep(index_t slot, index_t position) {
    index_t kept = position;
    for (std::size_t k = 1; k <= D; ++k) {
      kept = (std::min)(kept, progress_of(k, slot).keep(position));
    }
    return kept;
  }
  /// What slot `to` holds (=) what slot `from` does, but for what the trunk gave it.
  void copy_slot(context<Backend>& context, index_t to, index_t from) {
    caches_.copy_slot(context, Config.prediction.depth, to, from);
    for (auto& progress : progress_) {
      progress[static_cast<std::size_t>(to)] = progress[static_cast<std::size_t>(from)];
    }
  }

  /// Where the trunk's rows are kept.
  const ring_type& ring() const { return rings_[0]; }

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
    for (std::size_t k = 1; k <= static_cast<std::size_t>(depth); ++k) {
      const index_t end = (std::min)(seen, count - static_cast<index_t>(k));
      pass_rows list;
      list.add(sequence.slot, progress_of(k, sequence.slot).up_to(end, count));
      run(context, model, only, list, k);
    }
  }

  /// Drafts for the tokens behind the confirmed ones, each from the ones before it. Tasks are of
  /// different sequences, in the order of falling depth.
  template <class Model>
  void draft(context<Backend>& context, const Model& model, tasks_type tasks) {
    for (std::size_t k = 1; k <= D; ++k) {
      const auto depth = static_cast<index_t>(k);
      const tasks_type deep = tasks_of_depth(tasks, depth);
      if (deep.empty()) {
        return;
      }
      pass_rows list;
      for (const draft_task<Backend>& task : deep) {
        const index_t slot = task.sequence.slot;
        list.add(slot, progress_of(k, slot).for_draft(task.sequence, depth + 1));
      }
      run(context, model, deep, list, k);
      draft_tokens(
          context,
          model,
          model.trunk_layout().output,
          last_rows(context, list, rows_.normed, last_),
          logits_.slice(0, 0, static_cast<index_t>(deep.size())),
          predicted_.slice(0, 0, static_cast<index_t>(deep.size())),
          deep,
          [](const auto&) { return index_t{1}; },
          depth - 1);
    }
  }

  /// Drafts trees of fixed rows in the order of their depths (draft_tree::by_depth), of sequences
  /// with D + 1 confirmed tokens or more. Depth k runs rows 0 .. of the tree up to those at depth
  /// k - 1, each at its depth behind position count - 1 - k and attending to the rows that lead to
  /// it, with what depth k - 1 gave the row in front of it; the best tokens behind a row become its
  /// children. Tasks are of different sequences, with trees, in the order of falling depth; room
  /// for at least one row of logits [.., V].
  template <class Model>
  void draft_trees(context<Backend>& context,
                   const Model& model,
                   tasks_type tasks,
                   logits_type room) requires(takes_trees) {
    while (!tasks.empty()) {  // as many at a time as there are rows for
      std::size_t some = 0;
      for (index_t rows = 0; some < tasks.size(); ++some) {
        rows += tasks[some].shape.rows_up_to(tasks[some].depth - 1);
        if (some > 0 && rows > rows_.stream.extent(0)) {
          break;
        }
      }
      draft_some_trees(context, model, tasks.first(some), room);
      tasks = tasks.subspan(some);
    }
  }

 private:
  using block_type = typename trunk<Config, Backend, S>::block_type;
  using module_type = mtp_module<Config, Backend, S>;
  using limits = row_limits<Config, Backend>;
  static constexpr std::size_t rings = Head::chained ? D : 1;  // inputs of depths
  using progress_type = draft_progress<Config, Backend, block_type::rewindable>;

  progress_type& progress_of(std::size_t k, index_t slot) {
    return progress_[k - 1][static_cast<std::size_t>(slot)];
  }

  template <class Model>
  void draft_some_trees(context<Backend>& context,
                        const Model& model,
                        tasks_type tasks,
                        const logits_type& room) {
    for (const draft_task<Backend>& task : tasks) {  // for the rows' parents
      grow_tree(
          context, task.sequence, task.candidates, task.candidate_log_probabilities, task.shape);
    }
    for (std::size_t k = 1; k <= D; ++k) {
      const auto depth = static_cast<index_t>(k);
      const tasks_type deep = tasks_of_depth(tasks, depth);
      if (deep.empty()) {
        return;
      }
      pass_rows confirmed, branches;
      for (const draft_task<Backend>& task : deep) {
        const index_t slot = task.sequence.slot;
        confirmed.add(slot, progress_of(k, slot).for_tree(task.sequence, depth));
        branches.add(slot,
                     {-1 - depth, task.shape.rows_up_to(depth - 1)},
                     task.sequence.tree.parents.data());
      }
      run(context, model, deep, confirmed, k);
      run(context, model, deep, branches, k);
      for (std::size_t i = 0; i < deep.size(); ++i) {
        const auto of_task = [&](const matrix& all) { return branches.part(i, all); };
        if (Head::chained && k < D) {
          const matrix given = of_task(recycled(rows_));
          copy(context, level(deep[i].sequence.slot).slice(0, 0, given.extent(0)), given);
        }
        draft_children(context, model, deep[i], of_task(rows_.normed), room, depth);
      }
    }
  }

  /// The children of the rows of a tree at depth k - 1, by the normed streams of depth k for rows
  /// [0, M) of it.  normed [M, C]
  template <class Model>
  void draft_children(context<Backend>& context,
                      const Model& model,
                      const draft_task<Backend>& task,
                      const matrix& normed,
                      const logits_type& room,
                      index_t k) {
    const draft_tree& tree = task.shape;
    const index_t end = normed.extent(0);
    const index_t most =
        (std::min)(room.extent(0), last_.extent(0) * Config.prediction.depth);  // of a vocabulary
    for (index_t from = k == 1 ? 0 : tree.rows_up_to(k - 2); from < end; from += most) {
      const index_t count = (std::min)(most, end - from);
      const auto logits = draft_logits(context,
                                       model,
                                       model.trunk_layout().output,
                                       normed.slice(0, from, count),
                                       room.slice(0, 0, count));  // [count, V]
      for (index_t j = 0; j < count; ++j) {
        index_t width = 0;
        for (index_t c = 1; c < tree.rows(); ++c) {
          width = tree.parent(c) == from + j ? (std::max)(width, tree.rank(c) + 1) : width;
        }
        if (width == 0) {
          continue;
        }
        const auto tokens = task.candidates.slice(0, k - 1, 1).slice(1, 0, width);  // [1, width]
        choose_candidates(context,
                          task,
                          tokens,
                          task.candidate_log_probabilities.slice(0, k - 1, 1).slice(1, 0, width),
                          logits.slice(0, j, 1),
                          from + j);
        for (index_t c = 1; c < tree.rows(); ++c) {
          if (tree.parent(c) == from + j) {
            append_drafts(context, task.sequence, as_list(tokens, tree.rank(c)), c - 1);
          }
        }
      }
    }
  }

  /// What depth k gave the rows of the tree in a slot.  [max_tree_rows, C]
  matrix level(index_t slot) const { return levels_.slice(0, slot * max_tree_rows, max_tree_rows); }
  /// What depth k + 1 reads of depth k.
  static matrix recycled(const rows_type& rows) {
    return Head::recycles_before_norm ? rows.stream : rows.normed;
  }

  /// What depth k reads: of the depth in front of it, at the same position, where that rests on
  /// confirmed tokens, else of the row in front.
  void load_input(context<Backend>& context,
                  tasks_type tasks,
                  const pass_rows& list,
                  const rows_type& rows,
                  std::size_t k) {
    const matrix input = input_.slice(0, 0, list.rows());
    const auto& ring = rings_[Head::chained ? k - 1 : 0];
    if (!list.has_trees() || !Head::chained || k == 1) {
      ring.load(context, list, input, rows.positions);
      return;
    }
    for (std::size_t i = 0; i < list.runs().size(); ++i) {
      const auto own = list.part(i, input);
      const auto& sequence = tasks[i].sequence;
      load_rows(
          context, own, level(sequence.slot), sequence.tree.parents.slice(0, 0, own.extent(0)));
      load_rows(context,
                own.slice(0, 0, 1),
                ring.at(sequence.slot),
                list.part(i, rows.positions).slice(0, 0, 1));
    }
  }

  /// Runs some rows of depth k; their normed streams are in rows_.normed.
  template <class Model>
  void run(context<Backend>& context,
           const Model& model,
           tasks_type tasks,
           const pass_rows& list,
           std::size_t k) {
    if (list.rows() == 0) {
      return;
    }
    const auto rows = rows_.first(list.rows());
    const auto part = [&](const auto& all) { return all.slice(0, 0, list.rows()); };
    const auto& at = model.head_layout().of(k);
    rows.select(context, tasks, list, static_cast<index_t>(k));
    load_input(context, tasks, list, rows, k);
    const auto pass = rows.pass(context, model, list.runs());
    const matrix projected = part(projected_);  // [rows, C]
    module_type::combine(pass,
                         at,
                         model.trunk_layout().embedding,
                         projected,
                         part(inv_hidden_),
                         part(inv_embedding_),
                         part(input_),
                         rows.ids);
    block_type::decode(pass,
                       at.block,
                       rows.template activations<block_type>(),
                       caches_.at(static_cast<int>(k) - 1),
                       rows.stream,
                       projected);
    rows.norm(pass, Head::norm_of(model.head_layout(), model.trunk_layout(), k), rows.stream);
    if (k < rings && !list.has_trees()) {
      rings_[k].store(context, list, recycled(rows), rows.positions);
    }
  }

  rows_type rows_;
  matrix input_{nullptr, {0, 0}};                                             // [rows, C]
  matrix projected_{nullptr, {0, 0}};                                         // [rows, C]
  vector_view<accumulate_t<S>, Backend> inv_hidden_{nullptr, dims<1>{0}};     // [rows]
  vector_view<accumulate_t<S>, Backend> inv_embedding_{nullptr, dims<1>{0}};  // [rows]
  matrix last_{nullptr, {0, 0}};                                              // [slots, C]
  matrix levels_{nullptr, {0, 0}};                                            // [slots rows, C]
  logits_type logits_{nullptr, {0, 0}};                                       // [slots, V]
  vector_view<token_t, Backend> predicted_{nullptr, dims<1>{0}};              // [slots]
  run_caches<block_type> caches_;                                             // one for each depth
  std::array<ring_type, rings> rings_{};                            // what depth k + 1 reads, at k
  std::array<std::array<progress_type, max_slots>, D> progress_{};  // depth k at k - 1
};

}  // namespace mtp::inline MTP_ABI
