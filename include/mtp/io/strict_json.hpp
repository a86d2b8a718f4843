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

/// Parses a text. Throws mtp::error for what is not JSON, keys that come twice, nesting beyond 32,
/// and a NUL, at which the parser would stop. `where` begins the messages.
inline nlohmann::json parse_strictly(std::string_view text, const std::string& where) {
  using json = nlohmann::json;
  constexpr int deepest = 32;
  constexpr std::size_t enough = 300;  // of a message that quotes the text
  check(text.find('\0') == std::string_view::npos, where, "the file contains a NUL byte");
  std::vector<std::unordered_set<std::string>> keys;  // of the objects that are open
  const auto look = [&](int depth, json::parse_event_t event, json& value) {
    switch (event) {
      case json::parse_event_t::object_start:
        keys.emplace_back();
        [[fallthrough]];
      case json::parse_event_t::array_start:
        check(depth < deepest, where, "expected nesting of less than ", deepest, ", got more");
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

}  // namespace mtp::inline MTP_ABI::io::detail
