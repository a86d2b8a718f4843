// A steady training step asks for no memory: every allocation of this executable is counted.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "train/small_run.hpp"

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

namespace {

using namespace mtp;
using namespace mtp::test;

template <model_config Config>
void check_silent() {
  for (const int threads : {1, 2}) {
    INFO(std::string(name_of(Config.head)), ", ", threads, " threads");
    small_setup<Config> setup;
    setup.threads = threads;
    setup.options.accumulation = 2;
    small_run<Config> run(setup);
    run.advance(2);
    const long before = allocations;
    for (int step = 0; step < 3; ++step) {
      run.training.step();
    }
    const long after = allocations;
    CHECK(after - before == 0);
    CHECK(run.training.state().step == 5);
    CHECK(run.training.state().skipped == 0);
  }
}

}  // namespace

TEST_CASE("allocations of every kind are counted") {
  const long before = allocations;
  const auto one = std::make_unique<std::array<char, 1>>();
  const std::vector<int> several(100, 0);
  const buffer<float, cpu> aligned(100);
  CHECK(one != nullptr);
  CHECK(several.size() == 100);
  CHECK(aligned.count() == 100);
  CHECK(allocations - before == 3);
}

TEST_CASE("a steady step allocates nothing, whatever the head") {
  check_silent<tiny_config(head_kind::none, 0)>();
  check_silent<flipped_config(head_kind::sequential, 2)>();
  check_silent<tiny_config(head_kind::recurrent, 2)>();
  check_silent<tiny_config(head_kind::parallel, 2)>();
  check_silent<tiny_config(head_kind::independent, 2)>();
  check_silent<tiny_config(head_kind::shared_logit, 2)>();
}

TEST_CASE("a skipped step allocates nothing") {
  small_run<tiny_config(head_kind::none, 0)> run;
  run.advance(2);
  const long before = allocations;
  const bool skipped = run.poisoned_step().skipped;
  const long after = allocations;
  CHECK(skipped);
  CHECK(after - before == 0);
}
