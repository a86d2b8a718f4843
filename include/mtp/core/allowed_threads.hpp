// How many threads a process can use at a time: fewer than the machine has processors where it is
// bound to some of them, or where its control group has a quota.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

#include "mtp/core/config.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// A whole number that a text begins with, up to white space or the end.
inline std::optional<long long> leading_number(std::string_view text) {
  long long value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  const auto read = static_cast<std::size_t>(end - text.data());
  const bool ends = read == text.size() || text[read] == ' ' || text[read] == '\n';
  if (problem != std::errc{} || !ends) return std::nullopt;
  return value;
}

/// Processors that `quota` microseconds of each `period` are, rounded up.
inline std::optional<int> processors_of(std::optional<long long> quota,
                                        std::optional<long long> period) {
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;  // none is -1 or "max"
  constexpr long long most = 1 << 20;
  return static_cast<int>((std::min)((*quota - 1) / *period + 1, most));
}

/// What the control groups of a process allow it, or nothing where they set no limit.
/// `memberships`: the text of /proc/self/cgroup. read(path): the text of a file of
/// /sys/fs/cgroup, or nothing.
template <class Read>
std::optional<int> quota_of_groups(std::string_view memberships, const Read& read) {
  std::optional<int> least;
  const auto apply = [&](std::optional<int> limit) {
    if (limit && (!least || *limit < *least)) least = limit;
  };
  // A group is limited by those that it lies in. In a container its own path may not be there, the
  // root is.
  const auto each_group = [](std::string path, const auto& look) {
    for (;;) {
      look(path);
      if (path.empty()) return;
      path.erase(path.rfind('/'));
    }
  };
  while (!memberships.empty()) {
    const std::string line(memberships.substr(0, memberships.find('\n')));
    memberships.remove_prefix((std::min)(line.size() + 1, memberships.size()));
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string path = line.substr(second + 1);
    if (path.empty() || path.front() != '/') continue;
    if (path == "/") path.clear();
    if (controllers == ",,") {  // version 2
      each_group(path, [&](const std::string& group) {
        const std::optional<std::string> text = read(group + "/cpu.max");
        if (!text) return;
        const std::size_t space = text->find(' ');
        if (space == std::string::npos) return;
        apply(processors_of(leading_number(*text),
                            leading_number(std::string_view(*text).substr(space + 1))));
      });
    } else if (controllers.find(",cpu,") != std::string::npos) {  // version 1
      each_group(path, [&](const std::string& group) {
        const std::optional<std::string> quota = read("/cpu" + group + "/cpu.cfs_quota_us");
        const std::optional<std::string> period = read("/cpu" + group + "/cpu.cfs_period_us");
        if (quota && period) apply(processors_of(leading_number(*quota), leading_number(*period)));
      });
    }
  }
  return least;
}

/// The text of a small file, or nothing if it cannot be read.
inline std::optional<std::string> small_text(const std::string& path) {
  std::FILE* const file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return std::nullopt;
  std::string text(4096, 0);
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}

/// Processors that the calling thread may run on, or 0 where the system does not say.
inline int bound_processors() {
#if defined(__linux__)
  for (int most = 1024; most <= 1 << 20; most *= 2) {
    cpu_set_t* const set = CPU_ALLOC(static_cast<std::size_t>(most));
    if (set == nullptr) return 0;
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(most));
    const int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;  // else the system has more processors than the set has room for
  }
#endif
  return 0;
}

}  // namespace detail

/// How many threads the calling thread's process can use at a time, at least 1: the processors that
/// it is bound to (sched_setaffinity, taskset, cpusets), and on Linux no more than the quota of its
/// control groups, rounded up. A context of the CPU has as many threads if no other number is
/// asked for.
inline int allowed_threads() {
  int count = detail::bound_processors();
  if (count == 0) count = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  const auto read = [](const std::string& path) {
    return detail::small_text("/sys/fs/cgroup" + path);
  };
  if (const auto groups = detail::small_text("/proc/self/cgroup")) {
    if (const auto quota = detail::quota_of_groups(*groups, read)) {
      count = (std::min)(count, *quota);
    }
  }
#endif
  return (std::max)(count, 1);
}

}  // namespace mtp::inline MTP_ABI
