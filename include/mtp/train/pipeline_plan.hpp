// What a pipeline costs, before it runs: time, memory and traffic of its stages.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/distributed/alone.hpp"
#include "mtp/distributed/pipeline_schedule.hpp"
#include "mtp/loss/model_loss.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/model_cost.hpp"
#include "mtp/model/stage_layout.hpp"
#include "mtp/model/stage_model.hpp"
#include "mtp/train/stage_blocks.hpp"
#include "mtp/train/stage_gradients.hpp"
#include "mtp/train/stage_shard.hpp"
#include "mtp/train/train_options.hpp"

namespace mtp::inline MTP_ABI {

/// What a step is cut into.
struct pipeline_options {
  head_placement placement = head_placement::last_stage;  ///< where the head is
  index_t batch = 16;                                     ///< sequences of a pass, B
  index_t length = 128;                                   ///< positions of a sequence, T
  index_t passes = 1;                                     ///< of a step, of all copies, K
  /// How the gradient of an embedding is added to which stages have parts, and those of copies.
  reduction_order reduction = reduction_order::by_rank;
  int copies = 1;                              ///< of the pipeline, D
  index_t bucket_elements = index_t{1} << 20;  ///< gradients of a message between copies, at most
  optimizer_sharding sharding = optimizer_sharding::none;  ///< of moments and masters among copies
};

/// Costs of a rank. Memory in bytes; without workspace of operations and tables of positions.
struct stage_cost {
  double flops = 0;         ///< multiplications and additions of a pass, forward and backward
  index_t parameters = 0;   ///< values, copies among them
  index_t gradients = 0;    ///< of a pass, of the step, and those that wait for the first stage
  index_t optimizer = 0;    ///< moments, and masters if there are any
  index_t activations = 0;  ///< of all passes that are under way
  index_t messages = 0;     ///< room for what is sent and received
  /// Bytes that the rank sends in a step, but for the norm, a double and at most one piece of 16384
  /// gradients to the next; and for losses and loads. A sum that the engine adds, and a gather,
  /// count as what every rank must send of it at least.
  double sent = 0;

  /// All memory.
  constexpr index_t memory() const {
    return parameters + gradients + optimizer + activations + messages;
  }
};

/// The stages of a pipeline and their costs, known at compile time.
///
///     constexpr mtp::pipeline_plan<config, mtp::cpu> plan(4, {.passes = 32});
///     plan.stage(rank), plan.cost(rank), plan.bubble()
///
/// Of R ranks, D = `copies` have each stage: rank r has stage r mod P of copy r / P, P = R / D.
///
/// Blocks are distributed so that the slowest rank has as little as possible to compute, by counted
/// operations: six for each weight that a token meets, and attention (model_cost.hpp). Measured
/// times differ; stages of one's own may be passed to stage_model only if the trainer's are the
/// same.
template <model_config Config, class Backend, scalar S = float>
class pipeline_plan {
  using layout_type = stage_layout<Config, Backend, S>;
  using sum_type = accumulate_t<S>;
  using model_type = stage_model<Config, Backend, S>;
  using loss_type = model_loss<Config, Backend, S, model_type>;
  using blocks_type = detail::stage_blocks<Config, Backend, S>;
  using gradients_type = detail::stage_gradients<sum_type, Backend, alone, layout_type>;
  using trunk_type = trunk<Config, Backend, S>;

 public:
  /// The most ranks: each has at least one block, but for the head's own.
  static constexpr int most_ranks(head_placement placement) {
    return layout_type::blocks + (placement == head_placement::own_stage ? 1 : 0);
  }

  /// For `all` ranks. Throws mtp::error for no or too many of them, for sizes that are not
  /// positive, and for more copies than passes.
  constexpr explicit pipeline_plan(int all, const pipeline_options& options = {})
      : copies_{options.copies, options.passes}, options_(options) {
    check(options.copies >= 1 && all % options.copies == 0,
          "pipeline_plan: expected copies of a pipeline with as many ranks each, got ",
          options.copies,
          " copies and ",
          all,
          " ranks");
    const int ranks = all / options.copies;
    check(ranks >= 1 && ranks <= most_ranks(options.placement),
          "pipeline_plan: expected 1 to ",
          most_ranks(options.placement),
          " ranks, a block for each, got ",
          ranks);
    check(options.batch > 0 && options.length > 0 && options.passes > 0,
          "pipeline_plan: expected a positive batch, length and number of passes, got ",
          options.batch,
          ", ",
          options.length,
          " and ",
          options.passes);
    check(options.copies <= options.passes,
          "pipeline_plan: expected at most as many copies as a step has passes (",
          options.passes,
          "), got ",
          options.copies);
    schedule_ = {ranks, copies_.rounds(), options.placement};
    cut();
  }

  /// The order of work of a copy.
  constexpr const pipeline_schedule& schedule() const { return schedule_; }
  /// Who computes which pass.
  constexpr const pipeline_copies& copies() const { return copies_; }
  /// What it was made for.
  constexpr const pipeline_options& options() const { return options_; }

  /// What a rank has.
  constexpr pipeline_stage stage(int rank) const {
    const int own = rank % schedule_.ranks;
    const auto r = static_cast<std::size_t>(own);
    return {begins_[r], begins_[r + 1], own == 0, own == schedule_.head_rank()};
  }

  /// The head's side of a rank that has one: the part of the trunk in front of it.
  static constexpr typename trunk_type::part head_part(const pipeline_schedule& schedule,
                                                       const pipeline_stage& stage) {
    return schedule.both_ends_on_first()
               ? typename trunk_type::part{layout_type::blocks, layout_type::blocks, false, true}
               : typename trunk_type::part{stage.first, stage.last, stage.embeds, true};
  }

  /// Whether each copy has moments and masters of a shard of its stage alone.
  constexpr bool is_sharded() const {
    return copies_.count > 1 && options_.sharding == optimizer_sharding::zero1;
  }

  /// What a rank costs.
  constexpr stage_cost cost(int number) const {
    const int rank = number % schedule_.ranks, copy = number / schedule_.ranks;
    const pipeline_stage own = stage(rank);
    const layout_type at = layout_type::make(own);
    const index_t N = options_.batch * options_.length, C = Config.hidden_size;
    const bool predicts = own.predicts, has_blocks = schedule_.has_blocks(rank);
    const auto size = static_cast<index_t>(sizeof(S)), sum = static_cast<index_t>(sizeof(sum_type));
    stage_cost cost;
    cost.flops = flops_of_rank(rank);
    cost.parameters = at.storage * size;
    const bool shares = layout_type::head_embeds && schedule_.stations() > 1;
    const bool once = detail::hands_over_once(schedule_, options_.reduction);
    cost.gradients = gradients_type::bytes_of(at, schedule_, copies_, rank, options_.reduction);
    const index_t updated =
        is_sharded() ? detail::shards_of_stage(at.owned(), copies_.count).size(copy) : at.owned();
    cost.optimizer = updated * sum * (std::is_same_v<S, sum_type> ? 2 : 3);
    cost.activations = blocks_type::bytes_of(own, N, schedule_.in_flight(rank));
    if (predicts) {
      cost.activations +=
          loss_type::activation_bytes(options_.batch, options_.length, head_part(schedule_, own));
    }
    // Between two stations there is a stream one way and its gradient the other, each with room on
    // both sides.
    const int links = (has_blocks ? 1 : 0) + (has_blocks && rank > 0 ? 1 : 0) +
                      (predicts && schedule_.stations() > 1 ? 1 : 0);
    using sums_type = typename gradients_type::sums_type;
    cost.messages = links * 2 * N * C * size;
    cost.messages +=
        sums_type::room_of(at, copies_, has_blocks, options_.reduction, options_.bucket_elements);
    const auto passes = static_cast<double>(copies_.passes_of(copy));
    cost.sent = passes * static_cast<double>(links * N * C * size);
    cost.sent += sums_type::sent_of(at, copies_, copy, has_blocks, options_.reduction);
    if (is_sharded()) {
      cost.sent += static_cast<double>(updated * (copies_.count - 1) * size);
    }
    if (shares && !schedule_.both_ends_on_first()) {
      const auto embedding = static_cast<double>(at.embedding);
      cost.sent += predicts    ? (once ? 1 : passes) * embedding * sizeof(sum_type)
                   : rank == 0 ? embedding * sizeof(S)
                               : 0;
    }
    return cost;
  }

  /// The most that a rank computes in a pass.
  constexpr double slowest() const {
    double most = 0;
    for (int rank = 0; rank < schedule_.ranks; ++rank) {
      most = (std::max)(most, flops_of_rank(rank));
    }
    return most;
  }
  /// The share of a step in which ranks wait, on average: with t the operations of a rank in a
  /// pass, t_max those of the slowest, S stations and K passes of a copy
  ///
  ///     1 - K mean(t) / ((K + S - 1) t_max)
  ///
  /// which is (P - 1) / (K + P - 1) if all ranks are equal. Messages take no time in it. If copies
  /// have different numbers of passes, K is the mean above and the most below the line.
  constexpr double bubble() const {
    double sum = 0;
    for (int rank = 0; rank < schedule_.ranks; ++rank) {
      sum += flops_of_rank(rank);
    }
    const double mean = static_cast<double>(options_.passes) / copies_.count;
    const auto most = static_cast<double>(copies_.rounds());
    return 1 - mean * sum / schedule_.ranks / ((most + schedule_.stations() - 1) * slowest());
  }

 private:
  /// Six operations for every weight, and as many for every element of queries and values and each
  /// position that attention looks at, half of the sequence on average.
  constexpr double flops_of(double weights, double attentions) const {
    const double T = static_cast<double>(options_.length);
    const double of_row = 6 * weights + attentions * 6 * (T / 2) * attention_widths(Config);
    return of_row * static_cast<double>(options_.batch) * T;
  }
  constexpr double flops_of_block(int l) const {
    return flops_of(block_weights(Config, l < Config.feed_forward.first_k_dense_replace), 1);
  }
  /// The head's side, with the last block if the head owns it.
  constexpr double flops_of_head() const {
    const bool owns = !trunk_type::ends_with_norm;
    const int blocks = (depths_have_blocks(Config) ? Config.prediction.depth : 0) + (owns ? 1 : 0);
    return flops_of(head_weights(Config) + (owns ? block_weights(Config, false) : 0), blocks);
  }
  constexpr double flops_of_rank(int rank) const {
    const pipeline_stage own = stage(rank);
    double flops = own.predicts ? flops_of_head() : 0;
    for (int l = own.first; l < own.last; ++l) {
      flops += flops_of_block(l);
    }
    return flops;
  }

  /// Whether blocks [first, last) fit into `ranks` ranks, at least one in each, with at most
  /// `limit` operations in each; if so, begins_ says how, from rank `begin` on.
  constexpr bool fits(int first, int last, int begin, int ranks, double limit) {
    int l = first;
    for (int rank = 0; rank < ranks; ++rank) {
      begins_[static_cast<std::size_t>(begin + rank)] = l;
      double flops = 0;
      for (const int own = l; l < last - (ranks - 1 - rank); ++l) {
        flops += flops_of_block(l);
        if (flops > limit && l == own) return false;
        if (flops > limit) break;
      }
    }
    return l == last;
  }

  /// The smallest limit for which they fit, by bisection.
  constexpr double smallest(int first, int last, int begin, int ranks) {
    if (ranks == 0) return 0;
    double low = 0, high = 0;
    for (int l = first; l < last; ++l) {
      high += flops_of_block(l);
    }
    for (int i = 0; i < 40; ++i) {
      const double middle = low + (high - low) / 2;
      (fits(first, last, begin, ranks, middle) ? high : low) = middle;
    }
    fits(first, last, begin, ranks, high);
    return high;
  }

  /// Gives the rank with the head `own` blocks, and distributes the others. Returns the operations
  /// of the slowest rank.
  constexpr double cut(int own) {
    constexpr int blocks = layout_type::blocks;
    const bool at_the_front = schedule_.both_ends_on_first();
    const int first = at_the_front ? own : 0, others = schedule_.ranks - 1;
    const double slowest = smallest(first, first + blocks - own, at_the_front ? 1 : 0, others);
    begins_[0] = 0;
    if (!at_the_front) {
      begins_[static_cast<std::size_t>(others)] = blocks - own;
    }
    begins_[static_cast<std::size_t>(schedule_.ranks)] = blocks;
    return (std::max)(slowest, flops_of_rank(schedule_.head_rank()));
  }

  /// Tries all numbers of blocks for the rank with the head; of equally good ones the largest,
  /// which leaves the other ranks less to hold.
  constexpr void cut() {
    const bool alone = schedule_.placement == head_placement::own_stage;
    const int others = schedule_.ranks - 1;
    const int most = others == 0 ? layout_type::blocks : alone ? 0 : layout_type::blocks - others;
    const int least = others == 0 ? most : alone ? 0 : 1;
    int best = least;
    double fastest = cut(least);
    for (int own = least + 1; own <= most; ++own) {
      const double slowest = cut(own);
      if (slowest > fastest) continue;
      fastest = slowest;
      best = own;
    }
    cut(best);
  }

  pipeline_copies copies_;
  pipeline_options options_;
  pipeline_schedule schedule_;
  std::array<int, static_cast<std::size_t>(Config.num_hidden_layers) + 2> begins_{};
};

}  // namespace mtp::inline MTP_ABI
