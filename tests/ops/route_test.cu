#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/route_test.hpp"
