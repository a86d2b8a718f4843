// How much memory a process may still take, so that a model that is too large is refused before it
// is allocated: the system would hand out addresses, and end the process when it writes to them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "mtp/core/control_groups.hpp"
#include "mtp/core/error.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// The number of a line "<key> <number>" of a text, or nothing.
inline std::optional<long long> number_of(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix((std::min)(line.size() + 1, text.size()));
    if (!line.starts_with(key) || line.size() == key.size()) continue;
    const std::size_t digits = line.find_first_not_of(" \t", key.size());
    if (digits == key.size() || digits == std::string_view::npos) continue;
    return leading_number(line.substr(digits));
  }
  return std::nullopt;
}

/// Bytes that the machine has left: of memory without writing to a disk, and of swap. `text`: that
/// of /proc/meminfo.
inline std::optional<long long> memory_of_machine(std::string_view text) {
  const auto available = number_of(text, "MemAvailable:");  // in KiB
  if (!available) return std::nullopt;
  return (*available + number_of(text, "SwapFree:").value_or(0)) * 1024;
}

/// Bytes that the control groups of a process leave it, or nothing where they set no limit. Pages
/// of files do not count as used. `memberships` and `read` are those of quota_of_groups.
template <class Read>
std::optional<long long> memory_of_groups(std::string_view memberships, const Read& read) {
  std::optional<long long> least;
  const auto look = [&](const std::string& limit_file,
                        const std::string& usage_file,
                        const std::string& statistics_file,
                        const std::string& key_prefix) {
    const auto limit_text = read(limit_file), usage_text = read(usage_file);
    if (!limit_text || !usage_text) return;
    const auto limit = leading_number(*limit_text), usage = leading_number(*usage_text);
    if (!limit || !usage) return;  // none is "max"
    const std::string statistics = read(statistics_file).value_or("");
    const long long files = number_of(statistics, key_prefix + "inactive_file").value_or(0) +
                            number_of(statistics, key_prefix + "active_file").value_or(0);
    const long long left = (std::max)(*limit - (*usage - files), 0LL);
    if (!least || left < *least) least = left;
  };
  visit_control_groups(
      memberships,
      "memory",
      [&](const std::string& group) {
        look(group + "/memory.max", group + "/memory.current", group + "/memory.stat", "");
      },
      [&](const std::string& group) {
        const std::string folder = "/memory" + group;
        look(folder + "/memory.limit_in_bytes",
             folder + "/memory.usage_in_bytes",
             folder + "/memory.stat",
             "total_");
      });
  return least;
}

}  // namespace detail

/// Bytes of memory that this process may still take, about: what the machine has left, swap
/// included, and no more than its control groups allow. Nothing where the system does not say.
inline std::optional<long long> available_memory() {
  std::optional<long long> left;
#if defined(__linux__)
  if (const auto machine = detail::small_text("/proc/meminfo")) {
    left = detail::memory_of_machine(*machine);
  }
  const auto read = [](const std::string& path) {
    return detail::small_text("/sys/fs/cgroup" + path);
  };
  if (const auto groups = detail::small_text("/proc/self/cgroup")) {
    if (const auto own = detail::memory_of_groups(*groups, read)) {
      left = left ? (std::min)(*left, *own) : *own;
    }
  }
#endif
  return left;
}

namespace detail {

/// Throws mtp::error, as `caller`, for more bytes than available_memory(). Small requests are not
/// looked at.
inline void check_available(const char* caller, std::size_t bytes) {
  constexpr std::size_t small = std::size_t{1} << 26;
  if (bytes < small) return;
  const std::optional<long long> left = available_memory();
  if (!left || bytes <= static_cast<unsigned long long>(*left)) return;
  const auto gib = [](unsigned long long count) {
    const unsigned long long tenths = count / ((1ULL << 30) / 10);
    return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " GiB";
  };
  fail(caller,
       ": out of memory: ",
       bytes,
       " bytes (",
       gib(bytes),
       ") requested, and about ",
       gib(static_cast<unsigned long long>(*left)),
       " are available");
}

}  // namespace detail

}  // namespace mtp::inline MTP_ABI
