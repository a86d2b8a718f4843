#include "mtp/core/arena.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <limits>

namespace mtp::test::core_arena_cases {

TEST_CASE("an arena hands out aligned pieces one behind the other") {
  alignas(64) std::array<std::byte, 256> memory{};
  arena pieces(memory.data(), 256);
  auto* first = pieces.take<float>(3);
  auto* second = pieces.take<double>(8);
  CHECK(reinterpret_cast<std::byte*>(first) == memory.data());
  CHECK(reinterpret_cast<std::byte*>(second) == memory.data() + 64);
  CHECK(pieces.used() == 128);
  CHECK(pieces.capacity() == 256);
}

TEST_CASE("an arena that is used up throws and stays as it was") {
  alignas(64) std::array<std::byte, 128> memory{};
  arena pieces(memory.data(), 128);
  pieces.take<float>(1);
  CHECK_THROWS_AS(pieces.take<float>(17), error);
  CHECK(pieces.used() == 64);
  CHECK_NOTHROW(pieces.take<float>(16));
  CHECK_NOTHROW(pieces.take<float>(0));
  CHECK_THROWS_AS(pieces.take<std::byte>(1), error);
}

TEST_CASE("numbers of elements whose bytes do not fit, or that are negative, throw") {
  constexpr index_t most = std::numeric_limits<index_t>::max();
  alignas(64) std::array<std::byte, 128> memory{};
  arena pieces(memory.data(), 128);
  CHECK_THROWS_AS(pieces.take<double>(index_t{1} << 61), error);
  CHECK_THROWS_AS(pieces.take<std::byte>(most), error);
  CHECK_THROWS_AS(pieces.take<float>(-1), error);
  CHECK(pieces.used() == 0);
  CHECK_THROWS_AS(arena(memory.data(), -1), error);
  arena_plan plan;
  plan.take<std::byte>(most / 2);
  plan.take<std::byte>(most / 4);
  const index_t before = plan.bytes();
  CHECK_THROWS_AS(plan.take<std::byte>(most / 2), error);
  CHECK_THROWS_AS(plan.take<float>(-1), error);
  CHECK(plan.bytes() == before);
}

TEST_CASE("a scope gives back what was taken within it") {
  alignas(64) std::array<std::byte, 256> memory{};
  arena pieces(memory.data(), 256);
  pieces.take<float>(1);
  {
    const arena::scope outer(pieces);
    pieces.take<float>(1);
    {
      const arena::scope inner(pieces);
      pieces.take<float>(1);
      CHECK(pieces.used() == 192);
    }
    CHECK(pieces.used() == 128);
  }
  CHECK(pieces.used() == 64);
}

TEST_CASE("an arena without memory has room for nothing only") {
  arena nothing;
  CHECK(nothing.take<float>(0) == nullptr);
  CHECK_THROWS_AS(nothing.take<float>(1), error);
}

TEST_CASE("arena_bytes is what take uses") {
  static_assert(arena_bytes(0, 4) == 0 && arena_bytes(1, 4) == 64 && arena_bytes(16, 4) == 64 &&
                arena_bytes(17, 4) == 128);
}

}  // namespace mtp::test::core_arena_cases
