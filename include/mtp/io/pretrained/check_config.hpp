// Compares the configuration that a program was compiled for with a checkpoint's.
#pragma once

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>

#include "mtp/core/error.hpp"
#include "mtp/io/describe.hpp"
#include "mtp/io/pretrained/read_config.hpp"

namespace mtp::inline MTP_ABI::io {

/// Reads the config.json of a checkpoint, as read_config does, and throws mtp::error that lists
/// every field that differs from `config`. A program may be compiled for shorter sequences than
/// the checkpoint allows, and for a head that the checkpoint does not have.
inline pretrained_config check_config(const std::filesystem::path& path,
                                      const model_config& config) {
  pretrained_config read = read_config(path);
  model_config wanted = config;
  // Only longer sequences than the checkpoint's are a difference.
  wanted.max_position_embeddings =
      (std::max)(wanted.max_position_embeddings, read.config.max_position_embeddings);
  if (read.config.prediction.kind == head_kind::none) wanted.prediction = {};
  std::ostringstream lines;
  visit_differences(
      wanted,
      describe(read.config),
      [&](std::string_view name, const std::string& expected, const std::string& got) {
        lines << "\n  " << name << ": the program has " << expected << ", the file " << got;
      });
  check(lines.str().empty(),
        "check_config: '",
        read.path.string(),
        "' is of another model:",
        lines.str());
  return read;
}

}  // namespace mtp::inline MTP_ABI::io
