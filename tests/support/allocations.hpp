// Counts the allocations of an executable by replacing operator new, and lets them fail. To be
// included by one file of an executable.
#pragma once

#include <malloc.h>

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/tensor.hpp"

namespace {

std::atomic<long> allocations{0};
std::atomic<long> pieces_in_use{0};
std::atomic<long> bytes_in_use{0};  // what the C library sets aside
std::atomic<long> most_bytes{0};    // of them at a time

// How many allocations still succeed before one fails; negative: all do.
std::atomic<long> before_failure{-1};
// Whether those behind it fail as well.
std::atomic<bool> for_good{false};

std::atomic<long> failures{0};

bool fails() {
  long left = before_failure;
  while (left >= 0) {
    const long next = left == 0 && for_good ? 0 : left - 1;
    if (before_failure.compare_exchange_weak(left, next)) {
      failures += left == 0 ? 1 : 0;
      return left == 0;
    }
  }
  return false;
}

void* counted(std::size_t bytes, std::size_t alignment) {
  ++allocations;
  void* const memory =
      fails() ? nullptr
              : std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
  pieces_in_use += memory != nullptr ? 1 : 0;
  const long in_use = bytes_in_use += static_cast<long>(::malloc_usable_size(memory));
  for (long most = most_bytes; in_use > most && !most_bytes.compare_exchange_weak(most, in_use);) {
  }
  return memory;
}

void give_back(void* memory) {
  pieces_in_use -= memory != nullptr ? 1 : 0;
  bytes_in_use -= static_cast<long>(::malloc_usable_size(memory));
  std::free(memory);
}

void* counted_or_throw(std::size_t bytes, std::size_t alignment) {
  void* const memory = counted(bytes, alignment);
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  return memory;
}

constexpr std::size_t plain_alignment = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

}  // namespace

// Arrays come here by default. Not inlined: the compiler would see malloc's memory freed by delete.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  return counted_or_throw(bytes, plain_alignment);
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return counted(bytes, plain_alignment);
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return counted_or_throw(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void* operator new(std::size_t bytes,
                                     std::align_val_t alignment,
                                     const std::nothrow_t&) noexcept {
  return counted(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  give_back(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  give_back(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  give_back(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  give_back(memory);
}
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept {
  give_back(memory);
}
[[gnu::noinline]] void operator delete(void* memory,
                                       std::align_val_t,
                                       const std::nothrow_t&) noexcept {
  give_back(memory);
}

namespace mtp::test {

/// Calls body() again and again: the first allocation fails, then the second, and so on until none
/// is left to fail; each time once alone, and once with all behind it. A call that cannot do
/// without throws mtp::error or std::bad_alloc, leaves no memory behind, and is_as_before() holds
/// after it; what one that can has done, undo() takes back. Returns how many allocations a call
/// has.
template <class Body, class Check, class Undo>
long fail_each_allocation(const Body& body, const Check& is_as_before, const Undo& undo) {
  for (long number = 0; number < 100000; ++number) {
    for (const bool all_behind : {true, false}) {
      const long in_use = pieces_in_use;
      bool completed = false, expected = true;
      failures = 0;
      for_good = all_behind;
      before_failure = number;
      try {
        body();
        completed = true;
      } catch (const mtp::error&) {
      } catch (const std::bad_alloc&) {
      } catch (...) {
        expected = false;
      }
      before_failure = -1;
      const long left_behind = pieces_in_use - in_use;
      CAPTURE(number);
      CAPTURE(all_behind);
      CHECK(expected);
      CHECK(left_behind == 0);
      if (!completed) {
        REQUIRE(failures > 0);
        CHECK(is_as_before());
      } else if (failures > 0) {
        undo();
      } else {
        return number;
      }
    }
  }
  FAIL("the call goes on allocating");
  return -1;
}

/// The same for a call that does not do without any.
template <class Body, class Check>
long fail_each_allocation(const Body& body, const Check& is_as_before) {
  return fail_each_allocation(
      body, is_as_before, [] { FAIL("an allocation failed, and the call did without"); });
}

/// Fails if allocations pass by the counter.
inline void check_allocations_are_counted() {
  const long before = allocations;
  // No new expressions and no std::vector: a compiler may leave theirs out.
  void* const one = ::operator new(1);
  void* const several = ::operator new[](100);
  const buffer<float, cpu> aligned(100);
  ::operator delete(one);
  ::operator delete[](several);
  CHECK(aligned.count() == 100);
  CHECK(allocations - before == 3);
}

}  // namespace mtp::test
