// Makes a checkpoint in the format of Hugging Face from a GGUF file.
//
//   convert_gguf FILE.gguf FOLDER [--bf16]
//
// FOLDER gets config.json, model.safetensors, tokenizer.json and what belongs to them. Values are
// exact, or rounded to bf16, which halves the bytes. scripts/generate builds and runs it.
#include <cstdio>
#include <exception>
#include <span>
#include <string_view>

#include "mtp/io/gguf/convert.hpp"

int main(int argc, char** argv) {
  const std::span<char*> arguments(argv, static_cast<std::size_t>(argc));
  const bool is_short = argc == 4 && std::string_view(arguments[3]) == "--bf16";
  if (argc != 3 && !is_short) {
    std::fputs("usage: convert_gguf FILE.gguf FOLDER [--bf16]\n", stderr);
    return 2;
  }
  try {
    mtp::io::convert_gguf(arguments[1],
                          arguments[2],
                          is_short ? mtp::io::gguf_values::bf16 : mtp::io::gguf_values::exact);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "convert_gguf: %s\n", problem.what());
    return 1;
  }
}
