// Who decides in which order the numbers of ranks are added.
#pragma once

#include "mtp/core/config.hpp"

namespace mtp::inline MTP_ABI {

/// The order in which the numbers of ranks are added: gradients of copies of a model
/// (train_options::reduction), or what ranks have of a sum (nccl_tensor_ranks).
enum class reduction_order {
  by_rank,  ///< that of the passes, or of the ranks: gradients have the same bits on any number of
            ///< ranks, and sums over ranks with any engine
  engine,   ///< first the passes of each rank, then in an order of the engine's choice: the bits
            ///< depend on the number of ranks, and on the engine
};

}  // namespace mtp::inline MTP_ABI
