// A trained model of another program, in names and a layout that only this test knows.
#include <doctest/doctest.h>
#include <vector>

#include "io/pretrained/glassllm.hpp"
#include "io/pretrained/models.hpp"
#include "io/scratch.hpp"
#include "mtp/decode/generate.hpp"
#include "mtp/io/pretrained/families.hpp"
#include "mtp/io/pretrained/read_config.hpp"
#include "mtp/io/pretrained/save.hpp"

namespace mtp::test::io_pretrained_glassllm_cases {

namespace {

using mtp::testing::pretrained_data;
using mtp::testing::glassllm::config;
using mtp::testing::glassllm::names;

}  // namespace

TEST_CASE("a trained model has the logits of its own program and writes the same tokens") {
  CHECK(mtp::io::read_config(pretrained_data("glassllm")).config == config);
  mtp::context<mtp::cpu> context;
  mtp::language_model<config, mtp::cpu> model(context, mtp::seed{1}), again(context, {2});
  CHECK(mtp::io::load_pretrained(pretrained_data("glassllm") / "model.safetensors", model, names)
            .tensors == 2 + 4 * 9);
  CHECK(mtp::testing::logits_error(context, model, "glassllm") < 3e-6);

  auto prompt = mtp::testing::expected<mtp::token_t>("glassllm", "tokens");
  prompt.resize(8);
  const auto written = mtp::testing::expected<mtp::token_t>("glassllm", "written");
  mtp::generator<config, mtp::cpu> generator(context, model);
  CHECK(generator.generate(prompt, {.max_new_tokens = 100}).tokens == written);

  // In Llama's names it is a checkpoint of Llama.
  const mtp::testing::scratch_directory scratch;
  mtp::io::save_parameters(scratch.path(), model, mtp::io::llama_names);
  CHECK(mtp::io::load_pretrained(scratch.path(), again, mtp::io::llama_names).has_head());
  CHECK(mtp::testing::logits_error(context, again, "glassllm") < 3e-6);
}

}  // namespace mtp::test::io_pretrained_glassllm_cases
