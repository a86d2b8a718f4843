#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/sequence_test.hpp"
