#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/rope_test.hpp"
