// Shows what a Hugging Face checkpoint holds and which configuration it has.
//
//   inspect_checkpoint [FOLDER OR FILE]
//
// Prints every tensor with type, shape and file, and why it cannot be read where it cannot; the
// family whose names they have and the fields that decided for it; and the configuration as source.
// Without an argument, it writes a small checkpoint to a temporary folder and shows that.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>

#include "mtp/backend/cpu.hpp"
#include "mtp/io/pretrained/config_literal.hpp"
#include "mtp/io/pretrained/read_config.hpp"
#include "mtp/io/pretrained/save.hpp"
#include "mtp/io/pretrained/tensor_values.hpp"
#include "mtp/mtp.hpp"

namespace {

void print_tensors(const mtp::io::tensor_files& files) {
  mtp::index_t elements = 0;
  for (const auto& [name, tensor] : files.tensors()) {
    const mtp::io::tensor_info& info = *tensor.info;
    std::string shape;
    for (const mtp::index_t size : info.shape) {
      shape += (shape.empty() ? "" : ", ") + std::to_string(size);
    }
    std::printf("%-56s %-8s [%s]  %s\n",
                name.c_str(),
                std::string(mtp::io::element_name(info.type)).c_str(),
                shape.c_str(),
                tensor.file->path().filename().c_str());
    const std::string why = mtp::io::why_unreadable(files, tensor);
    if (!why.empty()) std::printf("  cannot be a parameter: %s\n", why.c_str());
    elements += info.count();
  }
  std::printf("%zu tensors, %td elements, %zu files\n",
              files.tensors().size(),
              elements,
              files.files().size());
}

void print_config(const std::filesystem::path& folder) {
  const auto read = mtp::io::read_config(folder);
  const std::string family(read.family->name);
  std::printf("\nnames of the family %s: %s\n", family.c_str(), read.why.c_str());
  std::printf("constexpr mtp::model_config config%s;\n",
              mtp::io::config_literal(read.config).c_str());
}

/// A model with a head of DeepSeek's kind, and random parameters.
std::filesystem::path write_example() {
  constexpr mtp::model_config config{
      .vocab_size = 64,
      .hidden_size = 32,
      .num_hidden_layers = 2,
      .max_position_embeddings = 64,
      .attention = {.num_key_value_heads = 2, .qk_norm = true},
      .feed_forward = {.intermediate_size = 48},
      .prediction = {.kind = mtp::head_kind::sequential, .depth = 1}};
  const auto folder = std::filesystem::temp_directory_path() / "mtp-inspect-checkpoint";
  std::filesystem::remove_all(folder);
  mtp::context<mtp::cpu> context;
  const mtp::language_model<config, mtp::cpu, mtp::bf16> model(context, mtp::seed{1});
  mtp::io::save_pretrained(folder, model, mtp::io::deepseek_names);
  return folder;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::filesystem::path path = argc > 1 ? std::filesystem::path(argv[1]) : write_example();
    print_tensors(mtp::io::tensor_files(path));
    print_config(std::filesystem::is_directory(path) ? path : path.parent_path());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
