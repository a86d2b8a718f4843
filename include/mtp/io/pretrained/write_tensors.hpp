// Writes the files of a checkpoint: tensors in shards with their index, and texts.
#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/pretrained/tensor_files.hpp"
#include "mtp/io/safetensors_writer.hpp"

namespace mtp::inline MTP_ABI::io::pretrained_detail {

/// Divides tensors, in their order, among files of at most `bytes` each; a larger tensor has a file
/// of its own.
inline std::vector<std::vector<tensor_source>> in_shards(std::vector<tensor_source> sources,
                                                         index_t bytes) {
  std::vector<std::vector<tensor_source>> shards(1);
  index_t used = 0;
  for (tensor_source& source : sources) {
    const index_t size = *io::detail::tensor_bytes(source.type, source.shape);
    if (used > 0 && size > bytes - used) {
      shards.emplace_back();
      used = 0;
    }
    used += size;
    shards.back().push_back(std::move(source));
  }
  return shards;
}

/// "model-00002-of-00003.safetensors", or the name of an only file.
inline std::string shard_name(std::size_t number, std::size_t count) {
  if (count == 1) return std::string(weights_file_name);
  const auto digits = [](std::size_t value) {
    const std::string text = std::to_string(value);
    return std::string(text.size() < 5 ? 5 - text.size() : 0, '0') + text;
  };
  return "model-" + digits(number) + "-of-" + digits(count) + ".safetensors";
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  atomic_file file(path);
  buffered_writer writer(file);
  writer.write(text);
  writer.flush();
  file.commit();
}

/// Writes an object, with lines. Throws mtp::error for text that is not UTF-8.
inline void write_json(const std::filesystem::path& path, const nlohmann::json& json) {
  std::string text;
  try {
    text = json.dump(2) + "\n";
  } catch (const nlohmann::json::exception&) {
    fail("mtp::io: cannot write '", path.string(), "': a text is not valid UTF-8");
  }
  write_text(path, text);
}

/// Writes the files, then the index.
inline void write_shards(const std::filesystem::path& folder,
                         const std::vector<std::vector<tensor_source>>& shards) {
  nlohmann::json map = nlohmann::json::object();
  index_t total = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i + 1, shards.size());
    for (const tensor_source& source : shards[i]) {
      map[source.name] = name;
      total += *io::detail::tensor_bytes(source.type, source.shape);
    }
    // Other programs refuse a file that does not name its framework.
    write_safetensors(folder / name, shards[i], {{"format", "pt"}});
  }
  if (shards.size() > 1) {
    const nlohmann::json index{{"metadata", {{"total_size", total}}}, {"weight_map", map}};
    write_json(folder / index_file_name, index);
  }
}

/// Makes the folder if it is not there. Throws if it holds a checkpoint; `where` begins the
/// message.
inline void check_empty(const std::filesystem::path& folder, std::string_view where) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  check(!code, where, ": cannot make '", folder.string(), "': ", code.message());
  const auto found = io::detail::safetensors_in(folder);
  const bool has_index = io::detail::is_there(folder / index_file_name);
  check(found.empty() && !has_index,
        where,
        ": '",
        folder.string(),
        "' holds a checkpoint already: ",
        found.empty() ? std::string(index_file_name) : found.front().filename().string());
}

}  // namespace mtp::inline MTP_ABI::io::pretrained_detail
