// How the elements of a matrix under test lie.
#pragma once

#include <array>

#include "mtp/core/extents.hpp"

namespace mtp::test {

struct layout {
  dims<2> shape;
  std::array<index_t, 2> strides;
};

}  // namespace mtp::test
