// Which blocks that read the same rows run at the same time, each on one thread.
#pragma once

#include <algorithm>

#include "mtp/core/backend.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"

namespace mtp::inline MTP_ABI {

/// Multiply-adds of one thread in the time that it costs threads to share a block over a few rows:
/// what they wait for each other, and what one of them does alone, as norms and rotations.
inline constexpr index_t block_sharing_work = index_t{1} << 17;

/// How many of `blocks` blocks that are left should run at the same time, each on one of `threads`
/// threads. 1: the next one, all of whose operations all threads share. A block has `work`
/// multiply-adds. G at a time take work, and shared G (work / T + s), where T is the number of
/// threads and s what sharing costs; so they run at the same time if
///
///     work (T - G) <= T G s,     G = min(blocks, T)
///
/// Where there are as many blocks as threads this is so whatever they cost.
constexpr index_t blocks_at_a_time(index_t blocks, double work, index_t threads) {
  const index_t together = (std::min)(blocks, threads);
  const auto idle = static_cast<double>(threads - together);
  const auto sharing = static_cast<double>(threads * together * block_sharing_work);
  return work * idle <= sharing ? (std::max)(together, index_t{1}) : 1;
}

/// Whether blocks of a model may run at the same time: the context gives each a context of its own,
/// and no rank waits for another in the middle of a block.
template <model_config Config, class Backend>
inline constexpr bool runs_blocks_apart = Config.tensor_parallel_size <= 1 &&
                                          requires(context<Backend>& whole,
                                                   void (*run)(index_t, context<Backend>&)) {
  whole.apart(index_t{}, index_t{}, run);
};

/// Multiply-adds of a block for each row, at most one for each of its parameters.
template <class Block, class Backend, scalar S>
constexpr index_t block_row_work() {
  parameter_cursor<Backend, S> cursor;
  static_cast<void>(Block::layout::make(cursor));
  return cursor.offset();
}

/// Runs the next of `blocks` blocks, run(n, context) for number n, or as many of them at the same
/// time as is fastest: each then has a context of one thread and `bytes` bytes of workspace. There
/// is memory for `room` at the same time, and a block has `work` multiply-adds. Returns how many it
/// has run.
template <model_config Config, class Backend, class Run>
index_t run_blocks(context<Backend>& context,
                   index_t blocks,
                   index_t work,
                   index_t room,
                   index_t bytes,
                   const Run& run) {
  if constexpr (runs_blocks_apart<Config, Backend>) {
    const index_t together =
        (std::min)(blocks_at_a_time(blocks, static_cast<double>(work), context.threads()), room);
    if (together > 1) {
      context.apart(together, bytes, run);
      return together;
    }
  }
  run(index_t{0}, context);
  return 1;
}

}  // namespace mtp::inline MTP_ABI
