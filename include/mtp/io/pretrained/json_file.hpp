// Reads small JSON files that other programs wrote, and trusts nothing in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/file.hpp"

namespace mtp::inline MTP_ABI::io {

namespace detail {

inline constexpr std::uint64_t max_json_bytes = 64'000'000;  // the largest index known has 9 MB
inline constexpr int max_json_depth = 32;

/// The text of a file of at most max_json_bytes, without a byte order mark.
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
  // The JSON parser takes a NUL for the end of its input and would ignore what follows.
  check(text.find('\0') == std::string::npos, "mtp::io: '", path.string(), "' contains a NUL byte");
  return text;
}

/// Parses a JSON object. Throws mtp::error for anything else, for a key that occurs twice in one
/// object, and for more than max_json_depth levels.
inline nlohmann::json parse_object(std::string_view text, const std::string& where) {
  using json = nlohmann::json;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    check(depth <= max_json_depth, where, ": more than ", max_json_depth, " levels");
    if (event == json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (event == json::parse_event_t::object_end) {
      keys.pop_back();
    } else if (event == json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      check(keys.back().insert(key).second, where, ": duplicate key '", key, "'");
    }
    return true;
  };
  json object;
  try {
    object = json::parse(text, watch);
  } catch (const json::exception& bad) {
    constexpr std::size_t enough = 300;  // the text quotes the last token, which may be huge
    fail(where, " is not valid JSON: ", std::string_view(bad.what()).substr(0, enough));
  }
  check(object.is_object(), where, ": expected an object, got ", object.type_name());
  return object;
}

}  // namespace detail

/// The object in a JSON file. Throws mtp::error for a file that cannot be read, is larger than
/// 64 MB or is not one valid object, and for an object with the same key twice.
inline nlohmann::json read_json(const std::filesystem::path& path) {
  return detail::parse_object(detail::read_small_file(path), "mtp::io: '" + path.string() + "'");
}

}  // namespace mtp::inline MTP_ABI::io
