// The CPU backend: threads, Eigen's vector packets, and products that give each row the same bits
// however many rows there are. See docs/numerics.md.
#pragma once

#include <cstddef>
#include <cstring>

#include "mtp/backend/cpu/abi.hpp"
#include "mtp/backend/cpu/attention.hpp"
#include "mtp/backend/cpu/combine.hpp"
#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/elementwise.hpp"
#include "mtp/backend/cpu/embedding.hpp"
#include "mtp/backend/cpu/linear.hpp"
#include "mtp/backend/cpu/linear_cross_entropy.hpp"
#include "mtp/backend/cpu/mailbox.hpp"
#include "mtp/backend/cpu/matmul.hpp"
#include "mtp/backend/cpu/optimizer.hpp"
#include "mtp/backend/cpu/reduce.hpp"
#include "mtp/backend/cpu/rms_norm.hpp"
#include "mtp/backend/cpu/rope.hpp"
#include "mtp/backend/cpu/rope_attention.hpp"
#include "mtp/backend/cpu/sequence.hpp"
#include "mtp/backend/cpu/softmax.hpp"
#include "mtp/backend/cpu/swiglu.hpp"
#include "mtp/backend/cpu/weight_layout.hpp"
#include "mtp/core/backend.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI {

/// The tag that chooses this backend: `language_model<config, mtp::cpu>`.
struct cpu {};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI

namespace mtp::inline MTP_ABI {

/// What the library asks of a backend, answered for the CPU; see the primary template.
template <>
struct backend_traits<cpu> {
  /// Threads and workspace memory.
  using context = cpu_context;

  /// The operations, one base for each header of backend/cpu/.
  struct ops : cpu_detail::cpu_elementwise_ops,
               cpu_detail::cpu_reduce_ops,
               cpu_detail::cpu_softmax_ops,
               cpu_detail::cpu_matmul_ops,
               cpu_detail::cpu_linear_ops,
               cpu_detail::cpu_rms_norm_ops,
               cpu_detail::cpu_rope_ops,
               cpu_detail::cpu_swiglu_ops,
               cpu_detail::cpu_attention_ops,
               cpu_detail::cpu_rope_attention_ops,
               cpu_detail::cpu_combine_ops,
               cpu_detail::cpu_embedding_ops,
               cpu_detail::cpu_linear_cross_entropy_ops,
               cpu_detail::cpu_optimizer_ops,
               cpu_detail::cpu_sequence_ops {};
  /// The host has computed a letter when it is posted: a copy.
  using mailbox = cpu_detail::mailbox;
  /// Operations cost nothing to give: replay gives them.
  using recording = cpu_detail::recording;

  /// The host reads and writes the elements.
  static constexpr bool is_host_memory = true;
  /// Rows of a prompt that a pass takes.
  static constexpr index_t prefill_rows = 64;
  /// No cycle is given before the one before it was read: the host computes.
  static constexpr index_t cycles_ahead = 0;

  /// Zeroed memory. Throws mtp::error when there is none.
  static void* allocate(std::size_t bytes) { return cpu_detail::allocate(bytes); }
  /// Gives back what allocate gave.
  static void deallocate(void* memory, std::size_t bytes) { cpu_detail::deallocate(memory, bytes); }
  /// `bytes` bytes from the host into the backend's memory.
  static void copy_from_host(void* to, const void* from, std::size_t bytes) {
    if (bytes > 0) {
      std::memcpy(to, from, bytes);
    }
  }
  /// `bytes` bytes from the backend's memory to the host.
  static void copy_to_host(void* to, const void* from, std::size_t bytes) {
    copy_from_host(to, from, bytes);
  }
  /// Bytes in.
  static void upload(context&, void* to, const void* from, std::size_t bytes) {
    copy_from_host(to, from, bytes);
  }
  /// Bytes out.
  static void download(context&, void* to, const void* from, std::size_t bytes) {
    copy_from_host(to, from, bytes);
  }
  /// Nothing to wait for: operations have ended when they return.
  static void synchronize(context&) {}

  /// Elements of storage, padding included; backend/cpu/weight_layout.hpp has the layout.
  template <scalar S>
  static constexpr index_t weight_storage(index_t outputs, index_t inputs) {
    return cpu_detail::weight_storage<S>(outputs, inputs);
  }
  /// Where element (output, input) lies within them.
  template <scalar S>
  static constexpr index_t weight_offset(index_t output,
                                         index_t input,
                                         index_t outputs,
                                         index_t inputs) {
    return cpu_detail::weight_offset<S>(output, input, outputs, inputs);
  }
};

static_assert(backend<cpu>);

}  // namespace mtp::inline MTP_ABI
