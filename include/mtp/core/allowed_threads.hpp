// How many threads a process can use at a time: fewer than the machine has processors where it is
// bound to some of them, or where its control group has a quota.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

#include "mtp/core/config.hpp"
#include "mtp/core/control_groups.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

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
  visit_control_groups(
      memberships,
      "cpu",
      [&](const std::string& group) {
        const std::optional<std::string> text = read(group + "/cpu.max");
        if (!text) return;
        const std::size_t space = text->find(' ');
        if (space == std::string::npos) return;
        apply(processors_of(leading_number(*text),
                            leading_number(std::string_view(*text).substr(space + 1))));
      },
      [&](const std::string& group) {
        const std::optional<std::string> quota = read("/cpu" + group + "/cpu.cfs_quota_us");
        const std::optional<std::string> period = read("/cpu" + group + "/cpu.cfs_period_us");
        if (quota && period) apply(processors_of(leading_number(*quota), leading_number(*period)));
      });
  return least;
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
