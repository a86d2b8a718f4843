// The GPUs of a communicator of NCCL as ranks that compute one model together. Needs the component
// mtp::nccl.
#pragma once

#include <cstddef>
#include <span>

#include "mtp/backend/cuda.cuh"
// The backend comes before what is made for it.
#include "mtp/core/reduction_order.hpp"
#include "mtp/distributed/host_collectives.hpp"
#include "mtp/distributed/nccl.cuh"
#include "mtp/distributed/shards.hpp"

namespace mtp::inline MTP_ABI {

/// A tensor_group whose ranks are those of a communicator of GPUs, which must outlive it. All are
/// submitted to the stream of the communicator's context, which is the one that joins:
///
///     mtp::cuda_context context({.device = local_rank});
///     mtp::nccl_communicator group(context, hosts);
///     mtp::nccl_tensor_ranks ranks(group);
///     context.join(ranks);
///     mtp::language_model<mtp::tensor_parallel(config, 2), mtp::cuda> model(context,
///     mtp::seed{42});
///
/// Sums are added in the order of ranks by the library, or, if asked for, in NCCL's own, which may
/// be another one for another number of rows: a row's bits may then depend on its company, and
/// drafts may change logits. Throws mtp::error as the communicator does.
class nccl_tensor_ranks final : public cuda_tensor_group {
 public:
  /// The ranks of `group`.
  explicit nccl_tensor_ranks(nccl_communicator& group,
                             reduction_order order = reduction_order::by_rank)
      : cuda_tensor_group(group.rank(), group.size()), group_(&group), order_(order) {}

  cudaStream_t stream() const override { return group_->context().stream(); }
  reduction_order order() const override { return order_; }

  /// Waits for what was submitted before; the values of the host go through memory of the GPU.
  void all_gather(std::byte* whole, index_t total, index_t unit) override {
    host_.all_gather(group_->context(), *group_, bytes(whole, total), shards(total, size(), unit));
  }
  void device_gather(const std::byte* own, std::byte* blocks, index_t count) override {
    group_->gather(bytes(own, count), bytes(blocks, size() * count));
  }
  void device_all_gather(std::byte* whole, index_t total, index_t unit) override {
    group_->all_gather(bytes(whole, total), shards(total, size(), unit));
  }
  void device_exchange(const std::byte* whole,
                       std::byte* received,
                       index_t total,
                       index_t unit) override {
    const shards parts(total, size(), unit);
    group_->exchange(bytes(whole, total), bytes(received, size() * parts.size(rank())), parts);
  }
  void device_sum(float* values, index_t count) override { sum(values, count); }
  void device_sum(double* values, index_t count) override { sum(values, count); }
  void device_sum(bf16* values, index_t count) override { sum(values, count); }

 private:
  template <class T>
  static std::span<T> bytes(T* first, index_t count) {
    return {first, static_cast<std::size_t>(count)};
  }
  template <class S>
  void sum(S* values, index_t count) {
    group_->all_reduce(bytes(values, count), reduction::sum);
  }

  nccl_communicator* group_;
  reduction_order order_;
  detail::host_collectives<cuda, nccl_communicator> host_;
};

}  // namespace mtp::inline MTP_ABI
