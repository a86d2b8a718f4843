#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/tree_test.hpp"
