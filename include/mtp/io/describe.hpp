// A model's configuration as entries of a file, and back.
#pragma once

#include <map>
#include <string>

#include "mtp/core/error.hpp"
#include "mtp/model/config_fields.hpp"
#include "mtp/model/config_text.hpp"

namespace mtp::inline MTP_ABI::io {

/// The entries "config.<name>" of a checkpoint. Equal configurations give equal entries in every
/// locale.
inline std::map<std::string, std::string> describe(const model_config& config) {
  return mtp::detail::config_entries(config);
}

/// The configuration that the entries of a checkpoint describe: the inverse of describe. Head kinds
/// are found among the library's own. Throws mtp::error, with the entry's name, if an entry is
/// missing or invalid.
inline model_config config_of(const std::map<std::string, std::string>& entries) {
  model_config config;
  visit_fields(config, [&](const char* name, auto& value) {
    const auto found = entries.find(std::string("config.") + name);
    check(found != entries.end() || mtp::detail::may_be_missing(name),
          "config_of: there is no entry \"config.",
          name,
          "\"");
    check(found == entries.end() || mtp::detail::set_field(value, found->second),
          "config_of: the entry \"config.",
          name,
          "\" cannot be \"",
          found == entries.end() ? std::string() : found->second,
          "\"");
  });
  return config;
}

/// Calls visitor(name, value in `config`, value in `entries`) for every field in which the two
/// differ. A missing entry counts as empty, unless it may be missing.
template <class Visitor>
void visit_differences(const model_config& config,
                       const std::map<std::string, std::string>& entries,
                       Visitor&& visitor) {
  const model_config all = resolved(config);
  visit_fields(all, [&](const char* name, const auto& value) {
    const auto found = entries.find(std::string("config.") + name);
    const std::string expected = mtp::detail::field_text(value);
    const std::string got = found != entries.end()              ? found->second
                            : mtp::detail::may_be_missing(name) ? mtp::detail::default_text(name)
                                                                : std::string();
    if (got != expected) {
      visitor(name, expected, got);
    }
  });
}

}  // namespace mtp::inline MTP_ABI::io
