// The cases that tests of operations go through with the CUDA backend, on a GPU or under emulation:
// to be included before <op>_test.hpp.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>

#include "support/backends.hpp"
#include "support/staged.hpp"

namespace mtp::test {

template <>
struct testing<staged> {
  static void* allocate(std::size_t bytes) { return staged_memory::all().allocate(bytes); }
  static void deallocate(void* memory, std::size_t) { staged_memory::all().deallocate(memory); }
  static void settle() {}  // operations have waited for the copies of their results
  static staged_context make_context(index_t workspace_bytes = 1 << 24) {
    return staged_context({.workspace_bytes = workspace_bytes, .product_bytes = 1 << 16});
  }

  /// Where a sanitizer looks at each access of each thread, accesses cost. One way shows what it
  /// looks for: what is unordered is so in any schedule.
#if MTP_EMULATION_TSAN || MTP_EMULATION_ASAN
  static constexpr int ways = 1;
  static constexpr bool at_full_size = false;
#else
  static constexpr int ways = 3;
  static constexpr bool at_full_size = true;
#endif

  static constexpr bool at_all_sizes = at_full_size;

  template <class Body>
  static void each_way(const Body& body) {
    for (int run = 0; run < ways; ++run) {
#if defined(MTP_CUDA_EMULATION)
      const mtp::emulation::options before = mtp::emulation::settings();
      mtp::emulation::options options = before;
      options.seed += static_cast<std::uint64_t>(run);
      options.copies =
          run % 2 == 0 ? mtp::emulation::copy_mode::deferred : mtp::emulation::copy_mode::eager;
      mtp::emulation::settings() = options;
#endif
      {
        staged_context context = make_context();
        body(context, "run " + std::to_string(run));
      }
#if defined(MTP_CUDA_EMULATION)
      mtp::emulation::settings() = before;
#endif
    }
  }
};

#if defined(MTP_CUDA_EMULATION)
/// body() once for each way in which the product library can say that it does not do a product, of
/// any matrices or of those that are not aligned to 16 bytes.
template <class Body>
void for_each_refusal(const Body& body) {
  using emulation::refusal;
  struct restore {
    emulation::options before = emulation::settings();
    ~restore() { emulation::settings() = before; }
  } const at_the_end;
  for (const std::uint32_t alignment : {0U, 16U}) {
    for (const refusal how :
         {refusal::not_supported, refusal::no_algorithm, refusal::bad_state, refusal::when_run}) {
      CAPTURE(alignment);
      CAPTURE(static_cast<int>(how));
      emulation::settings().product_alignment = alignment;
      emulation::settings().product_refusal = how;
      body();
    }
  }
}
#endif

#if MTP_EMULATION_TSAN || MTP_EMULATION_ASAN  // neither is defined on a GPU
// f64 runs the kernels of f32.
using cases = std::tuple<on<staged, float>, on<staged, bf16>>;
#else
using cases = std::tuple<on<staged, float>, on<staged, double>, on<staged, bf16>>;
#endif
using one_case = std::tuple<on<staged, float>>;  // where the element type does not matter

}  // namespace mtp::test
