// Sorts rows by their tokens: with CUB's radix sort on a GPU, which looks only at the bits that
// tokens have (Thrust's sort of a key looks at all 32), and with Thrust under emulation. The only
// file that includes them.
#pragma once

#if defined(__CUDACC__)
#include <cub/device/device_radix_sort.cuh>
#else
#if !defined(THRUST_DEVICE_SYSTEM)
#define THRUST_DEVICE_SYSTEM THRUST_DEVICE_SYSTEM_CPP
#endif
#include <thrust/sort.h>
#include <thrust/system/cpp/execution_policy.h>
#endif

#include <bit>
#include <cstddef>
#include <cstdint>

#include "mtp/backend/cuda/launch.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Tokens and their rows, each in two arrays that alternate as output.
struct token_pairs {
  token_t* tokens[2];     // [N]
  std::int32_t* rows[2];  // [N]
};

/// The sorted pairs, in one of the two.
struct ordered_pairs {
  const token_t* tokens;     // [N]
  const std::int32_t* rows;  // [N]
};

/// Bits that differ among the numbers 0 .. V.
inline int token_bits(index_t V) {
  return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(V)));
}

/// The most bytes that sorting `count` pairs needs besides them. It is planned before there is a
/// device to ask. CUB 3.0 needs a table of 256 counts of 4 bytes for each tile of pairs, and at
/// most 5 KiB for each pass over 8 bits (dispatch_radix_sort.cuh, InvokeOnesweep). Tiles have
/// thousands of pairs; there is room for tiles of 128. If CUB needs more, the sort throws. Thrust's
/// sort under emulation copies the pairs.
constexpr index_t sort_bytes(index_t count) {
  return 8 * count + (index_t{1} << 16);
}

#if defined(__CUDACC__)

/// Sorts the pairs of the first arrays by token in [0, V]; pairs of one token keep their order.
/// Does not wait for the device.
inline ordered_pairs sort_by_token(cuda_context& context,
                                   const token_pairs& pairs,
                                   index_t N,
                                   index_t V) {
  const char* const name = "embedding_backward";
  // All tokens have the same sign, so the lower bits decide.
  cub::DoubleBuffer<token_t> tokens(pairs.tokens[0], pairs.tokens[1]);
  cub::DoubleBuffer<std::int32_t> rows(pairs.rows[0], pairs.rows[1]);
  const int count = static_cast<int>(extent_of(N, name)), bits = token_bits(V);
  const auto sort = [&](void* memory, std::size_t& bytes) {
    check_cuda(cub::DeviceRadixSort::SortPairs(
                   memory, bytes, tokens, rows, count, 0, bits, context.stream()),
               name);
  };
  std::size_t bytes = 0;
  sort(nullptr, bytes);
  check(static_cast<index_t>(bytes) <= sort_bytes(N),
        name,
        ": the sort of ",
        N,
        " tokens wants ",
        bytes,
        " bytes, but has ",
        sort_bytes(N));
  const arena::scope scope(context.workspace());
  sort(context.workspace().template take<char>(sort_bytes(N)), bytes);
  return {tokens.Current(), rows.Current()};
}

#else

/// Hands out parts of one piece of memory, like an allocator, and takes nothing back.
class sort_memory {
 public:
  using value_type = char;

  sort_memory(char* memory, index_t bytes) : memory_(memory), bytes_(bytes) {}

  char* allocate(std::ptrdiff_t bytes) {
    const index_t wanted = round_up(bytes, 256);
    check(wanted <= bytes_ - used_,
          "embedding_backward: the sort of tokens wants ",
          used_ + wanted,
          " bytes, but has ",
          bytes_);
    char* const piece = memory_ + used_;
    used_ += wanted;
    return piece;
  }
  void deallocate(char*, std::size_t) {}

 private:
  char* memory_;
  index_t bytes_;
  index_t used_ = 0;
};

/// Under emulation, one thread of the device sorts. It looks only at the lowest `bits` bits, as CUB
/// does, and leaves the pairs in the second arrays and poison in the first ones.
template <class Token>
__global__ void sort_by_token_kernel(Token* tokens,              // [N]
                                     std::int32_t* rows,         // [N]
                                     Token* sorted,              // [N]
                                     std::int32_t* sorted_rows,  // [N]
                                     index_t N,
                                     int bits,
                                     sort_memory memory) {
  const Token mask = static_cast<Token>((std::int64_t{1} << bits) - 1);
  for (index_t n = 0; n < N; ++n) {
    sorted[n] = tokens[n] & mask;
    sorted_rows[n] = static_cast<std::int32_t>(n);
  }
  thrust::stable_sort_by_key(thrust::cpp::par(memory), sorted, sorted + N, sorted_rows);
  for (index_t n = 0; n < N; ++n) {
    const std::int32_t from = sorted_rows[n];
    sorted[n] = tokens[from];
    sorted_rows[n] = rows[from];
  }
  for (index_t n = 0; n < N; ++n) {
    tokens[n] = -1;
    rows[n] = -1;
  }
}

inline ordered_pairs sort_by_token(cuda_context& context,
                                   const token_pairs& pairs,
                                   index_t N,
                                   index_t V) {
  const arena::scope scope(context.workspace());
  launch(context,
         "embedding_backward",
         dim3(1),
         dim3(1),
         0,
         sort_by_token_kernel<token_t>,
         pairs.tokens[0],
         pairs.rows[0],
         pairs.tokens[1],
         pairs.rows[1],
         N,
         token_bits(V),
         sort_memory(context.workspace().template take<char>(sort_bytes(N)), sort_bytes(N)));
  return {pairs.tokens[1], pairs.rows[1]};
}

#endif

}  // namespace mtp::inline MTP_ABI::cuda_detail
