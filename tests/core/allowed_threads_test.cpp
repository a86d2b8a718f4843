// How many threads a process can use.
#include "mtp/core/allowed_threads.hpp"

#include <doctest/doctest.h>

#include <map>
#include <optional>
#include <string>
#include <thread>

#include "mtp/backend/cpu.hpp"

namespace mtp::test::core_allowed_threads_cases {

namespace {

using files = std::map<std::string, std::string>;

std::optional<int> quota(const std::string& memberships, const files& there) {
  return detail::quota_of_groups(memberships, [&](const std::string& path) {
    const auto found = there.find(path);
    return found == there.end() ? std::optional<std::string>() : found->second;
  });
}

}  // namespace

TEST_CASE("the quota of control groups of version 2 is that of the narrowest, rounded up") {
  const std::string own = "0::/a/b\n";
  CHECK(quota(own, {}) == std::nullopt);
  CHECK(quota(own, {{"/a/b/cpu.max", "max 100000\n"}}) == std::nullopt);
  CHECK(quota(own, {{"/a/b/cpu.max", "200000 100000\n"}}) == 2);
  CHECK(quota(own, {{"/a/b/cpu.max", "200001 100000\n"}}) == 3);
  CHECK(quota(own, {{"/a/b/cpu.max", "1000 100000\n"}}) == 1);
  CHECK(quota(own, {{"/a/b/cpu.max", "800000 100000\n"}, {"/a/cpu.max", "400000 100000\n"}}) == 4);
  CHECK(quota(own, {{"/cpu.max", "300000 100000\n"}}) == 3);
  CHECK(quota("0::/\n", {{"/cpu.max", "300000 100000"}}) == 3);
}

TEST_CASE("the quota of control groups of version 1") {
  const std::string own = "9:name=systemd:/\n4:cpu,cpuacct:/a\n3:cpuset:/\n";
  const auto in =
      [](const std::string& group, const std::string& quota, const std::string& period) {
        return files{{"/cpu" + group + "/cpu.cfs_quota_us", quota},
                     {"/cpu" + group + "/cpu.cfs_period_us", period}};
      };
  CHECK(quota(own, in("/a", "-1\n", "100000\n")) == std::nullopt);
  CHECK(quota(own, in("/a", "250000\n", "100000\n")) == 3);
  CHECK(quota(own, in("", "100000\n", "100000\n")) == 1);
  CHECK(quota("3:cpuset:/a\n5:cpuacct:/a\n", in("/a", "100000\n", "100000\n")) == std::nullopt);
}

TEST_CASE("files of control groups that are not as expected set no limit") {
  for (const char* text : {"",
                           "\n",
                           "200000",
                           "x 100000",
                           "200000 x",
                           "200000 0",
                           "0 100000",
                           "2e5 100000",
                           "99999999999999999999 100000"}) {
    CAPTURE(text);
    CHECK(quota("0::/a\n", {{"/a/cpu.max", text}}) == std::nullopt);
  }
  for (const char* text : {"", "0", "0:", "0::", "0::a", ":::", "\n\n"}) {
    CAPTURE(text);
    CHECK(quota(text, {{"/a/cpu.max", "100000 100000"}, {"/cpu.max", "max 1"}}) == std::nullopt);
  }
}

#if defined(__linux__)
TEST_CASE("a context has a thread for each processor that its thread is bound to") {
  const int all = allowed_threads();
  CHECK(all >= 1);
  CHECK(context<cpu>().threads() == all);
  int bound = 0, threads = 0;
  std::thread([&] {
    cpu_set_t set;
    REQUIRE(sched_getaffinity(0, sizeof(set), &set) == 0);
    std::size_t first = 0;
    while (!CPU_ISSET(first, &set)) ++first;
    CPU_ZERO(&set);
    CPU_SET(first, &set);
    REQUIRE(sched_setaffinity(0, sizeof(set), &set) == 0);
    bound = allowed_threads();
    threads = static_cast<int>(context<cpu>().threads());
  }).join();
  CHECK(bound == 1);
  CHECK(threads == 1);
}
#endif

}  // namespace mtp::test::core_allowed_threads_cases
