// Pieces of rows that blocks of a grid process: one that the host knows, or those of experts, whose
// rows only the device can count.
#pragma once

#include <algorithm>

#include "mtp/backend/cuda/launch.cuh"

namespace mtp::inline MTP_ABI::cuda_detail {

/// Rows [first, first + rows), and the row of the weight with which theirs begins.
struct row_piece {
  int first;
  int rows;
  index_t weight_row;
};

/// The only piece.
struct one_piece {
  int rows;
  static constexpr unsigned count = 1;  // of pieces, which are numbers of blockIdx.y
  static constexpr bool known = true;   // to the host, before earlier kernels have ended

  __device__ __forceinline__ row_piece find(unsigned) const { return {0, rows, 0}; }
};

/// Pieces of at most `Size` rows of experts that have rows offsets[e] .. offsets[e + 1] - 1 and
/// `outputs` rows of the weight each. The pieces of expert e are numbers offsets[e] / Size + e and
/// the next ones, which are always enough: if an expert has b - a rows, ceil((b - a) / Size) <=
/// b / Size - a / Size + 1. Those that are not needed have no rows.
template <int Size>
struct expert_pieces {
  const index_t* offsets;  // [E + 1]
  int E;
  index_t outputs;
  index_t begin;   // of the pieces of this launch
  unsigned count;  // of them
  index_t all;     // pieces of all launches
  static constexpr bool known = false;

  expert_pieces(const index_t* given, index_t experts, index_t outputs_of_each, index_t rows)
      : offsets(given),
        E(static_cast<int>(experts)),
        outputs(outputs_of_each),
        begin(0),
        count(0),
        all(rows / Size + experts) {}

  __device__ __forceinline__ row_piece find(unsigned number) const {
    const index_t wanted = begin + number;
    int e = 0;
    for (int behind = E; behind - e > 1;) {  // the last expert whose pieces begin at `wanted`
      const int middle = (e + behind) / 2;
      (offsets[middle] / Size + middle <= wanted ? e : behind) = middle;
    }
    const index_t first = offsets[e] + (wanted - offsets[e] / Size - e) * Size;
    const index_t left = offsets[e + 1] - first;
    return {static_cast<int>(first),
            static_cast<int>(left < 0      ? 0
                             : left < Size ? left
                                           : Size),
            e * outputs};
  }
};

/// Calls body(pieces) for as many launches as the pieces need: a grid has at most 65535 of them.
template <class Body>
void for_pieces(const one_piece& pieces, const Body& body) {
  body(pieces);
}
template <int Size, class Body>
void for_pieces(const expert_pieces<Size>& pieces, const Body& body) {
  constexpr index_t most = 65535;
  for (index_t begin = 0; begin < pieces.all; begin += most) {
    expert_pieces<Size> some = pieces;
    some.begin = begin;
    some.count = static_cast<unsigned>(std::min(most, pieces.all - begin));
    body(some);
  }
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
