#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/choose_tokens_test.hpp"
