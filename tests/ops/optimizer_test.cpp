#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/optimizer_test.hpp"
