// Views of any rank and strides as rows: the beginning of each row and the distance of its
// elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "mtp/backend/cuda/launch.cuh"
#include "mtp/backend/cuda/pack.cuh"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::cuda_detail {

/// The most dimensions of a view.
inline constexpr int most_dimensions = 8;

/// The dimensions before the last one. Dimensions that are equally spaced in all views of a call
/// are joined, so most views have one left, and contiguous ones none.
struct row_numbers {
  int dimensions = 0;
  unsigned extents[most_dimensions - 1] = {};
  unsigned rows = 1;
  index_t columns = 1;  // elements of a row
};

/// One view of a call.
template <class Element>
struct row_places {
  Element* data;
  index_t step = 1;  // from one element of a row to the next
  index_t strides[most_dimensions - 1] = {};
};

#if defined(__CUDACC__) || defined(MTP_CUDA_EMULATION)

/// A line of elements, read and written in packs, or, unless Packed, element by element.
template <bool Packed, class Element, class Index = int>
struct strided_row {
  using element = std::remove_const_t<Element>;

  Element* data;
  index_t step;
  Index columns;

  __device__ __forceinline__ pack<element> load(Index at) const {
    return load_elements<Packed>(data, at, columns, step);
  }
  __device__ __forceinline__ void store(Index at, const pack<element>& values) const {
    store_elements<Packed>(data, at, columns, values, step);
  }
};

/// The offsets of row number `row` in the views.
template <int Views, class... Elements>
__device__ __forceinline__ void find_row(index_t (&offsets)[Views],
                                         unsigned row,
                                         const row_numbers& numbers,
                                         const row_places<Elements>&... views) {
  for (index_t& offset : offsets) {
    offset = 0;
  }
#pragma unroll  // so that parameters are read where they are: indexed, they would be copied
  for (int d = most_dimensions - 2; d >= 0; --d) {
    if (d < numbers.dimensions) {
      const unsigned rest = d > 0 ? row / numbers.extents[d] : 0;
      const index_t index = row - rest * numbers.extents[d];
      row = rest;
      int v = 0;
      ((offsets[v++] += index * views.strides[d]), ...);
    }
  }
}

#endif

/// `Views` views of one shape, with dimensions joined where possible.
template <int Views>
class joined_dimensions {
 public:
  /// The last dimension is not joined if `rows_end`, when rows have a meaning.
  template <class First, class... View>
  joined_dimensions(bool rows_end, const First& first, const View&... views) {
    constexpr int rank = First::rank;
    static_assert(rank <= most_dimensions, "cuda: operations take views of at most 8 dimensions");
    for (int d = 0; d < rank; ++d) {
      const index_t strides[Views] = {first.stride(d), views.stride(d)...};
      add(first.extent(d), strides, rows_end && d == rank - 1);
    }
    if (rank == 0 || (count_ == 0 && !rows_end)) {
      const index_t none[Views] = {};
      add(1, none, true);
    }
  }

  /// Throws mtp::error if there are more rows than a kernel can count.
  row_numbers numbers(const char* function) const {
    row_numbers result;
    index_t rows = 1;
    for (int d = 0; d < count_ - 1; ++d) {
      rows *= extents_[d];
    }
    result.rows = extent_of(rows, function);
    result.dimensions = count_ - 1;
    for (int d = 0; d < count_ - 1; ++d) {
      result.extents[d] = static_cast<unsigned>(extents_[d]);
    }
    result.columns = extents_[count_ - 1];
    return result;
  }

  template <class Element>
  row_places<Element> places(std::size_t view, Element* data) const {
    row_places<Element> result{data};
    result.step = strides_[view][count_ - 1];
    for (int d = 0; d < count_ - 1; ++d) {
      result.strides[d] = strides_[view][d];
    }
    return result;
  }

 private:
  void add(index_t extent, const index_t (&strides)[Views], bool alone) {
    if (extent == 1 && !alone) {
      return;
    }
    bool joins = count_ > 0 && !alone;
    for (int v = 0; v < Views && joins; ++v) {
      joins = strides_[v][count_ - 1] == strides[v] * extent;
    }
    if (!joins) {
      extents_[count_++] = 1;
    }
    extents_[count_ - 1] *= extent;
    for (int v = 0; v < Views; ++v) {
      strides_[v][count_ - 1] = strides[v];
    }
  }

  int count_ = 0;
  index_t extents_[most_dimensions + 1] = {};
  index_t strides_[Views][most_dimensions + 1] = {};
};

/// Whether all rows can be read in packs of `width` elements from their first one on, up to the
/// last whole pack.
template <class Element>
bool rows_in_packs(const row_numbers& numbers,
                   const row_places<Element>& view,
                   int width = pack<std::remove_const_t<Element>>::width) {
  bool result = view.step == 1 && reinterpret_cast<std::uintptr_t>(view.data) %
                                          (static_cast<std::size_t>(width) * sizeof(Element)) ==
                                      0;
  for (int d = 0; d < numbers.dimensions; ++d) {
    result = result && view.strides[d] % width == 0;
  }
  return result;
}

}  // namespace mtp::inline MTP_ABI::cuda_detail
