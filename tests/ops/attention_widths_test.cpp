#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/attention_widths_test.hpp"
