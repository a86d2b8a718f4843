// Threads as the ranks that compute one model together, with contexts of one GPU, or of an
// emulation. What they exchange goes through the host, so a machine with one GPU has several ranks;
// it cannot be recorded in a graph. To be included behind support/cuda_cases.hpp.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "mtp/backend/cuda.cuh"
// The backend comes before what is made for it.
#include "mtp/distributed/tensor_ranks.hpp"
#include "mtp/distributed/thread_ranks.hpp"
#include "support/ranks_of_backend.hpp"
#include "support/staged.hpp"

namespace mtp::test {

/// A cuda_tensor_group over threads.
class copied_tensor_ranks final : public cuda_tensor_group {
 public:
  copied_tensor_ranks(cuda_context& context,
                      thread_communicator& group,
                      reduction_order order = reduction_order::by_rank)
      : cuda_tensor_group(group.rank(), group.size()),
        context_(&context),
        group_(&group),
        hosts_(group),
        order_(order) {}

  cudaStream_t stream() const override { return context_->stream(); }
  reduction_order order() const override { return order_; }
  void all_gather(std::byte* whole, index_t total, index_t unit) override {
    hosts_.all_gather(whole, total, unit);
  }
  void device_gather(const std::byte* own, std::byte* blocks, index_t bytes) override {
    room all(static_cast<std::size_t>(size() * bytes));
    download(all.data() + rank() * bytes, own, bytes);
    hosts_.all_gather(all.data(), size() * bytes, bytes);
    upload(blocks, all.data(), size() * bytes);
  }
  void device_all_gather(std::byte* whole, index_t total, index_t unit) override {
    const shards parts(total, size(), unit);
    const index_t begin = parts.begin(rank());
    room all(static_cast<std::size_t>(total));
    download(all.data() + begin, whole + begin, parts.size(rank()));
    hosts_.all_gather(all.data(), total, unit);
    upload(whole, all.data(), total);
  }
  void device_exchange(const std::byte* whole,
                       std::byte* received,
                       index_t total,
                       index_t unit) override {
    const index_t own = shards(total, size(), unit).size(rank());
    room sent(static_cast<std::size_t>(total)), got(static_cast<std::size_t>(size() * own));
    download(sent.data(), whole, total);
    hosts_.exchange(sent.data(), got.data(), total, unit);
    for (int from = 0; from < size(); ++from) {
      if (from != rank()) upload(received + from * own, got.data() + from * own, own);
    }
  }
  void device_sum(float* values, index_t count) override { sum(values, count); }
  void device_sum(double* values, index_t count) override { sum(values, count); }
  void device_sum(bf16* values, index_t count) override { sum(values, count); }

 private:
  using room = std::vector<std::byte>;

  void download(std::byte* to, const std::byte* from, index_t bytes) {
    copy(to, from, bytes, cudaMemcpyDeviceToHost);
  }
  void upload(std::byte* to, const std::byte* from, index_t bytes) {
    copy(to, from, bytes, cudaMemcpyHostToDevice);
  }
  /// Waits, and leaves what kernels have reported to the context's next synchronization.
  void copy(std::byte* to, const std::byte* from, index_t bytes, cudaMemcpyKind kind) {
    if (bytes == 0) return;
    cuda_detail::check_cuda(
        cudaMemcpyAsync(to, from, static_cast<std::size_t>(bytes), kind, stream()), "ranks");
    cuda_detail::check_cuda(cudaStreamSynchronize(stream()), "ranks");
  }
  template <class S>
  void sum(S* values, index_t count) {
    std::vector<S> stored(static_cast<std::size_t>(count));
    const auto bytes = static_cast<index_t>(sizeof(S)) * count;
    download(reinterpret_cast<std::byte*>(stored.data()),
             reinterpret_cast<const std::byte*>(values),
             bytes);
    std::vector<accumulate_t<S>> wide(stored.begin(), stored.end());
    group_->all_reduce(std::span(wide), reduction::sum);
    for (std::size_t i = 0; i < wide.size(); ++i) stored[i] = static_cast<S>(wide[i]);
    upload(reinterpret_cast<std::byte*>(values),
           reinterpret_cast<const std::byte*>(stored.data()),
           bytes);
  }

  cuda_context* context_;
  thread_communicator* group_;
  tensor_ranks<thread_communicator> hosts_;
  reduction_order order_;
};

template <>
struct joined_ranks<staged> {
  static constexpr int thread_counts[] = {1};

  template <class Body>
  static void with(thread_communicator& group, int, index_t workspace_bytes, const Body& body) {
    staged_context context({.workspace_bytes = workspace_bytes, .product_bytes = 1 << 16});
    copied_tensor_ranks joined(context, group);
    context.join(joined);
    body(context);
  }
};

}  // namespace mtp::test
