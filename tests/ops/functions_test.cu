#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/functions_test.hpp"
