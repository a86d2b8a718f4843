// Which work the ranks of a pipeline do, and in which order.
#pragma once

#include <algorithm>

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// Where norm, output matrix and head are, the modules of multi-token prediction among them.
enum class head_placement {
  last_stage,   ///< behind the last blocks
  own_stage,    ///< on a rank of their own, behind the one with the last blocks
  first_stage,  ///< on the rank with the embedding, as in DeepSeek-V3's DualPipe: both ends of the
                ///< model share embedding and output matrix without an exchange
                ///< (arXiv 2412.19437, section 3.2.3)
};

/// Work of a rank.
enum class pipeline_work {
  forward,   ///< the forward pass of its blocks
  head,      ///< forward and backward pass of the head, and of blocks in front of it on this rank
  backward,  ///< the backward pass of its blocks
};

/// The schedule with one forward and one backward pass in turn, 1F1B (Narayanan et al. 2021, arXiv
/// 2104.04473, section 2.2), of P ranks and K passes. There are S stations: the ranks; and with
/// head_placement::first_stage the head after them, which rank 0 has as well. Station s < S - 1
/// runs S - 1 - s passes forward, then one forward and one backward in turn, then the rest
/// backward. Passes go in their order everywhere, so gradients are added in it.
struct pipeline_schedule {
  int ranks = 1;                                          ///< P
  index_t passes = 1;                                     ///< K
  head_placement placement = head_placement::last_stage;  ///< where the head is

  /// Whether a rank has two stations: the first one and the head.
  constexpr bool both_ends_on_first() const {
    return placement == head_placement::first_stage && ranks > 1;
  }
  /// S.
  constexpr int stations() const { return ranks + (both_ends_on_first() ? 1 : 0); }
  /// The rank that has the head.
  constexpr int head_rank() const { return both_ends_on_first() ? 0 : ranks - 1; }
  /// Whether a rank has blocks whose backward pass is not the head's.
  constexpr bool has_blocks(int rank) const { return rank < stations() - 1; }

  /// The most passes that are between the forward and the backward pass of a rank's blocks.
  constexpr index_t in_flight(int rank) const {
    return has_blocks(rank) ? (std::min)(passes, index_t{stations()} - rank) : 0;
  }
  /// How many gradients of the embedding, which the head has computed for the first station, can
  /// wait there for its backward passes. With both on one rank that many passes of the head are in
  /// front of the first backward pass: a backward pass takes two thirds of the way.
  constexpr index_t waiting_gradients() const {
    return stations() == 1 ? 0 : (std::min)(passes, index_t{2 * ranks + 2} / 3);
  }

  /// Calls act(work, pass) for all that a rank does in a step, in order.
  template <class Act>
  constexpr void for_each(int rank, const Act& act) const {
    const bool has_head = rank == head_rank();
    if (!has_blocks(rank)) {
      for (index_t k = 0; k < passes; ++k) {
        act(pipeline_work::head, k);
      }
      return;
    }
    const index_t ahead = (std::min)(passes, index_t{stations()} - 1 - rank);
    const index_t heads = has_head ? waiting_gradients() : 0;
    for (index_t k = 0; k < ahead; ++k) {
      act(pipeline_work::forward, k);
    }
    for (index_t k = 0; k < heads; ++k) {
      act(pipeline_work::head, k);
    }
    for (index_t k = 0; k < passes; ++k) {
      if (ahead + k < passes) {
        act(pipeline_work::forward, ahead + k);
      }
      act(pipeline_work::backward, k);
      if (has_head && heads + k < passes) {
        act(pipeline_work::head, heads + k);
      }
    }
  }
};

/// Who computes the passes of a step if there are D copies of a pipeline: copy k mod D pass k. So
/// there are rounds of a pass for each copy, and the last one may have fewer.
struct pipeline_copies {
  int count = 1;       ///< D
  index_t passes = 1;  ///< of a step, K

  /// Rounds of a step.
  constexpr index_t rounds() const { return (passes + count - 1) / count; }
  /// The pass of a copy in a round.
  constexpr index_t pass(int copy, index_t round) const { return round * count + copy; }
  /// Whether there is one.
  constexpr bool computes(int copy, index_t round) const { return pass(copy, round) < passes; }
  /// The passes of a copy in a step.
  constexpr index_t passes_of(int copy) const { return (passes - copy + count - 1) / count; }
  /// Copies that have a pass in a round: 0 to senders - 1.
  constexpr int senders(index_t round) const {
    return static_cast<int>((std::min)(passes - round * count, index_t{count}));
  }
};

}  // namespace mtp::inline MTP_ABI
