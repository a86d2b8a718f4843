#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/rms_norm_test.hpp"
