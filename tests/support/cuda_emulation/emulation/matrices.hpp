// mma.sync.m16n8k16 and ldmatrix, whose operands are spread over the lanes of a warp.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>

#include "emulation/async_copies.hpp"
#include "emulation/collectives.hpp"

namespace mtp::emulation {

inline constexpr unsigned all_lanes = 0xffffffffu;

[[noreturn]] inline void raise_missing_lanes(const char* operation, unsigned alive) {
  raise_fault(std::string(operation) + ": needs all 32 lanes of the warp, but " +
              std::to_string(std::popcount(~alive)) + " do not exist or have exited");
}

MTP_EMULATION_INTERNAL inline void check_whole_warp(const char* operation) {
  const unsigned alive = running.warps[this_thread(operation).rank / lanes_per_warp].alive;
  if (alive != all_lanes) {
    raise_missing_lanes(operation, alive);
  }
}

MTP_EMULATION_INTERNAL inline float low_half(std::uint32_t pair) {
  return __builtin_bit_cast(float, pair << 16);
}
MTP_EMULATION_INTERNAL inline float high_half(std::uint32_t pair) {
  return __builtin_bit_cast(float, pair & 0xffff0000u);
}

/// d[16, 8] += a[16, 16] b[16, 8]. Lane 4g + t holds of a the rows g and g + 8 in the columns
/// 2t, 2t + 1, 2t + 8, 2t + 9; of b the column g in these rows; of d the rows g and g + 8 in the
/// columns 2t and 2t + 1. PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type".
/// Products of bf16 are exact; sums are f32, over k in order, which hardware does not promise.
MTP_EMULATION_INTERNAL inline void execute_multiply(lane_request* const* lanes, unsigned) {
  alignas(16) float a[16][16], b[16][8], d[16][8];
  for (unsigned lane = 0; lane < lanes_per_warp; ++lane) {
    const unsigned g = lane / 4, t = lane % 4;
    const auto* const a_words = static_cast<const std::uint32_t*>(lanes[lane]->inputs[0]);
    const auto* const b_words = static_cast<const std::uint32_t*>(lanes[lane]->inputs[1]);
    const auto* const sums = static_cast<const float*>(lanes[lane]->output);
    for (unsigned word = 0; word < 4; ++word) {
      const unsigned row = g + word % 2 * 8, column = 2 * t + word / 2 * 8;
      a[row][column] = low_half(a_words[word]);
      a[row][column + 1] = high_half(a_words[word]);
    }
    for (unsigned word = 0; word < 2; ++word) {
      b[2 * t + word * 8][g] = low_half(b_words[word]);
      b[2 * t + word * 8 + 1][g] = high_half(b_words[word]);
    }
    for (unsigned i = 0; i < 4; ++i) {
      d[g + i / 2 * 8][2 * t + i % 2] = sums[i];
    }
  }
  typedef float four_floats __attribute__((vector_size(16)));
  for (unsigned row = 0; row < 16; ++row) {
    four_floats left, right, b_left, b_right;
    std::memcpy(&left, &d[row][0], sizeof left);
    std::memcpy(&right, &d[row][4], sizeof right);
    for (unsigned k = 0; k < 16; ++k) {
      std::memcpy(&b_left, &b[k][0], sizeof b_left);
      std::memcpy(&b_right, &b[k][4], sizeof b_right);
      left += a[row][k] * b_left;
      right += a[row][k] * b_right;
    }
    std::memcpy(&d[row][0], &left, sizeof left);
    std::memcpy(&d[row][4], &right, sizeof right);
  }
  for (unsigned lane = 0; lane < lanes_per_warp; ++lane) {
    const unsigned g = lane / 4, t = lane % 4;
    auto* const sums = static_cast<float*>(lanes[lane]->output);
    for (unsigned i = 0; i < 4; ++i) {
      sums[i] = d[g + i / 2 * 8][2 * t + i % 2];
    }
  }
}

MTP_EMULATION_INTERNAL inline void multiply(
    float* d, const std::uint32_t* a, const std::uint32_t* b, const char* file, int line) {
  check_whole_warp("mma_m16n8k16");
  lane_request request{.execute = execute_multiply, .detail = 0, .mask = all_lanes};
  request.inputs[0] = a;
  request.inputs[1] = b;
  request.output = d;
  join_collective("mma_m16n8k16", request, file, line);
}

/// A row of eight elements, or the same as words of two.
struct matrix_row {
  std::uint32_t words[4];
};

/// Lane 8m + i brought row i of matrix m. Lane 4g + t gets from each matrix the elements 2t and
/// 2t + 1 of row g; transposed, of column g.
template <unsigned Matrices, bool Transposed>
MTP_EMULATION_INTERNAL inline void execute_load(lane_request* const* lanes, unsigned) {
  for (unsigned lane = 0; lane < lanes_per_warp; ++lane) {
    const unsigned g = lane / 4, t = lane % 4;
    auto* const words = static_cast<std::uint32_t*>(lanes[lane]->output);
    for (unsigned matrix = 0; matrix < Matrices; ++matrix) {
      if constexpr (Transposed) {
        std::uint32_t pair = 0;
        for (unsigned i = 0; i < 2; ++i) {
          const auto* const row =
              static_cast<const matrix_row*>(lanes[8 * matrix + 2 * t + i]->inputs[0]);
          pair |= (row->words[g / 2] >> (g % 2 * 16) & 0xffffu) << (16 * i);
        }
        words[matrix] = pair;
      } else {
        words[matrix] = static_cast<const matrix_row*>(lanes[8 * matrix + g]->inputs[0])->words[t];
      }
    }
  }
}

/// `row` counts for the first 8 Matrices lanes. Each lane reads its own, so that sanitizers know
/// who did.
template <unsigned Matrices, bool Transposed>
MTP_EMULATION_INTERNAL inline void load_matrices(std::uint32_t* words,
                                                 const void* row,
                                                 const char* file,
                                                 int line) {
  check_whole_warp("load_matrix");
  matrix_row own{};
  if (running.current->rank % lanes_per_warp < 8 * Matrices) {
    check_shared("load_matrix", row, sizeof own);
    note_read(row, sizeof own);
    own = *static_cast<const matrix_row*>(row);
  }
  lane_request request{
      .execute = execute_load<Matrices, Transposed>, .detail = 0, .mask = all_lanes};
  request.inputs[0] = &own;
  request.output = words;
  join_collective("load_matrix", request, file, line);
}

}  // namespace mtp::emulation
