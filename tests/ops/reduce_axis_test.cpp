#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/reduce_axis_test.hpp"
