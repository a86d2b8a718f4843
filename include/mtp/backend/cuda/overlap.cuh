// Which kernels may begin before the one in front of them has ended: programmatic dependent launch.
//
// A kernel that takes part begins with wait_for_previous_kernels() and then calls
// allow_next_kernel(). Before the wait it writes nothing and reads its constants only: weights. So
// at most two kernels run at a time: the next one is let in when all in front of this one have
// ended. Constants are what the kernel in front does not write; the host compares addresses. What
// has no place in the order (copies, other kernels, products of the library, recordings) takes the
// stream from the context, and the kernel behind it begins when it has ended.
#pragma once

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
  memory_range written[2] = {};
};

/// The kernel that was launched last, if it takes part and nothing else was submitted to the
/// stream.
class last_kernel {
 public:
  void set(const overlap& kernel) {
    written_[0] = kernel.written[0];
    written_[1] = kernel.written[1];
    takes_part_ = true;
  }
  void forget() { takes_part_ = false; }
  /// Whether a kernel with these constants may begin before this one has ended.
  bool allows(const memory_range& constants) const {
    return takes_part_ && !written_[0].overlaps(constants) && !written_[1].overlaps(constants);
  }

 private:
  bool takes_part_ = false;
  memory_range written_[2];
};

}  // namespace mtp::inline MTP_ABI::cuda_detail
