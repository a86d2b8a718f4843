// The tensors of a Hugging Face checkpoint: one safetensors file, or several with an index.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/json_file.hpp"
#include "mtp/io/safetensors_reader.hpp"

namespace mtp::inline MTP_ABI::io {

/// A tensor and the file that it stands in.
struct stored_tensor {
  const safetensors_file* file;  ///< open
  const tensor_info* info;       ///< of a tensor of that file
};

/// The name of a checkpoint's only file.
inline constexpr std::string_view weights_file_name = "model.safetensors";
/// The name of the index of a checkpoint of several files.
inline constexpr std::string_view index_file_name = "model.safetensors.index.json";

/// The tensors of a checkpoint, open for reading. Files are checked as safetensors_file does it,
/// and an index against its files, completely, before anything is read.
class tensor_files {
 public:
  /// `path`: a safetensors file, or a folder that has model.safetensors, or
  /// model.safetensors.index.json with the files that it names, or a single file *.safetensors.
  /// Throws mtp::error that lists every file that is missing, and every tensor that stands in
  /// another file than the index says, in several files, or not in the index. An index names files
  /// of its own folder; what would lead out of it is refused.
  explicit tensor_files(const std::filesystem::path& path);

  /// All tensors by name.
  const std::map<std::string, stored_tensor, std::less<>>& tensors() const { return tensors_; }
  /// The tensor of that name, or nullptr.
  const stored_tensor* find(std::string_view name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
  }
  /// The files, in the order of their names.
  const std::vector<std::unique_ptr<safetensors_file>>& files() const { return files_; }
  /// The path given to the constructor.
  const std::filesystem::path& path() const { return path_; }

 private:
  void open(const std::filesystem::path& file);
  void open_index(const std::filesystem::path& index);

  std::filesystem::path path_;
  std::vector<std::unique_ptr<safetensors_file>> files_;
  std::map<std::string, stored_tensor, std::less<>> tensors_;
  std::ostringstream problems_;
};

namespace detail {

/// Whether an index may name this file: it is in the same folder and is a safetensors file.
inline bool is_plain_file_name(std::string_view name) {
  return name.ends_with(".safetensors") && name.find('/') == std::string_view::npos &&
         name.find('\\') == std::string_view::npos && !name.starts_with('.');
}

/// The paths in a folder whose names end in .safetensors, sorted.
inline std::vector<std::filesystem::path> safetensors_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found;
  std::error_code code;
  for (const auto& name : names_in(folder, code)) {
    const std::string text = name.string();
    if (text.ends_with(".safetensors") && !text.starts_with('.')) found.push_back(folder / name);
  }
  check(!code, "tensor_files: cannot read the folder '", folder.string(), "': ", code.message());
  std::sort(found.begin(), found.end());
  return found;
}

inline bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

}  // namespace detail

// ---- implementation -----------------------------------------------------------------------------

inline tensor_files::tensor_files(const std::filesystem::path& path) : path_(path) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) {
    open(path);
  } else {
    const auto index = path / index_file_name, single = path / weights_file_name;
    const bool has_index = detail::is_there(index), has_single = detail::is_there(single);
    check(!has_index || !has_single,
          "tensor_files: '",
          path.string(),
          "' has both ",
          weights_file_name,
          " and ",
          index_file_name,
          "; give the path of the one that is meant");
    if (has_index) {
      open_index(index);
    } else if (has_single) {
      open(single);
    } else {
      const auto found = detail::safetensors_in(path);
      check(found.size() == 1,
            "tensor_files: '",
            path.string(),
            "' has neither ",
            weights_file_name,
            " nor ",
            index_file_name,
            ", and ",
            found.size(),
            " other files *.safetensors, expected one");
      open(found.front());
    }
  }
  check(problems_.str().empty(), "tensor_files: '", path.string(), "':", problems_.str());
}

inline void tensor_files::open(const std::filesystem::path& file) {
  if (file.extension() == ".json") {
    open_index(file);
    return;
  }
  files_.push_back(std::make_unique<safetensors_file>(file));
  const safetensors_file& opened = *files_.back();
  for (const tensor_info& info : opened.tensors()) {
    const auto [place, is_new] = tensors_.emplace(info.name, stored_tensor{&opened, &info});
    if (!is_new) {
      problems_ << "\n  " << info.name << " is in "
                << place->second.file->path().filename().string() << " and in "
                << file.filename().string();
    }
  }
}

inline void tensor_files::open_index(const std::filesystem::path& index) {
  const nlohmann::json all = read_json(index);
  const auto map = all.find("weight_map");
  check(map != all.end() && map->is_object() && !map->empty(),
        "tensor_files: '",
        index.string(),
        "': expected an object \"weight_map\" that names the file of each tensor");
  std::map<std::string, bool> opened;  // by name; whether it is there
  for (const auto& [tensor, file] : map->items()) {
    const bool plain =
        file.is_string() && detail::is_plain_file_name(file.get_ref<const std::string&>());
    check(plain,
          "tensor_files: '",
          index.string(),
          "': ",
          tensor,
          ": expected the name of a file *.safetensors in the same folder, got ",
          file.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 200));
    opened.emplace(file.get_ref<const std::string&>(), false);
  }
  for (auto& [name, is_there] : opened) {
    const auto path = index.parent_path() / name;
    is_there = detail::is_there(path);
    if (is_there) {
      open(path);
    } else {
      problems_ << "\n  missing file: " << name;
    }
  }
  for (const auto& [tensor, file] : map->items()) {
    const auto& name = file.get_ref<const std::string&>();
    const stored_tensor* const found = find(tensor);
    if (found == nullptr && opened.at(name)) {
      problems_ << "\n  " << tensor << ": the index says " << name << ", which does not have it";
    } else if (found != nullptr && found->file->path().filename() != name) {
      problems_ << "\n  " << tensor << ": the index says " << name << ", it is in "
                << found->file->path().filename().string();
    }
  }
  for (const auto& [tensor, place] : tensors_) {
    if (!map->contains(tensor)) {
      problems_ << "\n  " << tensor << " of " << place.file->path().filename().string()
                << " is not in the index";
    }
  }
}

}  // namespace mtp::inline MTP_ABI::io
