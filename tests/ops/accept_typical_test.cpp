#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/accept_typical_test.hpp"
