// How much memory a process may take, and what is said of more.
#include "mtp/core/available_memory.hpp"

#include <doctest/doctest.h>

#include <map>
#include <optional>
#include <string>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/tensor.hpp"

namespace mtp::test::core_available_memory_cases {

namespace {

using files = std::map<std::string, std::string>;

std::optional<long long> left(const std::string& memberships, const files& there) {
  return detail::memory_of_groups(memberships, [&](const std::string& path) {
    const auto found = there.find(path);
    return found == there.end() ? std::optional<std::string>() : found->second;
  });
}

}  // namespace

TEST_CASE("a machine has what is available without swapping, and its swap") {
  CHECK(detail::memory_of_machine("MemTotal:  90 kB\nMemAvailable:   30 kB\nSwapFree: 12 kB\n") ==
        42 * 1024);
  CHECK(detail::memory_of_machine("MemAvailable: 30 kB") == 30 * 1024);
  for (const char* text : {"", "MemFree: 30 kB\n", "MemAvailable:30 kB", "MemAvailable: x"}) {
    CAPTURE(text);
    CHECK(detail::memory_of_machine(text) == std::nullopt);
  }
}

TEST_CASE(
    "control groups of version 2 leave what the narrowest leaves, pages of files not counted") {
  const std::string own = "0::/a/b\n";
  CHECK(left(own, {}) == std::nullopt);
  CHECK(left(own, {{"/a/b/memory.max", "max\n"}, {"/a/b/memory.current", "5\n"}}) == std::nullopt);
  files there{{"/a/b/memory.max", "1000\n"}, {"/a/b/memory.current", "600\n"}};
  CHECK(left(own, there) == 400);
  there["/a/b/memory.stat"] = "anon 9\ninactive_file 50\nactive_file 30\nslab 7\n";
  CHECK(left(own, there) == 480);
  there["/a/memory.max"] = "500";
  CHECK(left(own, there) == 480);
  there["/a/memory.current"] = "300";
  CHECK(left(own, there) == 200);
  there["/memory.max"] = "100";
  there["/memory.current"] = "300";
  CHECK(left(own, there) == 0);
}

TEST_CASE("control groups of version 1") {
  const std::string own = "4:cpu:/c\n3:memory:/a\n";
  CHECK(left(own,
             {{"/memory/a/memory.limit_in_bytes", "1000"},
              {"/memory/a/memory.usage_in_bytes", "700"},
              {"/memory/a/memory.stat", "inactive_file 1\ntotal_inactive_file 20\n"}}) == 320);
  CHECK(left(own,
             {{"/memory/memory.limit_in_bytes", "9223372036854771712"},
              {"/memory/memory.usage_in_bytes", "700"}}) == 9223372036854771712 - 700);
  CHECK(left("4:cpu:/a\n", {{"/memory/a/memory.limit_in_bytes", "1000"}}) == std::nullopt);
}

#if defined(__linux__)
TEST_CASE("what does not fit into memory is refused before it is allocated, with its bytes") {
  const std::optional<long long> all = available_memory();
  REQUIRE(all.has_value());
  CHECK(*all > 1 << 20);
  const long long more = *all / 4 + (1LL << 32);  // floats, four times what is there and 16 GiB
  std::string message = "allocated";
  try {
    const buffer<float, cpu> memory(more);
  } catch (const error& problem) {
    message = problem.what();
  }
  CAPTURE(message);
  CHECK(message.starts_with("cpu: out of memory: " + std::to_string(4 * more) + " bytes ("));
  CHECK(message.find(" GiB) requested, and about ") != std::string::npos);
  CHECK(message.find(" GiB are available") != std::string::npos);
}
#endif

}  // namespace mtp::test::core_available_memory_cases
