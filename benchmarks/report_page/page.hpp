// The page that is written, and how figures stand in it.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "picture.hpp"

namespace report {

/// A page that grows, and the folder for its pictures.
struct page {
  std::filesystem::path docs;
  std::string text;

  template <class... Arguments>
  void add(fmt::format_string<Arguments...> form, Arguments&&... arguments) {
    text += fmt::format(form, std::forward<Arguments>(arguments)...);
  }
  void picture(const std::string& name, const example::line_chart& chart) {
    if (write_picture(docs / "pictures" / (name + ".svg"), chart)) {
      add("![{}](pictures/{}.svg)\n\n", chart.description, name);
    }
  }
};

inline std::string number(std::optional<double> value, int digits) {
  return value ? fmt::format("{:.{}f}", *value, digits) : "";
}
/// With three significant digits, so that small and large ones stand in one column.
inline std::string figure(std::optional<double> value) {
  if (!value) return "";
  return *value >= 100 ? fmt::format("{:.0f}", *value)
                       : fmt::format("{:.{}f}", *value, *value >= 10 ? 1 : 2);
}
inline std::string percent(std::optional<double> value) {
  return value ? fmt::format("{:.0f} %", 100 * *value) : "";
}
}  // namespace report
