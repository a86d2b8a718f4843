// What an emulated kernel did wrong.
#pragma once

#include <stdexcept>

namespace mtp::emulation {

/// Comes out of the launch (or out of the launch of the graph) whose kernel broke a rule. The block
/// was abandoned where it stood; what kernels wrote until then stays written.
class fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace mtp::emulation
