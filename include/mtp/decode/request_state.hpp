// Where a request of a batch_generator stands.
#pragma once

#include "mtp/core/config.hpp"

namespace mtp::inline MTP_ABI {

/// Where a request stands.
enum class request_state {
  waiting,  ///< for a slot
  reading,  ///< its prompt is run, a piece in each cycle, and what it had written when restored
  writing,  ///< tokens are generated
  done,     ///< the result is there, or what ended it
};

}  // namespace mtp::inline MTP_ABI
