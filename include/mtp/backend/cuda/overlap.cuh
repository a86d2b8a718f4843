// Which kernels may begin before the previous one has ended: programmatic dependent launch.
//
// An overlapping kernel begins with allow_next_kernel() and wait_for_previous_kernels(). Before the
// wait it writes nothing and reads only its constants, the weights. Several such kernels can have
// begun and wait for one another. After its wait, a kernel knows that all previous ones have ended,
// because each ends after its own wait. Its constants are memory that no kernel which may still run
// writes; the host compares addresses. Other work (copies, other kernels, products of the library,
// recordings) takes the stream from the context, and the kernel after it begins when it has ended.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

#include "mtp/backend/cuda/errors.cuh"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Does nothing. Serves to ask whether a device can run any kernel.
template <int Block>
__global__ void __launch_bounds__(Block) idle_kernel() {}

/// Whether kernels were compiled for compute capability 9.0 or newer, which has the instructions.
/// Code for older ones also runs on newer GPUs but would not wait.
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

/// The memory that an overlapping kernel reads ahead, and the memory that it writes, which others
/// may take for constants.
struct overlap {
  memory_range constants{};
  memory_range written[4] = {};
};

/// The memory written by kernels that may not have ended when the next one begins early: the
/// overlapping ones, starting with the last one that began in order, if nothing else was submitted
/// since.
class unfinished_kernels {
 public:
  /// Adds a kernel.
  void add(const overlap& kernel) {
    begun_ = true;
    for (const memory_range& range : kernel.written) {
      if (range.begin != range.end) {
        keep(range);
      }
    }
  }
  /// Forgets all: they have ended, or the next kernel waits for them.
  void forget() {
    count_ = 0;
    begun_ = is_full_ = false;
  }
  /// Whether a kernel with these constants may begin beside the unfinished ones.
  bool allow(const memory_range& constants) const {
    return begun_ && !is_full_ && std::none_of(written_, written_ + count_, [&](const auto& range) {
             return range.overlaps(constants);
           });
  }

 private:
  /// Parts of one allocation are at most this far apart, and may count as one range.
  static constexpr std::uintptr_t gap = 256;
  /// The activations of a pass and the caches of a model are a few ranges for any number of layers.
  /// With more ranges, the next kernel begins in order, and all are forgotten.
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
