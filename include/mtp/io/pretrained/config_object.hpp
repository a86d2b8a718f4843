// Typed reading of the fields of a config.json, with messages that name file and field.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "mtp/core/error.hpp"

namespace mtp::inline MTP_ABI::io {

/// An object of a configuration. A field that is null counts as missing, as it does for
/// transformers. All functions throw mtp::error for a value of another type or out of range.
class config_object {
 public:
  /// `where`: what messages begin with. The object must outlive this one.
  config_object(const nlohmann::json& object, std::string where)
      : object_(object), where_(std::move(where)) {}

  /// Whether the field is there and not null.
  bool has(std::string_view name) const { return find(name) != nullptr; }

  /// A number from 1 to 2^31 - 1, or nothing if it is missing.
  std::optional<int> count(std::string_view name) const {
    const nlohmann::json* const value = find(name);
    if (value == nullptr) return std::nullopt;
    require(value->is_number_unsigned() &&
                value->get<std::uint64_t>() - 1 < std::uint64_t{(std::numeric_limits<int>::max)()},
            name,
            "expected a whole number from 1 to 2147483647, got ",
            *value);
    return static_cast<int>(value->get<std::uint64_t>());
  }
  /// The same, which must be there.
  int needed_count(std::string_view name) const {
    const auto value = count(name);
    check(value.has_value(), where_, ": ", name, " is missing");
    return *value;
  }

  /// The same; 0 if it is 0 or missing.
  int count_or_zero(std::string_view name) const {
    const nlohmann::json* const value = find(name);
    return value != nullptr && *value == 0 ? 0 : count(name).value_or(0);
  }

  /// A finite number that is not negative, or nothing if it is missing.
  std::optional<float> number(std::string_view name) const {
    const nlohmann::json* const value = find(name);
    if (value == nullptr) return std::nullopt;
    const float read = value->is_number() ? static_cast<float>(value->get<double>()) : -1;
    require(std::isfinite(read) && read >= 0, name, "expected a number from 0 on, got ", *value);
    return read;
  }

  /// true or false, `otherwise` if it is missing.
  bool flag(std::string_view name, bool otherwise) const {
    const nlohmann::json* const value = find(name);
    if (value == nullptr) return otherwise;
    require(value->is_boolean(), name, "expected true or false, got ", *value);
    return value->get<bool>();
  }

  /// A text, `otherwise` if it is missing.
  std::string text(std::string_view name, std::string otherwise) const {
    const nlohmann::json* const value = find(name);
    if (value == nullptr) return otherwise;
    require(value->is_string(), name, "expected a text, got ", *value);
    return value->get<std::string>();
  }

  /// An object inside, or nothing if it is missing.
  std::optional<config_object> object(std::string_view name) const {
    const nlohmann::json* const value = find(name);
    if (value == nullptr) return std::nullopt;
    require(value->is_object(), name, "expected an object, got ", *value);
    return config_object(*value, where_ + ": " + std::string(name));
  }

  /// The value itself, or nullptr if it is missing.
  const nlohmann::json* find(std::string_view name) const {
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  /// Throws unless `holds`: the field has a meaning that the library lacks.
  void supports(bool holds, std::string_view name, std::string_view why) const {
    if (!holds) {
      const nlohmann::json* const value = find(name);
      check(false, where_, ": ", name, " = ", printed(value), " is not supported: ", why);
    }
  }

  /// What messages begin with.
  const std::string& where() const { return where_; }

 private:
  static std::string printed(const nlohmann::json* value) {
    constexpr std::size_t enough = 100;
    return value == nullptr ? "null"
                            : value->dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)
                                  .substr(0, enough);
  }
  void require(bool holds,
               std::string_view name,
               std::string_view expected,
               const nlohmann::json& value) const {
    if (!holds) check(false, where_, ": ", name, ": ", expected, printed(&value));
  }

  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace mtp::inline MTP_ABI::io
