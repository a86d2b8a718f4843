#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/attention_tree_test.hpp"
