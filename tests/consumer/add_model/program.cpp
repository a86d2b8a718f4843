// What mtp_add_model wrote is what read_config reads, and a checkpoint of it is loaded.
#include <cstdio>
#include <cstring>
#include <mtp_models/deepseek.hpp>
#include <mtp_models/deepseek_v3.hpp>
#include <mtp_models/glassllm.hpp>
#include <mtp_models/glm4.hpp>
#include <mtp_models/glm4_moe.hpp>
#include <mtp_models/glm4_moe_lite.hpp>
#include <mtp_models/glm_ocr.hpp>
#include <mtp_models/llama.hpp>
#include <mtp_models/medusa.hpp>
#include <mtp_models/meta.hpp>
#include <mtp_models/mimo.hpp>
#include <mtp_models/mistral.hpp>
#include <mtp_models/mixtral.hpp>
#include <mtp_models/qwen2.hpp>
#include <mtp_models/qwen3.hpp>
#include <mtp_models/qwen3_moe.hpp>
#include <mtp_models/shorter.hpp>
#include <mtp_models/smollm2.hpp>
#include <string>

#include "mtp/backend/cpu.hpp"
#include "mtp/io/pretrained/check_config.hpp"
#include "mtp/io/pretrained/load.hpp"
#include "mtp/mtp.hpp"

namespace {

int different = 0;

void compare(const char* name,
             const mtp::model_config& config,
             const mtp::io::family_names& names) {
  const auto read = mtp::io::check_config(std::string("checkpoints/") + name, config);
  if (&names != read.family || (std::strcmp(name, "llama") != 0 && config != read.config)) {
    std::printf("%s differs\n", name);
    ++different;
  }
}

}  // namespace

int main() {
  using namespace mtp_models;
  compare("llama", llama, llama_family);
  compare("llama", shorter, shorter_family);
  compare("smollm2", smollm2, smollm2_family);
  compare("mistral", mistral, mistral_family);
  compare("qwen2", qwen2, qwen2_family);
  compare("qwen3", qwen3, qwen3_family);
  compare("glassllm", glassllm, glassllm_family);
  compare("deepseek", deepseek, deepseek_family);
  compare("mimo", mimo, mimo_family);
  compare("medusa", medusa, medusa_family);
  compare("meta", meta, meta_family);
  compare("glm4", glm4, glm4_family);
  compare("glm_ocr", glm_ocr, glm_ocr_family);
  compare("deepseek_v3", deepseek_v3, deepseek_v3_family);
  compare("glm4_moe", glm4_moe, glm4_moe_family);
  compare("glm4_moe_lite", glm4_moe_lite, glm4_moe_lite_family);
  compare("qwen3_moe", qwen3_moe, qwen3_moe_family);
  compare("mixtral", mixtral, mixtral_family);
  if (std::strlen(llama_sha256) != 64 || shorter.max_position_embeddings != 16) return 1;

  mtp::context<mtp::cpu> context;
  mtp::language_model<shorter, mtp::cpu> model(context, mtp::seed{1});
  if (mtp::io::load_pretrained("checkpoints/llama", model, shorter_family).tensors != 21) return 1;
  std::puts(different == 0 ? "consumed" : "different");
}
