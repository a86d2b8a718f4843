#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/reduce_test.hpp"
