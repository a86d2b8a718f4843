#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "cuda_emulation/fixture.hpp"
#include "cuda_emulation/kernels.cuh"
#include "cuda_emulation/products.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

namespace mtp::test::cuda_emulation_matrices_cases {

namespace {

// ---- mma ----------------------------------------------------------------------------------------

/// Fragments as the PTX manual prints them, element by element: for i-th element of A,
/// row = groupID for i < 2 or 4 <= i < 6, else groupID + 8; and so on.
__global__ void multiply_kernel(const std::uint16_t* a, const std::uint16_t* b, float* d) {
  const unsigned group = threadIdx.x >> 2, thread_in_group = threadIdx.x % 4;
  std::uint32_t a_words[4] = {}, b_words[2] = {};
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned row = i < 2 || (4 <= i && i < 6) ? group : group + 8;
    const unsigned column =
        i < 4 ? thread_in_group * 2 + (i & 1) : thread_in_group * 2 + (i & 1) + 8;
    a_words[i / 2] |= std::uint32_t{a[row * 16 + column]} << (i % 2 * 16);
  }
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = i < 2 ? thread_in_group * 2 + (i & 1) : thread_in_group * 2 + (i & 1) + 8;
    b_words[i / 2] |= std::uint32_t{b[row * 8 + group]} << (i % 2 * 16);
  }
  float sums[4];
  const auto offset = [&](unsigned i) {
    const unsigned row = i < 2 ? group : group + 8;
    return row * 8 + thread_in_group * 2 + (i & 1);
  };
  for (unsigned i = 0; i < 4; ++i) {
    sums[i] = d[offset(i)];
  }
  cuda_detail::mma_m16n8k16(sums, a_words, b_words);
  for (unsigned i = 0; i < 4; ++i) {
    d[offset(i)] = sums[i];
  }
}

TEST_CASE("mma_m16n8k16 multiplies fragments with the layout of the PTX manual") {
  in_every_order([] {
    const auto a = bf16_elements(normal(16 * 16, 1)), b = bf16_elements(normal(16 * 8, 2));
    const std::vector<double> numbers = normal(16 * 8, 3);
    const std::vector<float> start(numbers.begin(), numbers.end());
    std::vector<std::uint16_t> b_transposed(8 * 16);
    for (std::size_t k = 0; k < 16; ++k) {
      for (std::size_t j = 0; j < 8; ++j) {
        b_transposed[j * 16 + k] = b[k * 8 + j];
      }
    }
    const product expected =
        reference(a, b_transposed, std::vector<double>(start.begin(), start.end()), 16, 8, 16);
    const device_array<std::uint16_t> a_device(a), b_device(b);
    const device_array<float> d(start);
    REQUIRE(launch({1, 32}, multiply_kernel, a_device.data(), b_device.data(), d.data()) ==
            cudaSuccess);
    const std::vector<float> actual = d.elements();
    CHECK(within(
        std::vector<double>(actual.begin(), actual.end()), expected.elements, expected.bounds));
  });
}

// ---- ldmatrix -----------------------------------------------------------------------------------

/// Element (row, column) of matrix m is 64 m + 8 row + column. Rows lie in reverse order, and lanes
/// whose address does not count give none.
template <int Matrices, bool Transposed>
__global__ void load_kernel(std::uint32_t* words) {
  std::uint16_t* const shared = cuda_detail::dynamic_shared<std::uint16_t>();
  const unsigned lane = threadIdx.x;
  constexpr unsigned rows = 8 * Matrices;
  const std::uint16_t* own = nullptr;
  if (lane < rows) {
    std::uint16_t* const row = shared + (rows - 1 - lane) * 8;
    for (unsigned column = 0; column < 8; ++column) {
      row[column] = static_cast<std::uint16_t>(lane * 8 + column);
    }
    own = row;
  }
  __syncwarp();
  std::uint32_t fragment[Matrices];
  if constexpr (Matrices == 4 && !Transposed) {
    cuda_detail::load_matrix_x4(fragment, own);
  } else if constexpr (Matrices == 4) {
    cuda_detail::load_matrix_x4_transposed(fragment, own);
  } else if constexpr (!Transposed) {
    cuda_detail::load_matrix_x2(fragment, own);
  } else {
    cuda_detail::load_matrix_x2_transposed(fragment, own);
  }
  for (unsigned m = 0; m < Matrices; ++m) {
    words[m * 32 + lane] = fragment[m];
  }
}

template <int Matrices, bool Transposed>
void check_load() {
  const device_array<std::uint32_t> words(Matrices * 32);
  REQUIRE(launch({1, 32, Matrices * 128}, load_kernel<Matrices, Transposed>, words.data()) ==
          cudaSuccess);
  std::vector<std::uint32_t> expected;
  for (unsigned m = 0; m < Matrices; ++m) {
    for (unsigned lane = 0; lane < 32; ++lane) {
      // "Each thread holds two elements of row lane / 4, from column 2 (lane % 4)."
      const unsigned row = lane / 4, column = lane % 4 * 2;
      const auto element = [&](unsigned r, unsigned c) { return m * 64 + r * 8 + c; };
      expected.push_back(Transposed ? element(column, row) | element(column + 1, row) << 16
                                    : element(row, column) | element(row, column + 1) << 16);
    }
  }
  CHECK(words.elements() == expected);
}

TEST_CASE("load_matrix distributes rows, or columns if transposed") {
  in_every_order([] {
    check_load<4, false>();
    check_load<4, true>();
    check_load<2, false>();
    check_load<2, true>();
  });
}

// ---- a product of tiles -------------------------------------------------------------------------

TEST_CASE("a product through asynchronous copies, ldmatrix and mma") {
  in_every_order([] {
    CHECK(product_is_right(1, 1, 8));
    CHECK(product_is_right(65, 63, 72));
    CHECK(product_is_right(64, 128, 160));
  });
}

TEST_CASE("a product whose copies are deferred needs every wait" * races_are_expected) {
  const restored_settings restored;
  emulation::settings().copies = emulation::copy_mode::deferred;
  const std::vector<emulation::site> unneeded =
      emulation::unneeded_sites([] { return product_is_right(64, 64, 160); });
  // The last barrier of a step protects the stage that is filled next: deferred copies come too
  // late to overwrite it, see copies_race.cpp.
  REQUIRE(unneeded.size() == 1);
  CHECK(unneeded[0].kind == emulation::site_kind::block_barrier);
}

}  // namespace

}  // namespace mtp::test::cuda_emulation_matrices_cases
