// Generation in a steady state asks for no memory: every allocation of this executable is counted.
#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "support/decoding.hpp"

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
    cpu_context context({.threads = threads});
    language_model<Config, cpu> model(context, seed{1});
    make_perfect(model);
    add_noise(model, 0.05);
    add_head_noise(model, 0.3, 50);
    generator<Config, cpu> generator(context, model);
    const auto prompt = random_tokens(70, Config.vocab_size, 1);
    for (const auto mode : {decode_mode::plain, decode_mode::speculative}) {
      INFO(std::string(name_of(Config.head)),
           ", ",
           threads,
           " threads, mode ",
           static_cast<int>(mode));
      float sum = 0;
      index_t streamed = 0;
      auto options = options_of<float>(mode, Config.max_positions);
      options.stop = {{1, 2, 3, 4, 5, 6}};
      options.on_token = [&](token_t) { return ++streamed >= 0; };
      options.on_logits = [&](index_t, auto logits) { sum += logits(0); };
      generator.generate(prompt, options);
      const index_t before_streamed = streamed;
      const long before = allocations;
      const auto& result = generator.generate(prompt, options);
      const long after = allocations;
      CHECK(after - before == 0);
      CHECK(result.tokens.size() > 40);
      CHECK(streamed == 2 * before_streamed);
    }
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

TEST_CASE("a second call of generate allocates nothing") {
  check_silent<spoken_config(head_kind::none, 0)>();
  check_silent<spoken_config(head_kind::sequential, 2)>();
  check_silent<flipped_spoken_config(head_kind::recurrent, 3)>();
  check_silent<spoken_config(head_kind::parallel, 2)>();
  check_silent<spoken_config(head_kind::independent, 2)>();
}

TEST_CASE("steps of a decoder allocate nothing, the first one included") {
  constexpr auto config = flipped_spoken_config(head_kind::sequential, 2);
  cpu_context context({.threads = 2});
  language_model<config, cpu> model(context, seed{1});
  decoder<config, cpu> sequence(context, model);
  auto text = random_tokens(60, config.vocab_size, 1);
  const long before = allocations;
  sequence.prefill(std::span<const token_t>(text).first(40), true);
  sequence.drafter().advance(context, model, text, 41);
  sequence.drafter().rewind(41);
  sequence.drafter().draft(context, model, text, 41);
  sequence.step(std::span<const token_t>(text).subspan(40, 3), true);
  sequence.roll_back(41);
  sequence.reset();
  const long after = allocations;
  CHECK(after - before == 0);
}
