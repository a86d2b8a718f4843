#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/best_tokens_test.hpp"
