// Which kernels may begin before the one in front of them has ended: programmatic dependent launch.
//
// A kernel that takes part begins with allow_next_kernel() and wait_for_previous_kernels(). Before
// the wait it writes nothing and reads its constants only: weights. Several kernels can have begun
// and wait for one another in a row; behind its wait, a kernel finds that all in front of it have
// ended, because each ends behind its own wait. Constants are what none of those writes that may
// still run; the host compares addresses. What has no place in the order (copies, other kernels,
// products of the library, recordings) takes the stream from the context, and the kernel behind it
// begins when it has ended.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

#include "mtp/backend/cuda/errors.cuh"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Does nothing. Stands for all kernels where the question is whether a device can run any.
template <int Block>
__global__ void __launch_bounds__(Block) idle_kernel() {}

/// Whether kernels were compiled for compute capability 9.0 or newer, which has the instructions:
/// code for older ones runs on newer GPUs as well, and would not wait.
inline bool kernels_can_overlap() {
  cudaFuncAttributes attributes{};
  check_cuda(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(idle_kernel<1>)),
             "cuda_context");
  return attributes.ptxVersion >= 90;
}

/// Addresses [begin, end).
struct memory_range {
  const void* begin = nullptr;
  const void* end = nullptr;

  bool overlaps(const memory_range& other) const {
    const std::less<const void*> before;
    return before(begin, other.end) && before(other.begin, end);
  }
};

/// From the first element of a view to its last one; strides are not negative.
template <class Element, class Shape, class Backend>
memory_range range_of(const view<Element, Shape, Backend>& x) {
  if (x.data() == nullptr || x.empty()) {
    return {};
  }
  index_t last = 0;
  for (int d = 0; d < Shape::rank; ++d) {
    last += (x.extent(d) - 1) * x.stride(d);
  }
  return {x.data(), x.data() + last + 1};
}

/// What a kernel that takes part reads ahead, and what it writes that others may take for
/// constants.
struct overlap {
  memory_range constants{};
  memory_range written[4] = {};
};

/// What is written by kernels that may not have ended when the next one begins early: those that
/// take part, from the last one on that began in order, if nothing else was submitted since.
class unfinished_kernels {
 public:
  /// One more of them.
  void add(const overlap& kernel) {
    begun_ = true;
    for (const memory_range& range : kernel.written) {
      if (range.begin != range.end) {
        keep(range);
      }
    }
  }
  /// All have ended, or the next kernel will wait for them.
  void forget() {
    count_ = 0;
    begun_ = is_full_ = false;
  }
  /// Whether a kernel with these constants may begin beside them.
  bool allow(const memory_range& constants) const {
    return begun_ && !is_full_ && std::none_of(written_, written_ + count_, [&](const auto& range) {
             return range.overlaps(constants);
           });
  }

 private:
  /// Parts of one allocation lie at most so far apart: they may count as one.
  static constexpr std::uintptr_t gap = 256;
  /// The activations of a pass and the caches of a model are a few ranges, however many layers
  /// there are. With more of them the next kernel begins in order, and all are forgotten.
  static constexpr int most = 32;

  static std::uintptr_t address(const void* memory) {
    return reinterpret_cast<std::uintptr_t>(memory);
  }

  void keep(const memory_range& range) {
    for (memory_range* known = written_; known != written_ + count_; ++known) {
      if (address(range.begin) <= address(known->end) + gap &&
          address(known->begin) <= address(range.end) + gap) {
        known->begin = std::min(known->begin, range.begin, std::less<const void*>());
        known->end = std::max(known->end, range.end, std::less<const void*>());
        return;
      }
    }
    is_full_ = is_full_ || count_ == most;
    if (!is_full_) {
      written_[count_++] = range;
    }
  }

  memory_range written_[most];
  int count_ = 0;
  bool begun_ = false;
  bool is_full_ = false;
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
