// Reads small JSON files that other programs wrote, and trusts nothing in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "mtp/core/error.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/strict_json.hpp"

namespace mtp::inline MTP_ABI::io {

namespace detail {

inline constexpr std::uint64_t max_json_bytes = 64'000'000;  // the largest index known has 9 MB

/// The text of a file of at most max_json_bytes.
inline std::string read_small_file(const std::filesystem::path& path) {
  const input_file file(path);
  check(file.size() <= max_json_bytes,
        "mtp::io: '",
        path.string(),
        "' has ",
        file.size(),
        " bytes; at most ",
        max_json_bytes,
        " are allowed");
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  file.read_exactly(0, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace detail

/// The object in a JSON file. Throws mtp::error for a file that cannot be read or is larger than
/// 64 MB, and for a text that parse_object refuses.
inline nlohmann::json read_json(const std::filesystem::path& path) {
  return detail::parse_object(detail::read_small_file(path), "mtp::io: '" + path.string() + "': ");
}

}  // namespace mtp::inline MTP_ABI::io
