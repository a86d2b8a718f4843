// SmolLM2-135M-Instruct against an independent model in double precision: see tests/golden/gguf.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <doctest/doctest.h>
#include <mtp_models/smollm2.hpp>
#include <span>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/decode/generate.hpp"
#include "mtp/io/pretrained/load.hpp"
#include "mtp/io/tokenizer.hpp"
#include "mtp/loss/model_loss.hpp"
#include "support/places.hpp"

namespace {

constexpr mtp::model_config config = mtp_models::smollm2;
constexpr std::size_t stride = 97;  // of the vocabulary, in the file

const mtp::io::safetensors_file& golden() {
  static const mtp::io::safetensors_file file(mtp::test::golden_folder() /
                                              "gguf/smollm2.safetensors");
  return file;
}

template <class Element>
std::vector<Element> golden_tensor(const std::string& name) {
  const mtp::io::tensor_info* const info = golden().find(name);
  REQUIRE(info != nullptr);
  REQUIRE(info->type == mtp::io::element_of<Element>());
  std::vector<Element> values(static_cast<std::size_t>(info->count()));
  golden().read(*info, 0, info->count(), std::as_writable_bytes(std::span(values)).data());
  return values;
}

/// The largest difference of a model's logits from those of the file, as a part of the largest; the
/// most likely tokens are those of the file.
template <class S>
double logits_error(mtp::context<mtp::cpu>& context,
                    const mtp::language_model<config, mtp::cpu, S>& model,
                    const std::string& name) {
  std::vector<mtp::token_t> row = golden_tensor<mtp::token_t>(name + ".tokens");
  const auto wanted = golden_tensor<float>(name + ".logits");     // [T, V / 97]
  const auto best = golden_tensor<mtp::token_t>(name + ".best");  // [T]
  const std::size_t T = row.size(), V = static_cast<std::size_t>(config.vocab_size);
  const std::size_t columns = (V + stride - 1) / stride;
  REQUIRE(wanted.size() == T * columns);
  row.push_back(0);  // a target, which does not matter
  const auto length = static_cast<mtp::index_t>(T);
  mtp::model_loss<config, mtp::cpu, S> loss(context, 1, length);
  double largest = 0, error = 0;
  loss.visit_logits(context, model, {row, {}, {}, 1, length}, [&](std::size_t, auto logits) {
    for (std::size_t t = 0; t < T; ++t) {
      const auto* const found = logits.data() + t * V;
      for (std::size_t i = 0; i < columns; ++i) {
        const double want = static_cast<double>(wanted[t * columns + i]);
        largest = (std::max)(largest, std::abs(want));
        error = (std::max)(error, std::abs(static_cast<double>(found[i * stride]) - want));
      }
      CHECK(std::max_element(found, found + V) - found == best[t]);
    }
  });
  CHECK(largest > 1);
  return error / largest;
}

template <class S>
void load(mtp::language_model<config, mtp::cpu, S>& model) {
  mtp::io::load_pretrained(CHECKPOINT, model, mtp_models::smollm2_family);
}

constexpr const char* prompts[] = {"text", "chat"};

}  // namespace

TEST_CASE("SmolLM2 has the logits of an independent implementation") {
  mtp::context<mtp::cpu> context;
  mtp::language_model<config, mtp::cpu, double> model(context, mtp::seed{1});
  load(model);
  for (const std::string name : prompts) {
    const double error = logits_error(context, model, name);
    MESSAGE(name, ": largest error of double precision ", error);
    CHECK(error < 1e-7);  // the file has f32
  }
}

TEST_CASE("SmolLM2 has the tokens and the text of an independent implementation") {
  mtp::context<mtp::cpu> context;
  mtp::language_model<config, mtp::cpu> model(context, mtp::seed{1});
  load(model);
  const auto tokenizer =
      mtp::io::read_tokenizer(std::filesystem::path(CHECKPOINT) / "tokenizer.json");
  mtp::generator<config, mtp::cpu> generator(context, model);
  for (const std::string name : prompts) {
    CAPTURE(name);
    const auto prompt = golden_tensor<mtp::token_t>(name + ".tokens");
    CHECK(tokenizer.encode(golden().metadata().at(name), {.parse_special = true}) == prompt);
    const double error = logits_error(context, model, name);
    MESSAGE(name, ": largest error of single precision ", error);
    CHECK(error < 1e-4);
    const auto text = golden_tensor<mtp::token_t>(name + ".written");
    const auto count = static_cast<mtp::index_t>(text.size());
    CHECK(generator.generate(prompt, {.max_new_tokens = count}).tokens == text);
  }
}
