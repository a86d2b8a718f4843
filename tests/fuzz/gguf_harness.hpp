// Bytes as a GGUF file: its tensors, its model and its tokenizer.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "fuzz/input.hpp"
#include "mtp/io/gguf/model.hpp"
#include "mtp/io/gguf/tokenizer.hpp"

namespace mtp::fuzz::gguf_harness {

/// What a file that was opened promises.
inline void check_file(const io::gguf_file& file, std::uint64_t size) {
  std::uint64_t bytes = 0;
  for (const io::gguf_tensor& tensor : file.tensors()) {
    promise(file.find(tensor.name) == &tensor, "a tensor is found under its name");
    bytes += tensor.bytes;
    promise(bytes <= size, "tensors have no more bytes than the file");
    index_t count = 1;
    for (const index_t each : tensor.shape) count *= each;
    promise(count == tensor.count, "the shape has as many elements as the tensor");
    std::vector<float> all(static_cast<std::size_t>(tensor.count)), part(all.size());
    promise(accepted([&] { file.read(tensor, 0, tensor.count, all.data()); }),
            "a tensor of an open file can be read");
    promise(!accepted([&] { file.read(tensor, 1, tensor.count, all.data()); }),
            "nothing behind a tensor is read");
    for (index_t i = 0; i < tensor.count; ++i) file.read(tensor, i, 1, part.data() + i);
    for (std::size_t i = 0; i < all.size(); ++i) {
      const bool is_number = all[i] == all[i];
      promise(is_number ? all[i] == part[i] : part[i] != part[i], "each element is the same alone");
    }
  }
  accepted([&] {
    const io::gguf_model model = io::read_gguf_model(file);
    for (const io::gguf_piece& each : model.pieces) {
      const io::gguf_tensor* const tensor = file.find(each.from);
      promise(tensor != nullptr && tensor->shape == each.shape, "a model has all its tensors");
    }
  });
  accepted([&] {
    const io::tokenizer tokens = io::read_gguf_tokenizer(file.metadata());
    for (const token_t end : io::gguf_end_tokens(file.metadata(), tokens.vocab_size())) {
      promise(end < tokens.vocab_size(), "a text ends with a token that exists");
    }
  });
}

/// A file holds the bytes.
inline void fuzz_one(std::span<const std::uint8_t> bytes) {
  static const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("mtp-fuzz-gguf-" + std::to_string(::getpid()));
  {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  accepted([&] {
    const io::gguf_file file(path, {.allow_trailing = true});
    check_file(file, bytes.size());
  });
  std::filesystem::remove(path);
}

}  // namespace mtp::fuzz::gguf_harness

namespace mtp::fuzz {
/// What a replay and a fuzzer call.
namespace harness = gguf_harness;
}  // namespace mtp::fuzz
