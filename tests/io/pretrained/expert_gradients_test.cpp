// Gradients of mixtures of experts and of latent attention by autograd, and a second source of
// logits. Both were computed in double, as the models are here.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "io/pretrained/expert_models.hpp"
#include "io/pretrained/models.hpp"
#include "io/scratch.hpp"
#include "mtp/io/pretrained/save.hpp"

namespace mtp::test::io_pretrained_expert_gradients_cases {

namespace {

using namespace mtp::testing;
using namespace mtp::testing::experts;

/// Factors that a configuration keeps as floats, such as rms_norm_eps, are off by 2^-25 of their
/// size, and so is what a file keeps as f32; a sum of a few such errors, some of which attention
/// multiplies by scores of up to 10.
constexpr double tolerance = 1e-6;

/// cos(1), cos(2), ..: element i of what gradients are projected on.
double cosine(index_t i) {
  return std::cos(static_cast<double>(i + 1));
}

/// A vector as it is; of a matrix the products with cosines, G c [out] and c^T G [in].
void project(std::vector<std::vector<double>>& parts,
             const std::vector<double>& values,
             const std::vector<index_t>& shape) {
  if (shape.size() == 1) {
    parts.push_back(values);
    return;
  }
  std::vector<double> rows(static_cast<std::size_t>(shape[0]), 0);
  std::vector<double> columns(static_cast<std::size_t>(shape[1]), 0);
  for (index_t n = 0; n < shape[0]; ++n) {
    for (index_t k = 0; k < shape[1]; ++k) {
      const double value = values[static_cast<std::size_t>(n * shape[1] + k)];
      rows[static_cast<std::size_t>(n)] += value * cosine(k);
      columns[static_cast<std::size_t>(k)] += value * cosine(n);
    }
  }
  parts.push_back(rows);
  parts.push_back(columns);
}

bool ends_in(const std::string& name, const std::string& end) {
  return name.size() >= end.size() && name.substr(name.size() - end.size()) == end;
}

/// Projections of all gradients under the names and in the order of a checkpoint's tensors: they
/// are written as if they were its parameters, in the place of those.
template <model_config Config>
std::vector<std::vector<double>> projections(context<cpu>& context,
                                             const std::vector<double>& gradients,
                                             const io::family_names& family) {
  const scratch_directory scratch;
  language_model<Config, cpu, double> holder(context, seed{2});
  std::copy(gradients.begin(), gradients.end(), holder.values().data());
  io::save_parameters(scratch / "gradients", holder, family);
  std::vector<std::vector<double>> parts;
  const io::tensor_files files(scratch / "gradients");
  for (const auto& [name, tensor] : files.tensors()) {
    const bool of_module = name.find(".layers.") != std::string::npos;
    const bool repeated = of_module && (ends_in(name, "embed_tokens.weight") ||
                                        ends_in(name, "shared_head.head.weight"));
    if (repeated || ends_in(name, "e_score_correction_bias")) {
      continue;  // the latter have loads, and no gradient
    }
    REQUIRE(tensor.info->type == io::element::f64);
    std::vector<double> values(static_cast<std::size_t>(tensor.info->count()));
    tensor.file->read(
        *tensor.info, 0, tensor.info->count(), reinterpret_cast<std::byte*>(values.data()));
    project(parts, values, tensor.info->shape);
  }
  return parts;
}

template <model_config Config>
void check_gradients(const std::string& name) {
  CAPTURE(name);
  constexpr const char* const file = "gradients.safetensors";
  const auto read = io::read_config(pretrained_data(name));
  REQUIRE(read.config == Config);
  context<cpu> context;
  language_model<Config, cpu, double> model(context, seed{1});
  const auto loaded = io::load_pretrained(pretrained_data(name), model, *read.family);
  REQUIRE(loaded.left_out.empty());
  const std::vector<token_t> tokens = expected<token_t>(name, "tokens");
  constexpr index_t depth = Config.prediction.depth;
  const index_t length = static_cast<index_t>(tokens.size()) - 1 - depth;
  model_loss<Config, cpu, double> loss(context, 1, length);
  loss_options<Config.prediction.depth> options;
  options.weights.fill(1);
  options.aux_loss_alpha = 0.5;
  std::vector<double> gradients(static_cast<std::size_t>(model.layout.storage), 0);
  const auto report = loss.with_gradients(
      context,
      model,
      parameter_array<double, cpu>(gradients.data(), static_cast<index_t>(gradients.size())),
      {tokens, {}, {}, 1, length},
      options);
  const auto losses = expected<double>(name, "losses", file);
  REQUIRE(losses.size() == report.depths.size());
  for (std::size_t k = 0; k < losses.size(); ++k) {
    CHECK(report.depths[k].loss == doctest::Approx(losses[k]).epsilon(tolerance));
  }

  const double balance = options.aux_loss_alpha * expected<double>(name, "balance", file).at(0);
  CHECK(report.balance == doctest::Approx(balance).epsilon(tolerance));

  const auto wanted = expected<float>(name, "gradients", file);
  double worst = 0;  // the largest error of a part over its largest element
  std::size_t at = 0;
  for (const auto& part : projections<Config>(context, gradients, *read.family)) {
    REQUIRE(at + part.size() <= wanted.size());
    double largest = 0, error = 0;
    for (const double value : part) {
      const auto want = static_cast<double>(wanted[at++]);
      largest = (std::max)(largest, std::abs(want));
      const double apart = std::abs(value - want);
      error = apart <= error ? error : apart;  // NaN stays
    }
    // Of an expert without rows all are zero.
    const double relative = error == 0 ? 0 : error / largest;
    worst = relative <= worst ? worst : relative;
  }
  CHECK(at == wanted.size());
  CHECK(worst < tolerance);
}

/// The module, applied twice.
constexpr auto twice = [] {
  auto config = deepseek_v3;
  config.prediction.kind = head_kind::recurrent;
  config.prediction.depth = 2;
  return config;
}();

}  // namespace

TEST_CASE("DeepSeek-V3 and its module have the gradients of transformers") {
  check_gradients<deepseek_v3>("deepseek_v3");
}
TEST_CASE("GLM-4.7-Flash has the gradients of transformers") {
  check_gradients<glm4_moe_lite>("glm4_moe_lite");
}
TEST_CASE("GLM-4.5 and its module have the gradients of transformers") {
  check_gradients<glm4_moe>("glm4_moe");
}
TEST_CASE("Qwen3-MoE has the gradients of transformers") {
  check_gradients<qwen3_moe>("qwen3_moe");
}
TEST_CASE("Mixtral has the gradients of transformers") {
  check_gradients<mixtral>("mixtral");
}

TEST_CASE("DeepSeek-V3 and its module, applied twice, have the logits of a second source") {
  const std::string name = "deepseek_v3";
  context<cpu> context;
  language_model<twice, cpu, double> model(context, seed{1});
  const auto read = io::read_config(pretrained_data(name));
  REQUIRE(io::load_pretrained(pretrained_data(name), model, *read.family).has_head());
  for (std::size_t depth = 0; depth < 3; ++depth) {
    CAPTURE(depth);
    const std::string tensor = "logits." + std::to_string(depth);
    const auto wanted = expected<float>(name, tensor, "numpy.safetensors");
    const double error = logits_error(context, model, name, wanted, depth);
    CHECK(error < tolerance);
  }
}

}  // namespace mtp::test::io_pretrained_expert_gradients_cases
