// A model's configuration as text.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <map>
#include <ostream>
#include <string>
#include <string_view>
#include <type_traits>

#include "mtp/model/config_fields.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// The known kinds, found by name.
inline constexpr std::array known_kinds{head_kind::none,
                                        head_kind::sequential,
                                        head_kind::parallel,
                                        head_kind::independent,
                                        head_kind::recurrent,
                                        head_kind::shared_logit};

/// A field of a configuration as text; the same in every locale.
template <class Value>
std::string field_text(const Value& value) {
  if constexpr (std::same_as<Value, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::floating_point<Value>) {
    std::array<char, 32> digits;  // nine distinguish all values of float
    const auto end =
        std::to_chars(
            digits.data(), digits.data() + digits.size(), value, std::chars_format::general, 9)
            .ptr;
    return {digits.data(), end};
  } else if constexpr (std::integral<Value>) {
    return std::to_string(value);
  } else if constexpr (std::is_enum_v<Value>) {
    return std::string(value_names<Value>::names[static_cast<std::size_t>(value)]);
  } else {
    return std::string(name_of(value));
  }
}

/// Sets a field from its text. Returns false, with nothing changed, if the text is not a value.
template <class Value>
bool set_field(Value& value, std::string_view text) {
  if constexpr (std::same_as<Value, bool>) {
    value = text == "true" || (text != "false" && value);
    return text == "true" || text == "false";
  } else if constexpr (std::integral<Value> || std::floating_point<Value>) {
    Value read{};
    const char* const end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, read);
    const bool whole = result.ec == std::errc() && result.ptr == end;
    value = whole ? read : value;
    return whole;
  } else if constexpr (std::is_enum_v<Value>) {
    const auto& names = value_names<Value>::names;
    const auto found = std::find(names.begin(), names.end(), text);
    value = found != names.end() ? static_cast<Value>(found - names.begin()) : value;
    return found != names.end();
  } else if constexpr (std::same_as<Value, head_kind>) {
    const auto found = std::find_if(known_kinds.begin(),
                                    known_kinds.end(),
                                    [&](const head_kind& kind) { return name_of(kind) == text; });
    value = found != known_kinds.end() ? *found : value;
    return found != known_kinds.end();
  } else {  // a kind of layer has only a name
    if (text.empty() || text.size() >= sizeof(value.name)) {
      return false;
    }
    value = Value{};
    std::copy(text.begin(), text.end(), value.name);
    return true;
  }
}

/// Whether an entry may be missing, which then means the default: files of earlier versions lack
/// it.
constexpr bool may_be_missing(std::string_view name) {
  bool later = false;
  const auto visitor = [&](std::string_view field, const auto&) { later |= field == name; };
  const rope_scaling_config scaling;
  visit_fields(scaling, visitor);
  const feed_forward_config experts;
  visit_expert_fields(experts, visitor);
  return later || name == "attention" || name == "feed_forward" ||
         name == "first_k_dense_replace" || name == "partial_rotary_factor" ||
         name == "attention_post_norm" || name == "feed_forward_post_norm" || name == "chain" ||
         name == "q_lora_rank" || name == "kv_lora_rank" || name == "qk_nope_head_dim" ||
         name == "qk_rope_head_dim" || name == "v_head_dim" || name == "lora_norm_eps";
}

/// The default value of an entry.
inline std::string default_text(std::string_view name) {
  std::string text;
  const model_config plain{};
  visit_fields(plain, [&](std::string_view field, const auto& value) {
    if (field == name) {
      text = field_text(value);
    }
  });
  return text;
}

}  // namespace detail

/// Writes the fields of a configuration in the order of visit_fields, with all sizes filled in:
///
///     vocab_size = 256, hidden_size = 256, ...
inline std::ostream& operator<<(std::ostream& to, const model_config& config) {
  const char* separator = "";
  const model_config all = resolved(config);
  visit_fields(all, [&](const char* name, const auto& value) {
    to << separator << name << " = " << detail::field_text(value);
    separator = ", ";
  });
  return to;
}

namespace detail {

/// An entry "config.<name>" for every field. Equal configurations give equal entries in every
/// locale.
inline std::map<std::string, std::string> config_entries(const model_config& config) {
  std::map<std::string, std::string> entries;
  const model_config all = resolved(config);
  visit_fields(all, [&](const char* name, const auto& value) {
    const std::string text = field_text(value);
    if (!may_be_missing(name) || text != default_text(name)) {
      entries.emplace(std::string("config.") + name, text);
    }
  });
  return entries;
}

}  // namespace detail

}  // namespace mtp::inline MTP_ABI
