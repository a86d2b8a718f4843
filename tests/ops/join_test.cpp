#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/join_test.hpp"
