#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/expert_rows_test.hpp"
