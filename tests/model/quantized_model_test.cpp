// Models in 8 bits: which parameters become bytes, what stays, and how far the logits are from
// those of the model itself.
#include "mtp/model/quantized_model.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "model/expert_configs.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/decode/score.hpp"
#include "support/compare.hpp"
#include "support/decoding.hpp"
#include "support/model.hpp"

namespace mtp::test::model_quantized_model_cases {

namespace {

/// Matrices are in bytes and vectors are elements, but for the embedding and where options say so.
template <model_config Config, class S>
void check_places(bool output_matrix) {
  cpu_context context({.threads = 2});
  const language_model<Config, cpu, S> model(context, seed{3});
  const auto quantized = quantize(context, model, {.output_matrix = output_matrix});
  const auto values = quantized.values();
  std::size_t bytes = 0;
  model.layout.visit([&](const std::string& name, const parameter& p) {
    CAPTURE(name);
    const bool is_embedding = name == "embed_tokens.weight";
    const bool is_output = p.outputs == Config.vocab_size && p.inputs == Config.hidden_size &&
                           (!is_embedding || Config.tie_word_embeddings);
    const bool is_router = name.find("mlp.gate.weight") != std::string::npos;
    const bool in_bytes =
        !p.is_vector() && !is_router && (is_output ? output_matrix : !is_embedding);
    const bool has_elements = is_embedding || !in_bytes;
    bytes += has_elements ? static_cast<std::size_t>(round_up(p.storage, 64 / index_t{sizeof(S)})) *
                                sizeof(S)
                          : 0;
    bytes += in_bytes ? static_cast<std::size_t>(
                            round_up(quantized_weight_bytes<cpu>(p.outputs, p.inputs), 64))
                      : 0;
    if (!p.is_vector()) {
      CHECK((values.matrix(p).quantized != nullptr) == in_bytes);
      CHECK((values.matrix(p).data != nullptr) == has_elements);
      CHECK(values.matrix(p).outputs == p.outputs);
      CHECK(values.matrix(p).inputs == p.inputs);
    }
    if (has_elements) {
      CHECK(same_bits(values.storage(p), model.values().storage(p)));
    }
    if (in_bytes) {
      buffer<std::byte, cpu> expected(quantized_weight_bytes<cpu>(p.outputs, p.inputs));
      quantize_weight(context,
                      vector_view<std::byte, cpu>(expected.data(), dims<1>{expected.count()}),
                      model.values().matrix(p));
      CHECK(std::equal(
          expected.data(), expected.data() + expected.count(), values.matrix(p).quantized));
    }
  });
  CHECK(quantized.bytes() == bytes);
  CHECK(same_bits(quantized.rope(), model.rope()));
}

}  // namespace

TEST_CASE("matrices become bytes, and vectors and the embedding stay as they are") {
  for (const bool output_matrix : {true, false}) {
    CAPTURE(output_matrix);
    check_places<tiny_config(head_kind::sequential, 2), float>(output_matrix);
    check_places<flipped_config(head_kind::sequential, 2), bf16>(output_matrix);
    check_places<tiny_config(head_kind::independent, 2), float>(output_matrix);
    check_places<deepseek_experts(head_kind::sequential, 1), float>(output_matrix);
  }
}

TEST_CASE("parameters that change after quantizing do not change what was quantized") {
  constexpr auto config = tiny_config(head_kind::none, 0);
  cpu_context context({.threads = 1});
  language_model<config, cpu> model(context, seed{3});
  const auto quantized = quantize(context, model);
  const auto tokens = random_tokens(9, config.vocab_size, 1);
  scorer<config, cpu> scores(context, quantized);
  const auto before = scores.score(tokens).log_probabilities;
  add_noise(model, 1.0);
  CHECK(same_bits(scores.score(tokens).log_probabilities, before));
}

TEST_CASE("log probabilities differ by what rounding of the output matrix can change") {
  constexpr auto config = spoken_config(head_kind::none, 0);
  constexpr double C = config.hidden_size;
  cpu_context context({.threads = 1});
  language_model<config, cpu> model(context, seed{3});
  make_perfect(model);  // blocks add nothing, in 8 bits as well, so logits are W norm(embedding)
  const auto quantized = quantize(context, model);
  double largest = 0;
  const auto output = model.values().matrix(model.trunk_layout().output);
  for (index_t n = 0; n < output.outputs; ++n) {
    for (index_t k = 0; k < output.inputs; ++k) {
      largest = std::max(largest, std::abs(static_cast<double>(output(n, k))));
    }
  }
  // Of a normed row, |x| <= sqrt(C) and the sum of |x| <= C. An element of W is rounded by half a
  // scale, which is rounded up to 8 bits; one of x by half of its own. A logit and the logarithm of
  // the sum of all move by as much.
  const double dw = largest / 127 * (1 + 0x1p-7) / 2, dx = 0.5001 * std::sqrt(C) / 32512;
  const double bound = 2 * C * (dw + largest * dx + dw * dx) + 1e-4;
  scorer<config, cpu> of_elements(context, model), of_bytes(context, quantized);
  const auto tokens = random_tokens(60, config.vocab_size, 1);
  const auto expected = of_elements.score(tokens).log_probabilities;
  const auto actual = of_bytes.score(tokens).log_probabilities;
  const std::vector<double> all(expected.begin() + 1, expected.end());
  CHECK(within({actual.begin() + 1, actual.end()}, all, bound));
  CHECK_FALSE(same_bits(actual, expected));
}

}  // namespace mtp::test::model_quantized_model_cases
