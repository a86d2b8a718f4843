#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/create_test.hpp"
