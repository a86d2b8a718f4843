// The processes that run a test of tests/*/*_ranks.cpp.
#pragma once

#include "mtp/distributed/mpi.hpp"

namespace mtp::test {

/// All of them.
mpi_communicator& world();

}  // namespace mtp::test
