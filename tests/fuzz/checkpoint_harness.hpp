// Bytes as a safetensors file, and as the parameters of a model.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "fuzz/input.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/io/checkpoint.hpp"

namespace mtp::fuzz::checkpoint_harness {

constexpr model_config loaded_config{.vocab_size = 3,
                                     .hidden_size = 2,
                                     .num_hidden_layers = 1,
                                     .max_position_embeddings = 4,
                                     .attention = {.num_attention_heads = 1},
                                     .feed_forward = {.intermediate_size = 2},
                                     .prediction = {.kind = head_kind::none, .depth = 0}};
using loaded_model = language_model<loaded_config, cpu>;

/// What a file that was opened promises.
inline void check_file(const io::safetensors_file& file) {
  std::uint64_t end = 0;
  for (const io::tensor_info& tensor : file.tensors()) {
    promise(file.find(tensor.name) == &tensor, "a tensor is found under its name");
    promise(tensor.begin == end, "tensors lie one behind the other");
    end = tensor.end;
    // With room for the element too many that is asked for below.
    std::vector<std::byte> values(static_cast<std::size_t>(tensor.end - tensor.begin) + 8);
    promise(accepted([&] { file.read(tensor, 0, tensor.count(), values.data()); }),
            "a tensor of an open file can be read");
    promise(!accepted([&] { file.read(tensor, 0, tensor.count() + 1, values.data()); }),
            "nothing behind a tensor is read");
  }
}

/// A file holds the bytes; a model takes it or stays as it is.
inline void fuzz_one(std::span<const std::uint8_t> bytes) {
  static const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("mtp-fuzz-" + std::to_string(::getpid()));
  static cpu_context context({.threads = 1});
  {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  accepted([&] {
    const io::safetensors_file file(path);
    check_file(file);
    static_cast<void>(file.verify());
  });

  loaded_model model(context, seed{1});
  const std::size_t size = static_cast<std::size_t>(model.layout.storage) * sizeof(float);
  std::vector<std::byte> before(size);
  std::memcpy(before.data(), model.values().data(), size);
  const bool taken = accepted([&] { io::load_parameters(path, model); });
  promise(taken || std::memcmp(before.data(), model.values().data(), size) == 0,
          "a file that is refused changes no parameter");
  std::filesystem::remove(path);
}

}  // namespace mtp::fuzz::checkpoint_harness

namespace mtp::fuzz {
/// What a replay and a fuzzer call. Each harness has a namespace of its own, because functions of
/// one name in several files of a program would be taken for one function.
namespace harness = checkpoint_harness;
}  // namespace mtp::fuzz
