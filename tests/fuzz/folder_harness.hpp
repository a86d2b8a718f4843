// Bytes as the texts of a checkpoint's folder: a config.json, an index, a chat template.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/input.hpp"
#include "mtp/io/pretrained/config_literal.hpp"
#include "mtp/io/pretrained/read_config.hpp"
#include "mtp/io/pretrained/tensor_files.hpp"
#include "mtp/io/safetensors_writer.hpp"
#include "mtp/io/tokenizer/chat_template.hpp"

namespace mtp::fuzz::folder_harness {

/// A configuration that was accepted is one of a model.
inline void check_config(const std::string& text) {
  accepted([&] {
    const nlohmann::json json = io::detail::parse_object(text, "here: ");
    const model_config config = io::config_from({json, "here"}).config;
    const attention_config& attention = config.attention;
    promise(config.vocab_size > 0 && config.hidden_size > 0 && config.num_hidden_layers > 0 &&
                config.max_position_embeddings > 0 && config.feed_forward.intermediate_size > 0,
            "sizes are positive");
    promise(attention.num_attention_heads > 0 && attention.num_key_value_heads > 0 &&
                attention.num_attention_heads % attention.num_key_value_heads == 0,
            "queries share keys evenly");
    promise(attention.head_dim > 0 && attention.head_dim % 2 == 0, "heads are rotated in pairs");
    promise(config.rms_norm_eps > 0 && attention.rope_theta > 0, "constants are positive");
    promise(!io::config_literal(config).empty(), "a configuration can be shown");
  });
}

/// An index opens files of its own folder alone.
inline void check_index(const std::string& text) {
  static const std::filesystem::path folder = [] {
    const auto made =
        std::filesystem::temp_directory_path() / ("mtp-fuzz-folder-" + std::to_string(::getpid()));
    std::filesystem::create_directories(made / "inner");
    for (const char* const name : {"a.safetensors", "b.safetensors", "inner/c.safetensors"}) {
      const std::vector<io::tensor_source> one{
          {std::string(1, name[0]), io::element::u8, {1}, [](index_t, index_t, std::byte* to) {
             *to = std::byte{7};
           }}};
      io::write_safetensors(made / name, one);
    }
    return made;
  }();
  const auto index = folder / "model.safetensors.index.json";
  {
    std::ofstream file(index, std::ios::binary | std::ios::trunc);
    file << text;
  }
  accepted([&] {
    const io::tensor_files files(index);
    promise(!files.tensors().empty(), "an index has tensors");
    for (const auto& file : files.files()) {
      promise(file->path().parent_path() == folder, "an index stays in its folder");
    }
  });
}

/// What comes from messages is known to come from there.
inline void check_template(const std::string& source) {
  constexpr std::string_view mark = "\xce\xa9";  // in messages alone
  const bool may_write_it =
      source.find('\\') != std::string::npos || source.find('\xce') != std::string::npos;
  const std::vector<io::chat_message> messages{{"system", "s\xce\xa9 "},
                                               {"user", " \xce\xa9|a<\xce\xa9>\n"}};
  accepted([&] {
    const io::chat_template chat(source, {{"bos_token", "<s>"}});
    const io::chat_text text = chat.render(messages);
    promise(text.bytes() == chat.render(messages).bytes(), "a template makes the same text twice");
    for (std::size_t at = text.bytes().find(mark); !may_write_it && at != std::string::npos;
         at = text.bytes().find(mark, at + 1)) {
      promise(text.is_outside(at) && text.is_outside(at + 1), "messages stay messages");
    }
  });
}

/// The first byte says what the others are.
inline void fuzz_one(std::span<const std::uint8_t> bytes) {
  input in(bytes);
  const unsigned kind = in.take<std::uint8_t>();
  const std::string rest(reinterpret_cast<const char*>(in.rest().data()), in.rest().size());
  if (kind == 'c') check_config(rest);
  if (kind == 'i') check_index(rest);
  if (kind == 't') check_template(rest);
}

}  // namespace mtp::fuzz::folder_harness

namespace mtp::fuzz {
/// What a replay and a fuzzer call.
namespace harness = folder_harness;
}  // namespace mtp::fuzz
