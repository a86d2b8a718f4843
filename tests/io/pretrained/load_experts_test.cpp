// Checkpoints of mixtures of experts and of latent attention that transformers wrote.
#include <doctest/doctest.h>

#include "io/pretrained/expert_models.hpp"
#include "io/pretrained/models.hpp"

namespace mtp::test::io_pretrained_load_experts_cases {

namespace {

using namespace mtp::testing::experts;
using mtp::testing::check_model;

/// As in load_test.cpp: some 30 roundings of f32. Experts that are all but equally good change
/// places for less, which would change the logits by a tenth; the seed has none.
constexpr double tolerance = 3e-6;

}  // namespace

// Tensors: 2 norms of a block, those of attention, and 3 of a dense layer or of each expert; a gate
// with its bias, and 3 of shared experts; 4 more of a module.
TEST_CASE("DeepSeek-V3 and its module have the logits of transformers") {
  check_model<deepseek_v3>("deepseek_v3", 3 + 3 * (2 + 7) + 3 + 2 * (3 * 8 + 5) + 4, tolerance);
}
TEST_CASE("GLM-4.7-Flash without a low rank of queries has the logits of transformers") {
  check_model<glm4_moe_lite>("glm4_moe_lite", 3 + 2 * (2 + 5) + 3 + 3 * 8 + 5, tolerance);
}
TEST_CASE("GLM-4.5 and its module have the logits of transformers") {
  check_model<glm4_moe>("glm4_moe", 3 + 3 * (2 + 9) + 3 + 2 * (3 * 8 + 5) + 4, tolerance);
}
TEST_CASE("Qwen3-MoE has the logits of transformers") {
  check_model<qwen3_moe>("qwen3_moe", 3 + 2 * (2 + 6 + 3 * 8 + 1), tolerance);
}
TEST_CASE("Mixtral has the logits of transformers") {
  check_model<mixtral>("mixtral", 3 + 2 * (2 + 4 + 3 * 8 + 1), tolerance);
}

}  // namespace mtp::test::io_pretrained_load_experts_cases
