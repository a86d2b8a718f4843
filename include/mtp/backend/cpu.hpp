// The CPU backend: threads, Eigen's vector packets, and products that give each row the same bits
// for any number of rows. See docs/numerics.md.
#pragma once

#include <cstddef>
#include <string_view>

#include "mtp/backend/cpu/abi.hpp"
#include "mtp/backend/cpu/accept_typical.hpp"
#include "mtp/backend/cpu/attention.hpp"
#include "mtp/backend/cpu/best_tokens.hpp"
#include "mtp/backend/cpu/choose_tokens.hpp"
#include "mtp/backend/cpu/combine.hpp"
#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/elementwise.hpp"
#include "mtp/backend/cpu/embedding.hpp"
#include "mtp/backend/cpu/expert_rows.hpp"
#include "mtp/backend/cpu/grouped_linear.hpp"
#include "mtp/backend/cpu/head_linear.hpp"
#include "mtp/backend/cpu/latent_attention.hpp"
#include "mtp/backend/cpu/linear.hpp"
#include "mtp/backend/cpu/linear_cross_entropy.hpp"
#include "mtp/backend/cpu/matmul.hpp"
#include "mtp/backend/cpu/optimizer.hpp"
#include "mtp/backend/cpu/quantize.hpp"
#include "mtp/backend/cpu/quantized_linear.hpp"
#include "mtp/backend/cpu/random.hpp"
#include "mtp/backend/cpu/reduce.hpp"
#include "mtp/backend/cpu/reject_drafts.hpp"
#include "mtp/backend/cpu/rms_norm.hpp"
#include "mtp/backend/cpu/rope.hpp"
#include "mtp/backend/cpu/rope_attention.hpp"
#include "mtp/backend/cpu/route.hpp"
#include "mtp/backend/cpu/sequence.hpp"
#include "mtp/backend/cpu/sharded_cross_entropy.hpp"
#include "mtp/backend/cpu/sharded_embedding.hpp"
#include "mtp/backend/cpu/softmax.hpp"
#include "mtp/backend/cpu/sum_over_ranks.hpp"
#include "mtp/backend/cpu/swiglu.hpp"
#include "mtp/backend/cpu/tree.hpp"
#include "mtp/backend/cpu/weight_layout.hpp"
#include "mtp/backend/host.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI {

/// The tag that chooses this backend: `language_model<config, mtp::cpu>`.
struct cpu {};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI

namespace mtp::inline MTP_ABI {

/// The traits of the CPU backend; see the primary template.
template <>
struct backend_traits<cpu> : host_backend<cpu_context> {
  /// The operations, one base for each header of backend/cpu/.
  struct ops : cpu_detail::cpu_elementwise_ops,
               cpu_detail::cpu_reduce_ops,
               cpu_detail::cpu_softmax_ops,
               cpu_detail::cpu_matmul_ops,
               cpu_detail::cpu_linear_ops,
               cpu_detail::cpu_head_linear_ops,
               cpu_detail::cpu_route_ops,
               cpu_detail::cpu_expert_rows_ops,
               cpu_detail::cpu_grouped_linear_ops,
               cpu_detail::cpu_quantize_ops,
               cpu_detail::cpu_quantized_linear_ops,
               cpu_detail::cpu_rms_norm_ops,
               cpu_detail::cpu_rope_ops,
               cpu_detail::cpu_swiglu_ops,
               cpu_detail::cpu_attention_ops,
               cpu_detail::cpu_rope_attention_ops,
               cpu_detail::cpu_latent_attention_ops,
               cpu_detail::cpu_combine_ops,
               cpu_detail::cpu_embedding_ops,
               cpu_detail::cpu_linear_cross_entropy_ops,
               cpu_detail::cpu_sum_over_ranks_ops,
               cpu_detail::cpu_sharded_embedding_ops,
               cpu_detail::cpu_sharded_cross_entropy_ops,
               cpu_detail::cpu_optimizer_ops,
               cpu_detail::cpu_random_ops,
               cpu_detail::cpu_sequence_ops,
               cpu_detail::cpu_tree_ops,
               cpu_detail::cpu_choose_tokens_ops,
               cpu_detail::cpu_reject_drafts_ops,
               cpu_detail::cpu_accept_typical_ops,
               cpu_detail::cpu_best_tokens_ops {};

  /// Operations take trees of drafts.
  static constexpr bool decodes_trees = true;

  /// A context that computes on the calling thread. It has no workspace, so it is cheap to make.
  static cpu_context calling_thread() { return cpu_context({.threads = 1, .workspace_bytes = 0}); }

  /// Zeroed memory. Throws mtp::error when memory runs out.
  static void* allocate(std::size_t bytes) { return cpu_detail::allocate(bytes); }
  /// Frees memory of allocate.
  static void deallocate(void* memory, std::size_t bytes) { cpu_detail::deallocate(memory, bytes); }

  /// A name for the layout of weights in elements and in 8 bits: files that become memory as they
  /// are (io::map_model) have it.
  static constexpr std::string_view layout_name = MTP_CPU_LAYOUT;

  /// Elements of storage, padding included; backend/cpu/weight_layout.hpp has the layout.
  template <scalar S>
  static constexpr index_t weight_storage(index_t outputs, index_t inputs) {
    return cpu_detail::weight_storage<S>(outputs, inputs);
  }
  /// Index of element (output, input) within them.
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
