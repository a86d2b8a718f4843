// The benchmarks' count of operations against the parameters of models.
#include "../../benchmarks/support/model_cost.hpp"

#include <doctest/doctest.h>

#include <string>

#include "model/expert_configs.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/model/language_model.hpp"
#include "support/batches.hpp"
#include "support/latent_config.hpp"

namespace mtp::test::model_model_cost_cases {

namespace {

/// The matrices that a token meets, as the model names them: of experts k out of E, a recurrent
/// module and the output matrix once for each depth, and no embedding.
template <model_config Config>
double counted() {
  constexpr auto& layout = language_model<Config, cpu>::layout;
  const auto& own = Config.feed_forward;
  const double D = Config.prediction.depth;
  double sum = 0;
  layout.visit([&](const std::string& name, const parameter& p) {
    const bool of_head = p.offset >= layout.head_begin;
    if (p.is_vector() || p.offset == layout.trunk.embedding.offset) {
      return;
    }
    double weights = static_cast<double>(p.outputs) * static_cast<double>(p.inputs);
    if (name.find("mlp.experts.") != std::string::npos) {
      weights *= static_cast<double>(own.num_experts_per_tok) / own.n_routed_experts;
    }
    const bool repeats = p.offset == layout.trunk.output.offset ||
                         (of_head && Config.prediction.kind == head_kind::recurrent);
    sum += weights * (p.offset == layout.trunk.output.offset ? 1 + D : repeats ? D : 1);
  });
  return sum;
}

template <model_config Config>
void check_weights() {
  CHECK(bench::weights_per_token(Config) == doctest::Approx(counted<Config>()).epsilon(1e-12));
}

}  // namespace

TEST_CASE("the weights that a token meets are those of its layers") {
  check_weights<tiny_config(head_kind::none, 0)>();
  check_weights<tiny_config(head_kind::sequential, 2)>();
  check_weights<deepseek_experts(head_kind::sequential, 2)>();
  check_weights<deepseek_experts(head_kind::recurrent, 2)>();
  check_weights<qwen_experts(head_kind::none, 0)>();
  check_weights<with_latents(tiny_config(head_kind::sequential, 2))>();
  check_weights<with_plain_queries(deepseek_experts(head_kind::sequential, 1))>();
}

TEST_CASE("attention costs what queries and values of its layer have as width") {
  constexpr model_config usual = tiny_config(head_kind::none, 0);
  constexpr model_config latent = with_latents(usual);
  const auto of_attention = [](const model_config& config) {
    return bench::training_flops_per_token(config, 10) - 6 * bench::weights_per_token(config);
  };
  const double blocks = usual.num_hidden_layers;
  CHECK(of_attention(usual) ==
        blocks * 6 * 10 * usual.attention.num_attention_heads * usual.head_dim());
  CHECK(of_attention(latent) == blocks * 6 * 5 * 3 * (32 + 6 + 64));
}

}  // namespace mtp::test::model_model_cost_cases
