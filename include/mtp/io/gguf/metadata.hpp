// The metadata of a GGUF file: typed values by their keys.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "mtp/core/error.hpp"

namespace mtp::inline MTP_ABI::io {

/// A value of the metadata. Numbers are widened, and an array of truth values is one of 0 and 1.
using gguf_value = std::variant<std::uint64_t,
                                std::int64_t,
                                double,
                                bool,
                                std::string,
                                std::vector<std::uint64_t>,
                                std::vector<std::int64_t>,
                                std::vector<double>,
                                std::vector<std::string>>;

/// Values by their keys. A value of another type than the one that is asked for is an mtp::error
/// with the file and the key.
class gguf_metadata {
 public:
  /// `where` begins the messages.
  explicit gguf_metadata(std::string where) : where_(std::move(where)) {}

  /// False if the key is there already.
  bool add(std::string key, gguf_value value) {
    return values_.emplace(std::move(key), std::move(value)).second;
  }

  /// All values.
  const std::map<std::string, gguf_value, std::less<>>& values() const { return values_; }

  /// The value of a key, or nullptr.
  const gguf_value* find(std::string_view key) const {
    const auto found = values_.find(key);
    return found == values_.end() ? nullptr : &found->second;
  }

  /// A whole number that is not negative, of any type.
  std::optional<std::uint64_t> count(std::string_view key) const {
    const gguf_value* const value = find(key);
    if (value == nullptr) return {};
    if (const auto* const number = std::get_if<std::uint64_t>(value)) return *number;
    const auto* const number = std::get_if<std::int64_t>(value);
    require(number != nullptr && *number >= 0, key, "a whole number that is not negative", value);
    return static_cast<std::uint64_t>(*number);
  }

  /// A count from 1 to 2^31 - 1 that must be there.
  int needed_count(std::string_view key) const {
    const auto value = count(key);
    check(value.has_value(), where_, key, " is missing");
    check(*value >= 1 && *value <= static_cast<std::uint64_t>((std::numeric_limits<int>::max)()),
          where_,
          key,
          ": expected 1 to ",
          (std::numeric_limits<int>::max)(),
          ", got ",
          *value);
    return static_cast<int>(*value);
  }

  /// A floating-point number.
  std::optional<double> number(std::string_view key) const { return get<double>(key, "a number"); }
  /// A truth value.
  std::optional<bool> flag(std::string_view key) const { return get<bool>(key, "true or false"); }
  /// A text.
  std::optional<std::string> text(std::string_view key) const {
    return get<std::string>(key, "a text");
  }

  /// An array of texts, or nullptr.
  const std::vector<std::string>* texts(std::string_view key) const {
    const gguf_value* const value = find(key);
    if (value == nullptr) return nullptr;
    const auto* const found = std::get_if<std::vector<std::string>>(value);
    require(found != nullptr, key, "an array of texts", value);
    return found;
  }

  /// What stands in front of messages about these values.
  const std::string& where() const { return where_; }

 private:
  template <class Type>
  std::optional<Type> get(std::string_view key, std::string_view expected) const {
    const gguf_value* const value = find(key);
    if (value == nullptr) return {};
    const Type* const found = std::get_if<Type>(value);
    require(found != nullptr, key, expected, value);
    return *found;
  }

  void require(bool holds,
               std::string_view key,
               std::string_view expected,
               const gguf_value* value) const {
    constexpr const char* kinds[] = {"a whole number",
                                     "a whole number with a sign",
                                     "a number",
                                     "a truth value",
                                     "a text",
                                     "an array of whole numbers",
                                     "an array of whole numbers with a sign",
                                     "an array of numbers",
                                     "an array of texts"};
    check(holds, where_, key, ": expected ", expected, ", got ", kinds[value->index()]);
  }

  std::string where_;
  std::map<std::string, gguf_value, std::less<>> values_;
};

}  // namespace mtp::inline MTP_ABI::io
