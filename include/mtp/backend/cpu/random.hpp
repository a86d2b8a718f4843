// Random numbers on the CPU. Contract: ops/random.hpp.
#pragma once

#include <cstdint>

#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/weight_layout.hpp"
#include "mtp/core/random.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

struct cpu_random_ops {
  // A task has whole panels, so that no two threads write to one cache line.
  template <scalar S>
  static void fill_normal(cpu_context& context,
                          weight_view<S, cpu> w,
                          double deviation,
                          const random_stream& random) {
    const index_t K = w.inputs;
    const index_t grain = round_up(task_rows(K), panel_width<S>);
    context.parallel_ranges(w.outputs, grain, [&](index_t begin, index_t end, int) {
      for (index_t n = begin; n < end; ++n) {
        for (index_t k = 0; k < K; ++k) {
          const auto position = static_cast<std::uint64_t>(n * K + k);
          w(n, k) =
              static_cast<S>(static_cast<accumulate_t<S>>(deviation * random.normal(position)));
        }
      }
    });
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
