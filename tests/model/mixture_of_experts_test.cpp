// Mixtures of experts owe what all layers do, under every kind of head that shares their blocks.
#include <doctest/doctest.h>

#include "model/expert_configs.hpp"
#include "mtp/model/quantized_model.hpp"
#include "support/layer_kit.hpp"

namespace mtp::test::model_mixture_of_experts_cases {

namespace {

/// Speculative decoding gives tokens and logits of plain decoding where tokens are drawn.
template <model_config Config, class S>
void check_drawn() {
  cpu_context context({.threads = 2});
  language_model<Config, cpu, S> model(context, seed{1});
  generator<Config, cpu, S> generator(context, model);
  const auto prompt = random_tokens(9, Config.vocab_size, 1);
  const auto drawn = [&](decode_mode mode) {
    auto options = options_of<S>(mode, 60);
    options.sampling.temperature = 0.8;
    options.sampling.top_p = 0.9;
    options.sampling.seed = seed{4};
    return record(generator, prompt, options);
  };
  CHECK(same_text(drawn(decode_mode::speculative), drawn(decode_mode::plain)));
}

}  // namespace

TEST_CASE("a mixture of experts keeps the promises of layers under sequential heads") {
  check_layers<deepseek_experts(head_kind::sequential, 2)>();
}

TEST_CASE("a mixture of experts without bias keeps the promises of layers, in double") {
  check_layers<qwen_experts(head_kind::parallel, 2), double>();
}

TEST_CASE("a mixture of experts keeps its promises while decoding, in bf16") {
  check_decoding<deepseek_experts(head_kind::parallel, 2), bf16>();
}

TEST_CASE("a mixture of experts keeps its promises while decoding, in double") {
  check_decoding<deepseek_experts(head_kind::recurrent, 2), double>();
}

TEST_CASE("drafts leave what is drawn from a mixture of experts as it is") {
  check_drawn<deepseek_experts(head_kind::sequential, 2), float>();
  check_drawn<deepseek_experts(head_kind::sequential, 2), double>();
  check_drawn<qwen_experts(head_kind::independent, 2), bf16>();
}

TEST_CASE("with experts in 8 bits drafts leave the text as it is") {
  constexpr auto config = deepseek_experts(head_kind::sequential, 2);
  cpu_context context({.threads = 2});
  const language_model<config, cpu> model(context, seed{1});
  const auto quantized = quantize(context, model);
  generator<config, cpu> generator(context, quantized);
  const auto prompt = random_tokens(9, config.vocab_size, 1);
  const auto plain = record(generator, prompt, options_of<float>(decode_mode::plain, 60));
  const auto text = record(generator, prompt, options_of<float>(decode_mode::speculative, 60));
  CHECK(same_text(text, plain));
}

}  // namespace mtp::test::model_mixture_of_experts_cases
