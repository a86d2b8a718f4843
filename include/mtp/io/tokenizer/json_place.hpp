// Values of JSON that know their places, for messages.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// A value, and where it stands.
class json_place {
 public:
  /// The whole file. The value must live as long as its places.
  json_place(const nlohmann::json& value, std::string where)
      : value_(&value), where_(std::move(where)) {}

  /// Throws mtp::error with the place in front.
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(where_, path_.empty() ? "" : path_ + ": ", parts...);
  }

  /// The value itself.
  const nlohmann::json& json() const { return *value_; }

  /// A member that must be there, whatever it is.
  json_place at(const std::string& key) const {
    const auto found = object().find(key);
    if (found == object().end()) refuse("'", key, "' is missing");
    return {*found, where_, path_.empty() ? key : path_ + "." + key};
  }

  /// A member, unless it is missing or null.
  std::optional<json_place> find(const std::string& key) const {
    const auto found = object().find(key);
    if (found == object().end() || found->is_null()) return {};
    return at(key);
  }

  /// An element of an array.
  json_place at(std::size_t i) const {
    return {array()[i], where_, path_ + "[" + std::to_string(i) + "]"};
  }

  /// All elements of an array.
  std::vector<json_place> elements() const {
    std::vector<json_place> all;
    for (std::size_t i = 0; i < array().size(); ++i) all.push_back(at(i));
    return all;
  }

  const nlohmann::json& object() const { return expect(value_->is_object(), "an object"); }
  const nlohmann::json& array() const { return expect(value_->is_array(), "an array"); }
  const std::string& string() const {
    return expect(value_->is_string(), "a string").get_ref<const std::string&>();
  }
  bool boolean() const { return expect(value_->is_boolean(), "true or false").get<bool>(); }

  /// A number from 0 to below `end`.
  token_t token(std::size_t end) const {
    expect(value_->is_number_unsigned(), "a number that is not negative");
    const auto number = value_->get<nlohmann::json::number_unsigned_t>();
    if (number >= end) refuse("expected a number below ", end, ", got ", number);
    return static_cast<token_t>(number);
  }

  /// A member that may be missing or null, and is then false.
  bool flag(const std::string& key) const {
    const auto found = find(key);
    return found && found->boolean();
  }

  /// Refuses members other than these.
  void expect_keys(std::span<const std::string_view> known) const {
    for (const auto& [key, value] : object().items()) {
      bool is_known = false;
      for (const std::string_view each : known) is_known = is_known || key == each;
      if (!is_known) refuse("unknown key '", key.substr(0, 100), "'");
    }
  }

 private:
  json_place(const nlohmann::json& value, std::string where, std::string path)
      : value_(&value), where_(std::move(where)), path_(std::move(path)) {}

  const nlohmann::json& expect(bool holds, std::string_view what) const {
    if (!holds) refuse("expected ", what, ", got ", value_->type_name());
    return *value_;
  }

  const nlohmann::json* value_;
  std::string where_;
  std::string path_;
};

}  // namespace mtp::inline MTP_ABI::io::detail
