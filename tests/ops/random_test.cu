#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/random_test.hpp"
