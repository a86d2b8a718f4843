// The GPUs that compute one model together, as operations see them.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "mtp/core/reduction_order.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/tensor_group.hpp"

namespace mtp::inline MTP_ABI {

/// A tensor_group that carries what lies in memory of GPUs. Its calls are submitted to one stream,
/// like operations, and the host does not wait for them: all but all_gather, whose bytes are the
/// host's. They can be recorded in a graph.
class cuda_tensor_group : public tensor_group {
 public:
  /// Where calls are submitted: the stream of the context that joins.
  virtual cudaStream_t stream() const = 0;
  /// Who decides in which order sum_over_ranks adds.
  virtual reduction_order order() const = 0;

  /// Every rank brings `own` and gets those of all, in the order of ranks. `own` may stand at its
  /// place in `blocks`.  own [bytes], blocks [R, bytes]
  virtual void device_gather(const std::byte* own, std::byte* blocks, index_t bytes) = 0;
  /// all_gather of memory of the GPU.
  virtual void device_all_gather(std::byte* whole, index_t total, index_t unit) = 0;
  /// Every rank sends range r of `whole` to rank r. `received` has room for the ranges of this
  /// rank, one behind the other in the order of ranks; its own place is not written.  whole
  /// [total], received [R, bytes of the range]
  virtual void device_exchange(const std::byte* whole,
                               std::byte* received,
                               index_t total,
                               index_t unit) = 0;
  /// values (=) their sums over ranks, in an order of the engine's choice, the same bits on all.
  virtual void device_sum(float* values, index_t count) = 0;
  /// The same.
  virtual void device_sum(double* values, index_t count) = 0;
  /// The same; how often a sum is rounded to bf16 on its way is the engine's choice, too.
  virtual void device_sum(bf16* values, index_t count) = 0;

 protected:
  using tensor_group::tensor_group;
};

}  // namespace mtp::inline MTP_ABI
