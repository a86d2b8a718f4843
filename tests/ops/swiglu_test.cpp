#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/swiglu_test.hpp"
