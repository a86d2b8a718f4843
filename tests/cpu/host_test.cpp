#include "mtp/backend/host.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace mtp::test::cpu_host_cases {

namespace {

struct no_context {};
using host = host_backend<no_context>;

}  // namespace

TEST_CASE("memory of a host backend is zeroed and aligned as an arena's") {
  constexpr std::size_t bytes = 1000;
  for (int round = 0; round < 4; ++round) {
    auto* const memory = static_cast<unsigned char*>(host::allocate(bytes));
    CHECK(reinterpret_cast<std::uintptr_t>(memory) % arena_alignment == 0);
    CHECK(std::count(memory, memory + bytes, 0) == bytes);
    std::memset(memory, 255, bytes);  // what the next round may get
    host::deallocate(memory, bytes);
  }
}

TEST_CASE("a mailbox keeps what was posted to each slot, whatever becomes of the source") {
  no_context context;
  host::mailbox mailbox(context, sizeof(int), 3);
  int report = 7;
  mailbox.post(context, 0, &report);
  report = 8;
  mailbox.post(context, 2, &report);
  report = 0;
  const auto read = [&](std::size_t slot) {
    int value = 0;
    std::memcpy(&value, mailbox.wait(slot), sizeof value);
    return value;
  };
  CHECK(read(0) == 7);
  CHECK(read(1) == 0);
  CHECK(read(2) == 8);
}

TEST_CASE("a recording submits the operations each time") {
  no_context context;
  host::recording recording;
  int calls = 0;
  recording.replay(context, [&] { ++calls; });
  recording.replay(context, [&] { ++calls; });
  CHECK(calls == 2);
}

TEST_CASE("weights are stored row by row, and copies of nothing may have no address") {
  static_assert(host::weight_storage<float>(3, 5) == 15);
  static_assert(host::weight_offset<float>(2, 1, 3, 5) == 11);
  host::copy_from_host(nullptr, nullptr, 0);
  const std::vector<int> from{1, 2, 3};
  std::vector<int> to(3);
  host::copy_to_host(to.data(), from.data(), 2 * sizeof(int));
  CHECK(to == std::vector<int>{1, 2, 0});
}

}  // namespace mtp::test::cpu_host_cases
