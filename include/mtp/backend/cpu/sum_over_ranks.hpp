// Sums over ranks on the CPU. Contract: ops/sum_over_ranks.hpp.
#pragma once

#include <algorithm>
#include <cstddef>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/simd.hpp"
#include "mtp/core/arena.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_sum_over_ranks_ops {
  // Each rank adds a range for all, and hands it out.
  template <scalar S>
  static void sum_over_ranks(cpu_context& context, vector_view<S, cpu> values) {
    using A = accumulate_t<S>;
    host_tensor_group& ranks = *context.ranks();
    if (ranks.size() == 1) return;
    const index_t N = values.extent(0), R = ranks.size();
    const index_t length = ceil_div(N, R);
    const index_t first = (std::min)(ranks.rank() * length, N);
    const index_t own = (std::min)(length, N - first);
    constexpr index_t unit = sizeof(S);
    const arena::scope scope(context.workspace());
    S* const received = context.workspace().template take<S>(R * own);  // [R, own]
    auto* const bytes = reinterpret_cast<std::byte*>(values.data());
    ranks.exchange(bytes, reinterpret_cast<std::byte*>(received), N * unit, unit);
    context.parallel_ranges(own, task_elements, [&](index_t begin, index_t end, int) {
      for (index_t i = begin; i < end; ++i) {
        A sum{0};
        for (index_t r = 0; r < R; ++r) {
          sum += static_cast<A>(received[r * own + i]);
        }
        values(first + i) = static_cast<S>(sum);
      }
    });
    ranks.all_gather(bytes, N * unit, unit);
  }

  /// The most bytes of workspace that it needs for `count` elements and `ranks` ranks.
  template <scalar S>
  static constexpr index_t sum_over_ranks_workspace(index_t count, index_t ranks) {
    return arena_bytes(ranks * ceil_div(count, ranks), sizeof(S));
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
