// DeepSeek-V3's head: D modules one after the other, so that every depth keeps the complete causal
// chain (arXiv 2412.19437, section 2.2, equations 21-25).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "mtp/model/block_run.hpp"
#include "mtp/model/decode_rows.hpp"
#include "mtp/model/draft_progress.hpp"
#include "mtp/model/draft_tokens.hpp"
#include "mtp/model/heads/mtp_module.hpp"
#include "mtp/model/pass_rows.hpp"
#include "mtp/model/row_ring.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// The stream of depth k at position i is computed from that of depth k - 1 and the true token
/// t_{i+k}; it predicts t_{i+k+1}. Every depth attends causally over its own stream. Depth k uses
/// module (k - 1) mod (number of modules): with one module this is the recurrent head.
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

  /// Bytes of workspace that its operations want at most, in a training pass over N rows, sequences
  /// of `length`.
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
      if (k == 1) {
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

  // ---- Drafting ----

  /// Drafts the next tokens of sequences, up to D of each. Each depth has a cache over its own
  /// stream, fed with the true hidden states and true tokens of accepted positions: row i of depth
  /// k is final once token t_{i+k} is confirmed.
  class drafter {
   public:
    using rows_type = decode_rows<Config, Backend, S>;        ///< the rows of a pass
    using ring_type = row_ring<S, Backend>;                   ///< the latest rows of a stream
    using tasks_type = std::span<const draft_task<Backend>>;  ///< what is to be drafted

    /// Takes the memory for the sequences of `slots` slots from an arena, or counts it with an
    /// arena_plan.
    template <class Arena>
    static constexpr drafter make(Arena& arena, index_t slots) {
      constexpr index_t C = Config.hidden_size, V = Config.vocab_size;
      const index_t max_rows = limits::drafter_rows(slots);
      const auto matrix_of = [&](index_t rows, index_t columns) {
        return matrix(arena.template take<S>(rows * columns), {rows, columns});
      };
      drafter made;
      made.rows_ = rows_type::template make<block_type>(arena, max_rows);
      made.input_ = matrix_of(max_rows, C);
      made.projected_ = matrix_of(max_rows, C);
      made.inv_hidden_ = {arena.template take<accumulate_t<S>>(max_rows), dims<1>{max_rows}};
      made.inv_embedding_ = {arena.template take<accumulate_t<S>>(max_rows), dims<1>{max_rows}};
      made.last_ = matrix_of(slots, C);
      made.logits_ = {arena.template take<accumulate_t<S>>(slots * V), {slots, V}};
      made.predicted_ = {arena.template take<token_t>(slots), dims<1>{slots}};
      made.caches_ = run_caches<block_type>::make(arena, Config.prediction.depth, slots);
      for (auto& ring : made.rings_) {
        ring = ring_type::make(arena, slots, limits::ring, C);
      }
      return made;
    }

    /// Bytes of workspace that its passes want at most.
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
    using limits = row_limits<Config, Backend>;
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
      rings_[k - 1].load(context, list, part(input_), rows.positions);
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
      rows.norm(pass, norm_of(model.head_layout(), model.trunk_layout(), k), rows.stream);
      if (k < D) {
        rings_[k].store(
            context, list, recycles_before_norm ? rows.stream : rows.normed, rows.positions);
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
    run_caches<block_type> caches_;     // one for each depth
    std::array<ring_type, D> rings_{};  // what depth k + 1 reads, at k
    std::array<std::array<progress_type, max_slots>, D> progress_{};  // depth k at k - 1
  };
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
