#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/elementwise_test.hpp"
