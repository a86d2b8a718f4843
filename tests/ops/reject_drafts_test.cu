#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/reject_drafts_test.hpp"
