#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/head_linear_test.hpp"
