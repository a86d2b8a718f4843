// How a sequential head drafts.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "mtp/model/block_run.hpp"
#include "mtp/model/decode_rows.hpp"
#include "mtp/model/draft_progress.hpp"
#include "mtp/model/draft_tokens.hpp"
#include "mtp/model/heads/mtp_module.hpp"
#include "mtp/model/pass_rows.hpp"
#include "mtp/model/row_ring.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// Drafts the next tokens of sequences, up to D of each. Each depth has a cache over its own
/// stream, fed with the true hidden states and true tokens of accepted positions: row i of depth
/// k is final once token t_{i+k} is confirmed.
template <class Head, model_config Config, class Backend, scalar S>
class sequential_drafter {
 public:
  static constexpr auto D = static_cast<std::size_t>(Config.prediction.depth);  ///< depths
  using matrix = matrix_view<S, Backend>;                   ///< rows of activations
  using rows_type = decode_rows<Config, Backend, S>;        ///< the rows of a pass
  using ring_type = row_ring<S, Backend>;                   ///< the latest rows of a stream
  using tasks_type = std::span<const draft_task<Backend>>;  ///< what is to be drafted

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

 private:
  using block_type = typename trunk<Config, Backend, S>::block_type;
  using module_type = mtp_module<Config, Backend, S>;
  using limits = row_limits<Config, Backend>;
  static constexpr std::size_t rings = Head::chained ? D : 1;  // inputs of depths
  using progress_type = draft_progress<Config, Backend, block_type::rewindable>;

  progress_type& progress_of(std::size_t k, index_t slot) {
    return progress_[k - 1][static_cast<std::size_t>(slot)];
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
    rings_[Head::chained ? k - 1 : 0].load(context, list, part(input_), rows.positions);
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
    if (k < rings) {
      rings_[k].store(
          context, list, Head::recycles_before_norm ? rows.stream : rows.normed, rows.positions);
    }
  }

  rows_type rows_;
  matrix input_{nullptr, {0, 0}};                                             // [rows, C]
  matrix projected_{nullptr, {0, 0}};                                         // [rows, C]
  vector_view<accumulate_t<S>, Backend> inv_hidden_{nullptr, dims<1>{0}};     // [rows]
  vector_view<accumulate_t<S>, Backend> inv_embedding_{nullptr, dims<1>{0}};  // [rows]
  matrix last_{nullptr, {0, 0}};                                              // [slots, C]
  matrix_view<accumulate_t<S>, Backend> logits_{nullptr, {0, 0}};             // [slots, V]
  vector_view<token_t, Backend> predicted_{nullptr, dims<1>{0}};              // [slots]
  run_caches<block_type> caches_;                                             // one for each depth
  std::array<ring_type, rings> rings_{};                            // what depth k + 1 reads, at k
  std::array<std::array<progress_type, max_slots>, D> progress_{};  // depth k at k - 1
};

}  // namespace mtp::inline MTP_ABI
