// Rows of a head in shared memory, as attention's matrix instructions read them.
#pragma once

#include <cstdint>

#include "mtp/backend/cuda/device.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/backend/cuda/rope.cuh"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

inline constexpr float log2_of_e = 1.44269504f;

/// What is smaller than every score.
__device__ __forceinline__ float minus_infinity() {
  return __int_as_float(static_cast<int>(0xff800000u));
}

/// Heads of rows: where they begin.
template <class Element>
struct head_array {
  Element* data = nullptr;  // [N, H, E] stride (row, head, 1)
  index_t row = 0;
  index_t head = 0;

  head_array() = default;
  head_array(Element* first, index_t row_stride, index_t head_stride)
      : data(first), row(row_stride), head(head_stride) {}
  template <class Other>
  explicit head_array(const view<Other, dims<3>, cuda>& x)
      : data(x.data()), row(x.stride(0)), head(x.stride(1)) {}
  __device__ __forceinline__ Element* at(index_t n, index_t h) const {
    return data + n * row + h * head;
  }
};

/// Two neighbouring elements as a word. Unless `packed`, their address may be odd.
__device__ __forceinline__ std::uint32_t load_pair(const bf16* from, bool packed) {
  if (packed) {
    return *reinterpret_cast<const std::uint32_t*>(from);
  }
  return from[0].bits() | static_cast<std::uint32_t>(from[1].bits()) << 16;
}

/// Whether one of two elements is an infinity or NaN: its exponent is all ones, and adding one to
/// it carries into the sign, which is cleared before.
__device__ __forceinline__ bool has_nonfinite(std::uint32_t pair) {
  return (((pair & 0x7f807f80u) + 0x00800080u) & 0x80008000u) != 0;
}

/// The pair without its infinities and NaN: zeros take their place.
__device__ __forceinline__ std::uint32_t without_nonfinite(std::uint32_t pair) {
  const std::uint32_t found = ((pair & 0x7f807f80u) + 0x00800080u) & 0x80008000u;
  return pair & ~((found >> 15) * 0xffffu);
}

/// Chunk number `chunk` of the lower half of a head and the same of the upper half, turned by the
/// angles of its position unless these are null.
template <int E, bool Packed>
__device__ __forceinline__ void load_turned(pack<bf16>& low,
                                            pack<bf16>& high,
                                            const bf16* head,  // [E]
                                            int chunk,
                                            const float* angles) {  // [E], cosines and sines
  low = load_elements<Packed>(head, chunk * 8, E / 2);
  high = load_elements<Packed>(head + E / 2, chunk * 8, E / 2);
  if (angles != nullptr) {
    float cosine[8], sine[8];
    load_angles<Packed>(cosine, angles, chunk * 8, E / 2);
    load_angles<Packed>(sine, angles + E / 2, chunk * 8, E / 2);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      float a = widen(low.elements[i]), b = widen(high.elements[i]);
      rotate_pair(a, b, cosine[i], sine[i]);
      low.elements[i] = narrow<bf16>(a);
      high.elements[i] = narrow<bf16>(b);
    }
  }
}

/// Stores what load_turned gave.
template <int E, bool Packed>
__device__ __forceinline__ void store_turned(bf16* head,  // [E]
                                             int chunk,
                                             const pack<bf16>& low,
                                             const pack<bf16>& high) {
  store_elements<Packed>(head, chunk * 8, E / 2, low);
  store_elements<Packed>(head + E / 2, chunk * 8, E / 2, high);
}

/// The row of a tree that stands `steps` in front of row `row`.
__device__ __forceinline__ index_t row_of_path(const index_t* parents, index_t row, index_t steps) {
  for (; steps > 0 && row > 0; --steps) {
    row = parents[row];
  }
  return row;
}

/// The position of the first row of a sequence: 0, or the first of those given, as far as a cache
/// can tell.
__device__ __forceinline__ int first_position(const index_t* positions) {
  constexpr index_t far = index_t{1} << 30;
  return positions == nullptr ? 0 : static_cast<int>(max(-far, min(positions[0], far)));
}

/// Rows of E elements of bf16 in shared memory. A row is E / 8 chunks of 16 bytes and one more that
/// nobody uses: an odd number, so that the same chunk of eight rows, which is what matrix
/// instructions read at a time, lies in all 32 banks. Unlike exchanging chunks, this leaves every
/// address a constant away from the first.
template <int E>
struct head_tile {
  static_assert(E % 16 == 0 && E <= 128, "head_tile: widths are multiples of 16 up to 128");
  static constexpr int stride = E + 8;
  static constexpr int chunks = E / 8;

  /// Rows that Threads threads load at a time.
  template <int Threads>
  static constexpr int rows_at_a_time = Threads / chunks;

  // Numbers of threads are unsigned, so that the compiler sees bits where quotients stand.

  /// body(row, chunk) for the chunks of Rows rows that belong to a thread, in steps of
  /// rows_at_a_time.
  template <int Rows, int Threads, class Body>
  static __device__ __forceinline__ void for_each_chunk(unsigned thread, const Body& body) {
    constexpr int step = rows_at_a_time<Threads>;
    const auto row = static_cast<int>(thread / chunks), chunk = static_cast<int>(thread % chunks);
    if (Threads == step * chunks || row < step) {
#pragma unroll
      for (int first = 0; first < Rows; first += step) {
        if (Rows % step == 0 || first + row < Rows) {
          body(first + row, chunk);
        }
      }
    }
  }

  /// Starts copies of the rows n, n + 1, .. of head h, `valid` of them. Zeros arrive in the others
  /// if they are to be filled.
  template <int Rows, int Threads, bool Fill = true, class Element>
  static __device__ __forceinline__ void load_rows(bf16* tile,  // [Rows, E]
                                                   const head_array<Element>& x,
                                                   index_t n,
                                                   index_t h,
                                                   int valid,
                                                   unsigned thread,
                                                   bool packed) {
    constexpr int rows = rows_at_a_time<Threads>;
    // Never beyond the last row that is valid, as far as there is one: what is behind it may not
    // exist.
    const index_t first = min(static_cast<int>(thread / chunks), max(valid, 1) - 1);
    const bf16* from = x.at(n + first, h) + thread % chunks * 8;
    if (packed) {
      for_each_chunk<Rows, Threads>(thread, [&](int row, int chunk) {
        if (Fill || row < valid) {
          copy_async_16(tile + row * stride + chunk * 8, from, row < valid);
        }
        if (row + rows < valid) {
          from += rows * x.row;
        }
      });
    } else if (thread / chunks < unsigned{rows}) {
#pragma unroll 1
      for (auto row = static_cast<int>(thread / chunks); row < Rows; row += rows) {
        if (Fill || row < valid) {
          *reinterpret_cast<pack<bf16>*>(tile + row * stride + thread % chunks * 8) =
              load_elements<false>(from, 0, row < valid ? 8 : 0);
        }
        from += rows * x.row;
      }
    }
  }

  /// Writes `valid` rows to the rows n, n + 1, .. of head h, by a warp that has met before.
  template <int Rows>
  static __device__ __forceinline__ void store_rows(const head_array<bf16>& x,
                                                    index_t n,
                                                    index_t h,
                                                    int valid,
                                                    const bf16* tile,  // [Rows, E]
                                                    int lane,
                                                    bool packed) {
    constexpr int rows = rows_at_a_time<warp_size>;
    const auto thread = static_cast<unsigned>(lane);
    bf16* to = x.at(n + thread / chunks, h) + thread % chunks * 8;
    if (packed) {
      for_each_chunk<Rows, warp_size>(thread, [&](int row, int chunk) {
        if (row < valid) {
          *reinterpret_cast<pack<bf16>*>(to) =
              *reinterpret_cast<const pack<bf16>*>(tile + row * stride + chunk * 8);
        }
        to += rows * x.row;
      });
    } else if (thread / chunks < unsigned{rows}) {
#pragma unroll 1
      for (auto row = static_cast<int>(thread / chunks); row < min(Rows, valid); row += rows) {
        store_elements<false>(
            to,
            0,
            8,
            *reinterpret_cast<const pack<bf16>*>(tile + row * stride + thread % chunks * 8));
        to += rows * x.row;
      }
    }
  }

  /// Two neighbouring elements of a row.
  static __device__ __forceinline__ void set_pair(bf16* tile, int row, int e, std::uint32_t pair) {
    *reinterpret_cast<std::uint32_t*>(tile + row * stride + e) = pair;
  }

  // Fragments, by all lanes of a warp.

  /// a[16 rows, elements 16 step ..]
  static __device__ __forceinline__ void load_a(std::uint32_t (&a)[4],
                                                const bf16* rows,
                                                int step,
                                                int lane) {
    load_matrix_x4(a, rows + lane % 16 * stride + lane / 16 * 8 + step * 16);
  }

  /// b[elements 16 step .., 16 rows]: words 0, 1 for the first 8 rows, words 2, 3 for the others.
  static __device__ __forceinline__ void load_b(std::uint32_t (&b)[4],
                                                const bf16* rows,
                                                int step,
                                                int lane) {
    const int row = lane / 16 * 8 + lane % 8;
    load_matrix_x4(b, rows + row * stride + lane / 8 % 2 * 8 + step * 16);
  }

  /// b[16 rows, elements 16 step ..]: words 0, 1 for the first 8 elements, words 2, 3 for the
  /// others.
  static __device__ __forceinline__ void load_b_transposed(std::uint32_t (&b)[4],
                                                           const bf16* rows,
                                                           int step,
                                                           int lane) {
    load_matrix_x4_transposed(b, rows + lane % 16 * stride + lane / 16 * 8 + step * 16);
  }
};

/// d[i] += a b[i] for two [16, 8] tiles of d beside each other.
__device__ __forceinline__ void multiply_pair(float (&left)[4],
                                              float (&right)[4],
                                              const std::uint32_t (&a)[4],
                                              const std::uint32_t (&b)[4]) {
  mma_m16n8k16(left, a, {b[0], b[1]});
  mma_m16n8k16(right, a, {b[2], b[3]});
}

/// The fragment a[16, 16] out of two neighbouring [16, 8] tiles of sums, rounded to bf16.
__device__ __forceinline__ void pack_a(std::uint32_t (&a)[4],
                                       const float (&left)[4],
                                       const float (&right)[4]) {
  a[0] = pack_bf16(left[0], left[1]);
  a[1] = pack_bf16(left[2], left[3]);
  a[2] = pack_bf16(right[0], right[1]);
  a[3] = pack_bf16(right[2], right[3]);
}

/// out[i] += v[s] for the elements of v that are infinite or NaN and the keys s that a row sees.
/// Their probabilities are positive, so they add what the exact sum would get from them. A product
/// with the whole tile would also multiply them by the zeros of rows that do not see them.
template <int E, int Tiles>
__device__ __forceinline__ void add_nonfinite(float (&out)[Tiles][E / 8][4],
                                              const bf16* values,  // [keys, E]
                                              int keys,
                                              const int (&last)[Tiles][2],  // keys that rows see
                                              int lane) {
  for (int s = 0; s < keys; ++s) {
#pragma unroll
    for (int j = 0; j < E / 8; ++j) {
      const std::uint32_t pair = *reinterpret_cast<const std::uint32_t*>(
          values + s * head_tile<E>::stride + 8 * j + lane % 4 * 2);
      if (has_nonfinite(pair)) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const float value = c % 2 == 0 ? unpack_low(pair) : unpack_high(pair);
          const bool finite = value - value == 0;
#pragma unroll
          for (int i = 0; i < Tiles; ++i) {
            if (!finite && s <= last[i][c / 2]) {
              out[i][j][c] += value;
            }
          }
        }
      }
    }
  }
  converge_warp();  // lanes have found something at different places
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
