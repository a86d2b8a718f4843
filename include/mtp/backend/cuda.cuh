// The CUDA backend: hand-written kernels for NVIDIA GPUs from compute capability 8.0 on, large
// products by cuBLASLt. For files that nvcc compiles. See docs/numerics.md for what it promises.
#pragma once

#if !defined(__CUDACC__) && __has_include(<cuda_runtime.h>)
#include <cuda_runtime.h>  // an emulation says that it is one
#endif
#if !defined(__CUDACC__) && !defined(MTP_CUDA_EMULATION)
#error mtp/backend/cuda.cuh: this header holds device code; compile the file that includes it with nvcc, as CUDA.
#endif

#include <cstddef>

#include "mtp/backend/cuda/accept_typical.cuh"
#include "mtp/backend/cuda/attention.cuh"
#include "mtp/backend/cuda/best_tokens.cuh"
#include "mtp/backend/cuda/choose_tokens.cuh"
#include "mtp/backend/cuda/combine.cuh"
#include "mtp/backend/cuda/context.cuh"
#include "mtp/backend/cuda/elementwise.cuh"
#include "mtp/backend/cuda/embedding.cuh"
#include "mtp/backend/cuda/expert_rows.cuh"
#include "mtp/backend/cuda/grouped_linear.cuh"
#include "mtp/backend/cuda/head_linear.cuh"
#include "mtp/backend/cuda/invariant_rows.cuh"
#include "mtp/backend/cuda/latent_attention.cuh"
#include "mtp/backend/cuda/linear.cuh"
#include "mtp/backend/cuda/linear_cross_entropy.cuh"
#include "mtp/backend/cuda/mailbox.cuh"
#include "mtp/backend/cuda/matmul.cuh"
#include "mtp/backend/cuda/memory.cuh"
#include "mtp/backend/cuda/optimizer.cuh"
#include "mtp/backend/cuda/random.cuh"
#include "mtp/backend/cuda/reduce.cuh"
#include "mtp/backend/cuda/reject_drafts.cuh"
#include "mtp/backend/cuda/rms_norm.cuh"
#include "mtp/backend/cuda/rope.cuh"
#include "mtp/backend/cuda/rope_attention.cuh"
#include "mtp/backend/cuda/route.cuh"
#include "mtp/backend/cuda/sequence.cuh"
#include "mtp/backend/cuda/sharded_cross_entropy.cuh"
#include "mtp/backend/cuda/sharded_embedding.cuh"
#include "mtp/backend/cuda/softmax.cuh"
#include "mtp/backend/cuda/sum_over_ranks.cuh"
#include "mtp/backend/cuda/swiglu.cuh"
#include "mtp/backend/cuda/tree.cuh"
#include "mtp/core/backend.hpp"

namespace mtp::inline MTP_ABI {

/// The tag that chooses this backend: `language_model<config, mtp::cuda>`.
struct cuda {};

/// The traits of the CUDA backend; see the primary template.
template <>
struct backend_traits<cuda> {
  /// A stream, workspace memory and the product library.
  using context = cuda_context;

  /// The operations, one base for each header of backend/cuda/.
  struct ops : cuda_detail::cuda_elementwise_ops,
               cuda_detail::cuda_reduce_ops,
               cuda_detail::cuda_softmax_ops,
               cuda_detail::cuda_matmul_ops,
               cuda_detail::cuda_linear_ops,
               cuda_detail::cuda_head_linear_ops,
               cuda_detail::cuda_rms_norm_ops,
               cuda_detail::cuda_rope_ops,
               cuda_detail::cuda_attention_ops,
               cuda_detail::cuda_rope_attention_ops,
               cuda_detail::cuda_latent_attention_ops,
               cuda_detail::cuda_swiglu_ops,
               cuda_detail::cuda_route_ops,
               cuda_detail::cuda_expert_rows_ops,
               cuda_detail::cuda_grouped_linear_ops,
               cuda_detail::cuda_combine_ops,
               cuda_detail::cuda_embedding_ops,
               cuda_detail::cuda_linear_cross_entropy_ops,
               cuda_detail::cuda_sum_over_ranks_ops,
               cuda_detail::cuda_sharded_embedding_ops,
               cuda_detail::cuda_sharded_cross_entropy_ops,
               cuda_detail::cuda_optimizer_ops,
               cuda_detail::cuda_random_ops,
               cuda_detail::cuda_sequence_ops,
               cuda_detail::cuda_tree_ops,
               cuda_detail::cuda_choose_tokens_ops,
               cuda_detail::cuda_reject_drafts_ops,
               cuda_detail::cuda_accept_typical_ops,
               cuda_detail::cuda_best_tokens_ops {};
  /// Reports are copied to page-locked memory of the host; an event tells when one is there.
  using mailbox = cuda_detail::mailbox;
  /// Operations that are submitted a second time become a graph, which replay launches from then
  /// on.
  using recording = cuda_detail::recording;

  /// The host cannot access the elements.
  static constexpr bool is_host_memory = false;
  /// Rows of a prompt in a pass.
  static constexpr index_t prefill_rows = 256;
  /// Operations take trees of drafts.
  static constexpr bool decodes_trees = true;
  /// Number of rows up to which operations of decoding give a row the same bits in any company.
  static constexpr index_t invariant_rows = cuda_detail::invariant_rows;
  /// Cycles submitted before the first one is read.
  static constexpr index_t cycles_ahead = 1;

  /// Zeroed memory. Throws mtp::error when memory runs out.
  static void* allocate(std::size_t bytes) { return cuda_detail::allocate(bytes); }
  /// Frees memory of allocate.
  static void deallocate(void* memory, std::size_t) { cuda_detail::deallocate(memory); }
  /// Copies `bytes` bytes from the host to the backend's memory, after everything submitted to any
  /// context.
  static void copy_from_host(void* to, const void* from, std::size_t bytes) {
    cuda_detail::copy_behind_everything(
        to, from, bytes, cudaMemcpyHostToDevice, "cuda: copy_from_host");
  }
  /// Copies `bytes` bytes from the backend's memory to the host, after everything submitted to any
  /// context.
  static void copy_to_host(void* to, const void* from, std::size_t bytes) {
    cuda_detail::copy_behind_everything(
        to, from, bytes, cudaMemcpyDeviceToHost, "cuda: copy_to_host");
  }
  /// Copies bytes in, in order with the operations submitted to the context.
  static void upload(context& context, void* to, const void* from, std::size_t bytes) {
    if (bytes > 0) {
      cuda_detail::check_cuda(
          cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, context.stream()),
          "cuda: upload");
    }
  }
  /// Copies bytes out after the operations submitted; they have arrived when it returns.
  static void download(context& context, void* to, const void* from, std::size_t bytes) {
    if (bytes > 0) {
      cuda_detail::check_cuda(
          cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, context.stream()),
          "cuda: download");
    }
    context.synchronize();
  }
  /// Waits for all operations submitted. Throws mtp::error if one of them failed.
  static void synchronize(context& context) { context.synchronize(); }

  /// Weights are stored row by row, as the product library and checkpoints need them.
  template <scalar S>
  static constexpr index_t weight_storage(index_t outputs, index_t inputs) {
    return outputs * inputs;
  }
  /// Index of element (output, input).
  template <scalar S>
  static constexpr index_t weight_offset(index_t output, index_t input, index_t, index_t inputs) {
    return output * inputs + input;
  }
};

static_assert(backend<cuda>);

}  // namespace mtp::inline MTP_ABI
