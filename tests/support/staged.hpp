// The CUDA backend as tests of operations use it: operands that the host reads and writes, and a
// copy of each in device memory, which is what kernels see, as in a model.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "mtp/backend/cuda.cuh"
#include "mtp/ops/sequence.hpp"
#include "mtp/ops/tree.hpp"

namespace mtp::test {

/// The tag of this backend. Its operations are those of mtp::cuda on the copies. An argument of
/// theirs that nothing here translates does not convert to what CUDA's operation takes, so none
/// gets an address of the host.
struct staged {};

/// Memory of the host, each piece with its copy on the device, which is made when an operation
/// first takes some of it. Both begin at multiples of 256: a view lies as it would in a model.
/// Threads that are ranks may share pieces that none of them writes.
class staged_memory {
 public:
  struct piece {
    std::byte* host;
    std::size_t bytes;
    std::byte* device = nullptr;
  };
  using pieces = std::set<const piece*>;

  static staged_memory& all() {
    static staged_memory memory;
    return memory;
  }

  void* allocate(std::size_t bytes) {
    auto* const host = static_cast<std::byte*>(::operator new(bytes, alignment));
    const std::lock_guard lock(guard_);
    pieces_.emplace(address_of(host), piece{host, bytes});
    return host;
  }
  void deallocate(void* host) {
    const std::lock_guard lock(guard_);
    const auto found = pieces_.find(address_of(host));
    cuda_detail::deallocate(found->second.device);
    pieces_.erase(found);
    ::operator delete(host, alignment);
  }

  /// The address on the device; whose piece it is becomes one of `used`.
  template <class Element>
  Element* on_device(Element* host, pieces& used) {
    if (host == nullptr) {
      return nullptr;
    }
    const std::lock_guard lock(guard_);
    const auto behind = pieces_.upper_bound(address_of(host));
    check(behind != pieces_.begin(), "staged: the operand was not allocated by testing<staged>");
    piece& found = std::prev(behind)->second;
    const std::uintptr_t offset = address_of(host) - address_of(found.host);
    check(offset <= found.bytes, "staged: the operand was not allocated by testing<staged>");
    if (found.device == nullptr && found.bytes > 0) {
      found.device = static_cast<std::byte*>(cuda_detail::allocate(found.bytes));
    }
    used.insert(&found);
    return reinterpret_cast<Element*>(found.device + offset);
  }

 private:
  static constexpr std::align_val_t alignment{256};

  static std::uintptr_t address_of(const void* address) {
    return reinterpret_cast<std::uintptr_t>(address);
  }

  std::mutex guard_;
  std::map<std::uintptr_t, piece> pieces_;  // by their beginning on the host
};

/// A cuda_context whose operations take operands of testing<staged>.
class staged_context : public cuda_context {
 public:
  using cuda_context::cuda_context;

  /// function(the same arguments on the device), between copies of the pieces that they belong to:
  /// whole ones, so that what is written outside of a view shows. The host may read them when it
  /// returns; faults stay to be reported by synchronize(). Within a recording nothing is copied.
  template <class Function, class... Arguments>
  void on_device(const Function& function, const Arguments&... arguments) {
    staged_memory::pieces used;
    const auto call = [&](const auto&... translated) {
      if (is_recording()) {
        function(translated...);
      } else {
        between_copies(used, [&] { function(translated...); });
      }
    };
    call(translate(arguments, used)...);
    seen_.insert(used.begin(), used.end());
  }

  /// function(), between copies of `used`, also of what a failed operation has left.
  template <class Function>
  void between_copies(const staged_memory::pieces& used, const Function& function) {
    for (const auto* const piece : used) {
      copy(piece->device, piece->host, piece->bytes, cudaMemcpyHostToDevice);
    }
    try {
      function();
    } catch (...) {
      try {
        download(used);
      } catch (const mtp::error&) {  // the device has failed: the first error says more
      }
      throw;
    }
    download(used);
  }

  /// The pieces that operations have been given since the last call.
  staged_memory::pieces take_seen() { return std::exchange(seen_, {}); }

  /// An argument of an operation as the device gets it; pieces that it belongs to are added.
  template <class Argument>
  static const Argument& translate(const Argument& argument, staged_memory::pieces&) {
    return argument;
  }
  template <class Element, class Shape>
  static view<Element, Shape, cuda> translate(const view<Element, Shape, staged>& x,
                                              staged_memory::pieces& used) {
    return {staged_memory::all().on_device(x.data(), used), x.shape(), x.strides()};
  }
  template <class Element>
  static weight_view<Element, cuda> translate(const weight_view<Element, staged>& w,
                                              staged_memory::pieces& used) {
    return {staged_memory::all().on_device(w.data, used), w.outputs, w.inputs};
  }
  template <class Element>
  static cache_view<Element, cuda> translate(const cache_view<Element, staged>& cache,
                                             staged_memory::pieces& used) {
    return {staged_memory::all().on_device(cache.data, used),
            cache.capacity,
            cache.num_key_value_heads,
            cache.head_dim,
            cache.slots,
            cache.slot_stride};
  }
  template <class Element>
  static latent_cache_view<Element, cuda> translate(const latent_cache_view<Element, staged>& cache,
                                                    staged_memory::pieces& used) {
    return {staged_memory::all().on_device(cache.data, used),
            cache.capacity,
            cache.width,
            cache.slots,
            cache.slot_stride};
  }
  static sequence_view<cuda> translate(const sequence_view<staged>& text,
                                       staged_memory::pieces& used) {
    const auto& rule = text.rule;
    return {translate(text.tokens, used),
            translate(text.state, used),
            {translate(rule.integers, used),
             translate(rule.reals, used),
             translate(rule.stop_tokens, used),
             translate(rule.bias, used)},
            text.slot,
            {translate(text.tree.parents, used), translate(text.tree.path, used)}};
  }
  static std::vector<row_run> translate(const std::span<const row_run>& runs,
                                        staged_memory::pieces& used) {
    std::vector<row_run> all(runs.begin(), runs.end());
    for (row_run& run : all) {
      run.parents = staged_memory::all().on_device(run.parents, used);
    }
    return all;
  }

 private:
  bool is_recording() const {
    cudaStreamCaptureStatus status{};
    cuda_detail::check_cuda(cudaStreamIsCapturing(stream(), &status), "staged");
    return status != cudaStreamCaptureStatusNone;
  }

  void download(const staged_memory::pieces& used) {
    for (const auto* const piece : used) {
      copy(piece->host, piece->device, piece->bytes, cudaMemcpyDeviceToHost);
    }
    cuda_detail::check_cuda(cudaStreamSynchronize(stream()), "staged");
  }

  void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    if (bytes > 0) {
      cuda_detail::check_cuda(cudaMemcpyAsync(to, from, bytes, kind, stream()), "staged");
    }
  }

  staged_memory::pieces seen_;
};

/// A recording of operations on operands of testing<staged>. They are known when the operations
/// have run once, which is before they are recorded.
class staged_recording {
 public:
  template <class Function>
  void replay(staged_context& context, const Function& function) {
    context.take_seen();
    context.between_copies(operands_, [&] { recording_.replay(context, function); });
    operands_.merge(context.take_seen());
  }

 private:
  cuda_detail::recording recording_;
  staged_memory::pieces operands_;
};

/// The operations of mtp::cuda, each on the copies of its operands.
struct staged_ops : private backend_traits<cuda>::ops {
  using device_ops = backend_traits<cuda>::ops;
  using device_ops::attention_workspace;
  using device_ops::best_tokens_workspace;
  using device_ops::choose_tokens_workspace;
  using device_ops::embedding_workspace;
  using device_ops::kv_storage;
  using device_ops::linear_cross_entropy_workspace;
  using device_ops::predict_workspace;
  using device_ops::sharded_combine_workspace;
  using device_ops::sharded_cross_entropy_workspace;
  using device_ops::sharded_embedding_workspace;
  using device_ops::sharded_linear_workspace;
  using device_ops::sum_over_ranks_workspace;

// Takes what CUDA's operation of this name takes.
#define MTP_STAGED_OPERATION(name)                                                               \
  template <class... Arguments>                                                                  \
  requires requires(cuda_context & c, staged_memory::pieces & u, const Arguments&... x) {        \
    device_ops::name(c, staged_context::translate(x, u)...);                                     \
  }                                                                                              \
  static void name(staged_context& context, const Arguments&... arguments) {                     \
    context.on_device([&](const auto&... x) { device_ops::name(context, x...); }, arguments...); \
  }
  MTP_STAGED_OPERATION(fill)
  MTP_STAGED_OPERATION(copy)
  MTP_STAGED_OPERATION(add)
  MTP_STAGED_OPERATION(subtract)
  MTP_STAGED_OPERATION(multiply)
  MTP_STAGED_OPERATION(divide)
  MTP_STAGED_OPERATION(scale)
  MTP_STAGED_OPERATION(axpy)
  MTP_STAGED_OPERATION(transform)
  MTP_STAGED_OPERATION(broadcast_add)
  MTP_STAGED_OPERATION(where)
  MTP_STAGED_OPERATION(sum)
  MTP_STAGED_OPERATION(mean)
  MTP_STAGED_OPERATION(maximum)
  MTP_STAGED_OPERATION(minimum)
  MTP_STAGED_OPERATION(argmax)
  MTP_STAGED_OPERATION(softmax_forward)
  MTP_STAGED_OPERATION(softmax_backward)
  MTP_STAGED_OPERATION(matmul)
  MTP_STAGED_OPERATION(linear_forward)
  MTP_STAGED_OPERATION(linear_bias_forward)
  MTP_STAGED_OPERATION(linear_add_forward)
  MTP_STAGED_OPERATION(linear_backward_input)
  MTP_STAGED_OPERATION(linear_add_backward_input)
  MTP_STAGED_OPERATION(linear_backward_weight)
  MTP_STAGED_OPERATION(linear_backward_bias)
  MTP_STAGED_OPERATION(head_linear_forward)
  MTP_STAGED_OPERATION(head_linear_backward_input)
  MTP_STAGED_OPERATION(grouped_linear_forward)
  MTP_STAGED_OPERATION(grouped_linear_backward_input)
  MTP_STAGED_OPERATION(grouped_linear_backward_weight)
  MTP_STAGED_OPERATION(route)
  MTP_STAGED_OPERATION(route_backward)
  MTP_STAGED_OPERATION(sequence_balance_backward)
  MTP_STAGED_OPERATION(group_rows)
  MTP_STAGED_OPERATION(add_group_sizes)
  MTP_STAGED_OPERATION(gather_rows)
  MTP_STAGED_OPERATION(scatter_rows)
  MTP_STAGED_OPERATION(scatter_rows_backward)
  MTP_STAGED_OPERATION(rms_norm_forward)
  MTP_STAGED_OPERATION(rms_norm_backward)
  MTP_STAGED_OPERATION(rope_forward)
  MTP_STAGED_OPERATION(rope_backward)
  MTP_STAGED_OPERATION(swiglu_forward)
  MTP_STAGED_OPERATION(swiglu_backward)
  MTP_STAGED_OPERATION(silu_residual_forward)
  MTP_STAGED_OPERATION(silu_residual_backward)
  MTP_STAGED_OPERATION(attention_forward)
  MTP_STAGED_OPERATION(attention_backward)
  MTP_STAGED_OPERATION(attention_cached_forward)
  MTP_STAGED_OPERATION(rope_attention_forward)
  MTP_STAGED_OPERATION(rope_attention_backward)
  MTP_STAGED_OPERATION(rope_attention_cached_forward)
  MTP_STAGED_OPERATION(latent_attention_cached_forward)
  MTP_STAGED_OPERATION(combine_forward)
  MTP_STAGED_OPERATION(combine_backward)
  MTP_STAGED_OPERATION(embedding_forward)
  MTP_STAGED_OPERATION(embedding_backward)
  MTP_STAGED_OPERATION(linear_cross_entropy)
  MTP_STAGED_OPERATION(linear_cross_entropy_forward)
  MTP_STAGED_OPERATION(sum_over_ranks)
  MTP_STAGED_OPERATION(sharded_embedding_forward)
  MTP_STAGED_OPERATION(sharded_embedding_backward)
  MTP_STAGED_OPERATION(sharded_combine_forward)
  MTP_STAGED_OPERATION(sharded_combine_backward)
  MTP_STAGED_OPERATION(sharded_linear_forward)
  MTP_STAGED_OPERATION(sharded_cross_entropy)
  MTP_STAGED_OPERATION(sharded_cross_entropy_forward)
  MTP_STAGED_OPERATION(predict)
  MTP_STAGED_OPERATION(sum_of_squares)
  MTP_STAGED_OPERATION(adamw_update)
  MTP_STAGED_OPERATION(fill_normal)
  MTP_STAGED_OPERATION(select_rows)
  MTP_STAGED_OPERATION(store_rows)
  MTP_STAGED_OPERATION(load_rows)
  MTP_STAGED_OPERATION(append_drafts)
  MTP_STAGED_OPERATION(accept_drafts)
  MTP_STAGED_OPERATION(grow_tree)
  MTP_STAGED_OPERATION(accept_tree)
  MTP_STAGED_OPERATION(keep_path)
  MTP_STAGED_OPERATION(exclude_tokens)
  MTP_STAGED_OPERATION(choose_tokens)
  MTP_STAGED_OPERATION(token_log_probabilities)
  MTP_STAGED_OPERATION(best_tokens)
  MTP_STAGED_OPERATION(draw_drafts)
  MTP_STAGED_OPERATION(reject_drafts)
  MTP_STAGED_OPERATION(accept_typical)
#undef MTP_STAGED_OPERATION
};

}  // namespace mtp::test

namespace mtp::inline MTP_ABI {

/// Elements lie as mtp::cuda wants them. Checks that need the host to read operands are left to
/// the device, as they are there.
template <>
struct backend_traits<test::staged> : backend_traits<cuda> {
  using context = test::staged_context;
  using ops = test::staged_ops;

  // What operations give as tensors is staged as well.
  static void* allocate(std::size_t bytes) {
    return std::memset(test::staged_memory::all().allocate(bytes), 0, bytes);
  }
  static void deallocate(void* memory, std::size_t) {
    test::staged_memory::all().deallocate(memory);
  }
  static void copy_from_host(void* to, const void* from, std::size_t bytes) {
    if (bytes > 0) {  // nothing may have no address
      std::memcpy(to, from, bytes);
    }
  }
  static void copy_to_host(void* to, const void* from, std::size_t bytes) {
    copy_from_host(to, from, bytes);
  }
};

}  // namespace mtp::inline MTP_ABI
