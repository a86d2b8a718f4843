// Products of bf16 matrices: a reference in double, and the kernel of kernels.cuh compared with it.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda_emulation/fixture.hpp"
#include "cuda_emulation/kernels.cuh"
#include "mtp/core/scalar.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

namespace mtp::test {

/// Rounded to bf16, as bits.
inline std::vector<std::uint16_t> bf16_elements(const std::vector<double>& numbers) {
  std::vector<std::uint16_t> bits;
  for (const double number : numbers) {
    bits.push_back(bf16(static_cast<float>(number)).bits());
  }
  return bits;
}
inline double value_of(std::uint16_t bits) {
  return static_cast<double>(static_cast<float>(bf16::from_bits(bits)));
}

struct product {
  std::vector<double> elements, bounds;
};

/// sum_k a[i, k] b[j, k], plus what stood there.
inline product reference(const std::vector<std::uint16_t>& a,  // [M, K]
                         const std::vector<std::uint16_t>& b,  // [N, K]
                         const std::vector<double>& start,     // [M, N]
                         std::size_t M,
                         std::size_t N,
                         std::size_t K) {
  product d;
  for (std::size_t i = 0; i < M; ++i) {
    for (std::size_t j = 0; j < N; ++j) {
      double sum = start[i * N + j], magnitude = std::abs(sum);
      for (std::size_t k = 0; k < K; ++k) {
        const double term = value_of(a[i * K + k]) * value_of(b[j * K + k]);
        sum += term;
        magnitude += std::abs(term);
      }
      d.elements.push_back(sum);
      d.bounds.push_back(dot_bound(static_cast<index_t>(K) + 1, unit_roundoff<float>, magnitude));
    }
  }
  return d;
}

/// Launches product_kernel on random matrices.
inline bool product_is_right(int M, int N, int K) {
  const auto m = static_cast<std::size_t>(M), n = static_cast<std::size_t>(N),
             k = static_cast<std::size_t>(K);
  const auto a = bf16_elements(normal(index_t{M} * K, 4)),
             b = bf16_elements(normal(index_t{N} * K, 5));
  const product expected = reference(a, b, std::vector<double>(m * n), m, n, k);
  const device_array<std::uint16_t> a_device(a), b_device(b);
  const device_array<float> d(m * n);
  using tile = product_tile;
  const dim3 grid(static_cast<unsigned>((N + tile::columns - 1) / tile::columns),
                  static_cast<unsigned>((M + tile::rows - 1) / tile::rows));
  const cudaError_t error = launch({grid, tile::threads, tile::shared_bytes},
                                   product_kernel<2>,
                                   a_device.data(),
                                   b_device.data(),
                                   d.data(),
                                   M,
                                   N,
                                   K);
  REQUIRE(error == cudaSuccess);
  const std::vector<float> actual = d.elements();
  return static_cast<bool>(within(
      std::vector<double>(actual.begin(), actual.end()), expected.elements, expected.bounds));
}

}  // namespace mtp::test
