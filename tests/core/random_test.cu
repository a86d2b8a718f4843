// Random numbers on a device are those of the host.
#include "mtp/core/random.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "mtp/backend/cuda.cuh"
// The backend comes first.
#include "mtp/core/tensor.hpp"

namespace mtp::test::core_random_cases {

template <class T>
using device_vector = tensor<T, dims<1>, cuda>;

/// Thread i draws at the i-th position.
template <int Block>
__global__ void __launch_bounds__(Block) draw_kernel(std::uint32_t* bits,             // [N]
                                                     double* uniform,                 // [N]
                                                     std::uint64_t* below,            // [N]
                                                     const std::uint64_t* positions,  // [N]
                                                     const std::uint64_t* counts,     // [N]
                                                     index_t N,
                                                     std::uint64_t seed_bits,
                                                     std::uint64_t stream) {
  const index_t i = static_cast<index_t>(blockIdx.x) * Block + threadIdx.x;
  if (i < N) {
    const random_stream random(mtp::seed{seed_bits}, stream);
    bits[i] = random.bits(positions[i]);
    uniform[i] = random.uniform(positions[i]);
    below[i] = random.below(positions[i], counts[i]);
  }
}

TEST_CASE("random numbers have the same bits on the device and on the host") {
  cuda_context context;
  constexpr index_t N = 3000;
  constexpr int block = 128;
  const struct {
    std::uint64_t seed, stream;
  } generators[] = {{0, 0}, {42, 7}, {0x299f31d0a4093822, 0x0370734413198a2e}, {~0ull, ~0ull}};
  for (const auto& g : generators) {
    const random_stream random(mtp::seed{g.seed}, g.stream);
    std::vector<std::uint64_t> positions, counts;
    for (index_t i = 0; i < N; ++i) {
      const auto n = static_cast<std::uint64_t>(i);
      // From the beginning, around the limit of the lower word, and far away.
      positions.push_back(n % 3 == 0   ? n
                          : n % 3 == 1 ? (std::uint64_t{1} << 34) - 1500 + n
                                       : n * 0x9e3779b97f4a7c15);
      counts.push_back(n % 2 == 0 ? n / 2 + 1 : ~n);
    }
    const dims<1> shape{N};
    const device_vector<std::uint64_t> on_positions(shape, positions), on_counts(shape, counts);
    device_vector<std::uint32_t> on_bits(shape);
    device_vector<double> on_uniform(shape);
    device_vector<std::uint64_t> on_below(shape);
    cuda_detail::launch(context,
                        "draw",
                        dim3(cuda_detail::extent_of(ceil_div(N, block), "draw")),
                        dim3(block),
                        0,
                        draw_kernel<block>,
                        on_bits.data(),
                        on_uniform.data(),
                        on_below.data(),
                        on_positions.data(),
                        on_counts.data(),
                        N,
                        g.seed,
                        g.stream);
    context.synchronize();
    const auto bits = on_bits.to_host();
    const auto uniform = on_uniform.to_host();
    const auto below = on_below.to_host();
    int faults = 0;
    for (index_t i = 0; i < N; ++i) {
      const auto at = static_cast<std::size_t>(i);
      faults += bits[at] != random.bits(positions[at]);
      faults += !(uniform[at] == random.uniform(positions[at]));
      faults += below[at] != random.below(positions[at], counts[at]);
    }
    CAPTURE(g.seed);
    CHECK(faults == 0);
  }
}

}  // namespace mtp::test::core_random_cases
