#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/rope_test.hpp"
