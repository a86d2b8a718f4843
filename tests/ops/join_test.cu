#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/join_test.hpp"
