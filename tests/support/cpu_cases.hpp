// What tests need to know of the CPU backend, and the cases that tests of operations go through on
// it: to be included before <op>_test.hpp.
#pragma once

#include <cstddef>
#include <new>
#include <string>
#include <tuple>

#include "mtp/backend/cpu.hpp"
#include "support/backends.hpp"

namespace mtp::test {

template <>
struct testing<cpu> {
  static void* allocate(std::size_t bytes) {
    return ::operator new (bytes, std::align_val_t{arena_alignment});
  }
  static void deallocate(void* memory, std::size_t) {
    ::operator delete (memory, std::align_val_t{arena_alignment});
  }
  static void settle() {}
  static cpu_context make_context(index_t workspace_bytes = 1 << 24) {
    return cpu_context({.threads = 2, .workspace_bytes = workspace_bytes});
  }

  /// Without optimization, as sanitized tests are compiled, fewer ways must do.
#if defined(MTP_TEST_UNOPTIMIZED)
  static constexpr bool at_full_size = false;
  static constexpr int most_threads = 2;
#else
  static constexpr bool at_full_size = true;
  static constexpr int most_threads = 4;
#endif

  static constexpr bool at_all_sizes = at_full_size;

  template <class Body>
  static void each_way(const Body& body) {
    for (int threads = 1; threads <= most_threads; ++threads) {
      cpu_context context({.threads = threads});
      body(context, std::to_string(threads) + " threads");
    }
  }
};

using cases = std::tuple<on<cpu, float>, on<cpu, double>, on<cpu, bf16>>;
using one_case = std::tuple<on<cpu, float>>;  // where the element type does not matter

}  // namespace mtp::test
