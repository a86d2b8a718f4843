// JSON that is read with suspicion.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "mtp/core/error.hpp"

namespace mtp::inline MTP_ABI::io::detail {

inline constexpr int max_json_depth = 32;  // arrays and objects in each other

/// Parses a text. Throws mtp::error for what is not JSON, keys that come twice, nesting beyond
/// max_json_depth, and a NUL, at which the parser would stop. `where` begins the messages.
inline nlohmann::json parse_strictly(std::string_view text, const std::string& where) {
  using json = nlohmann::json;
  constexpr std::size_t enough = 300;  // of a message that quotes the text
  check(text.find('\0') == std::string_view::npos, where, "the file contains a NUL byte");
  std::vector<std::unordered_set<std::string>> keys;  // of the objects that are open
  const auto look = [&](int depth, json::parse_event_t event, json& value) {
    switch (event) {
      case json::parse_event_t::object_start:
        keys.emplace_back();
        [[fallthrough]];
      case json::parse_event_t::array_start:
        check(depth < max_json_depth,
              where,
              "expected nesting of less than ",
              max_json_depth,
              ", got more");
        break;
      case json::parse_event_t::object_end:
        keys.pop_back();
        break;
      case json::parse_event_t::key: {
        const auto& key = value.get_ref<const std::string&>();
        check(keys.back().insert(key).second, where, "duplicate key '", key.substr(0, enough), "'");
        break;
      }
      default:
        break;
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), look);
  } catch (const json::exception& fault) {
    fail(where, "not valid JSON: ", std::string_view(fault.what()).substr(0, enough));
  }
}

/// The same for a text that is one object.
inline nlohmann::json parse_object(std::string_view text, const std::string& where) {
  nlohmann::json object = parse_strictly(text, where);
  check(object.is_object(), where, "expected an object, got ", object.type_name());
  return object;
}

}  // namespace mtp::inline MTP_ABI::io::detail
