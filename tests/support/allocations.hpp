// Counts the allocations of an executable by replacing operator new. To be included by one file of
// an executable.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/tensor.hpp"

namespace {

std::atomic<long> allocations{0};

void* counted(std::size_t bytes, std::size_t alignment) {
  ++allocations;
  return std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
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
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory,
                                       std::align_val_t,
                                       const std::nothrow_t&) noexcept {
  std::free(memory);
}

namespace mtp::test {

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
