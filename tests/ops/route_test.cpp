#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/route_test.hpp"
