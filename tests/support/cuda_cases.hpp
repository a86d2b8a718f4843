// The cases that tests of operations go through with the CUDA backend, on a GPU or under emulation:
// to be included before <op>_test.hpp.
#pragma once

#include <cuda_runtime.h>

#include <string>
#include <tuple>

#include "mtp/backend/cuda.cuh"
#include "support/backends.hpp"

namespace mtp::test {

template <>
struct testing<cuda> {
  /// Page-locked memory, which the GPU reaches under the same address.
  static void* allocate(std::size_t bytes) {
    void* memory = nullptr;
    cuda_detail::check_cuda(cudaHostAlloc(&memory, bytes, cudaHostAllocMapped), "testing");
    return memory;
  }
  static void deallocate(void* memory, std::size_t) { static_cast<void>(cudaFreeHost(memory)); }
  static void settle() { cuda_detail::check_cuda(cudaDeviceSynchronize(), "testing"); }
  static cuda_context make_context(index_t workspace_bytes = 1 << 24) {
    return cuda_context({.workspace_bytes = workspace_bytes, .product_bytes = 1 << 16});
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
        cuda_context context = make_context();
        body(context, "run " + std::to_string(run));
      }
#if defined(MTP_CUDA_EMULATION)
      mtp::emulation::settings() = before;
#endif
    }
  }
};

#if MTP_EMULATION_TSAN || MTP_EMULATION_ASAN  // neither is defined on a GPU
// f64 runs the kernels of f32.
using cases = std::tuple<on<cuda, float>, on<cuda, bf16>>;
#else
using cases = std::tuple<on<cuda, float>, on<cuda, double>, on<cuda, bf16>>;
#endif
using one_case = std::tuple<on<cuda, float>>;  // where the element type does not matter

}  // namespace mtp::test
