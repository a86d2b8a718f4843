// Control groups of Linux: what a process may use of the machine.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "mtp/core/config.hpp"

namespace mtp::inline MTP_ABI::detail {

/// A whole number that a text begins with, up to white space or the end.
inline std::optional<long long> leading_number(std::string_view text) {
  long long value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  const auto read = static_cast<std::size_t>(end - text.data());
  const bool ends = read == text.size() || text[read] == ' ' || text[read] == '\n';
  if (problem != std::errc{} || !ends) return std::nullopt;
  return value;
}

/// The text of a small file, or nothing if it cannot be read.
inline std::optional<std::string> small_text(const std::string& path) {
  std::FILE* const file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return std::nullopt;
  std::string text(1 << 14, 0);
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}

/// Calls unified(path) for each control group of version 2 that a process is in, and separate(path)
/// for each of version 1 that has the controller; the narrowest first. `memberships`: the text of
/// /proc/self/cgroup. Paths end without a slash, so that of the root is empty.
template <class Unified, class Separate>
void visit_control_groups(std::string_view memberships,
                          std::string_view controller,
                          const Unified& unified,
                          const Separate& separate) {
  // A group is limited by those that it lies in. In a container its own path may not be there, the
  // root is.
  const auto each_group = [](std::string path, const auto& look) {
    for (;;) {
      look(path);
      if (path.empty()) return;
      path.erase(path.rfind('/'));
    }
  };
  // Not by operator+, about whose temporary strings g++ 12 warns wrongly where it inlines them.
  const auto between_commas = [](std::string_view comma_separated) {
    return std::string(1, ',').append(comma_separated).append(1, ',');
  };
  const std::string wanted = between_commas(controller);
  while (!memberships.empty()) {
    const std::string line(memberships.substr(0, memberships.find('\n')));
    memberships.remove_prefix((std::min)(line.size() + 1, memberships.size()));
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers =
        between_commas(std::string_view(line).substr(first + 1, second - first - 1));
    std::string path = line.substr(second + 1);
    if (path.empty() || path.front() != '/') continue;
    if (path == "/") path.clear();
    if (controllers == ",,") {  // version 2
      each_group(path, unified);
    } else if (controllers.find(wanted) != std::string::npos) {  // version 1
      each_group(path, separate);
    }
  }
}

}  // namespace mtp::inline MTP_ABI::detail
