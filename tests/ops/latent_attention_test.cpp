#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/latent_attention_test.hpp"
