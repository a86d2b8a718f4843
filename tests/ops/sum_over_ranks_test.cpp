#include "support/cpu_cases.hpp"
#include "support/tensor_ranks.hpp"
// The cases come first.
#include "ops/sum_over_ranks_test.hpp"
