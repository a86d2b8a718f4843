#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/grouped_linear_test.hpp"
