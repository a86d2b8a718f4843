// Elements written in the program in nested braces.
#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::detail {

template <class Element, int Rank>
struct nested {
  using type = std::initializer_list<typename nested<Element, Rank - 1>::type>;
};
template <class Element>
struct nested<Element, 0> {
  using type = Element;
};
template <storage_scalar Element>
struct nested<Element, 0> {
  using type = accumulate_t<Element>;
};

/// {1, 2} for rank 1, {{1, 2}, {3, 4}} for rank 2 and so on. A storage type is written in its
/// accumulator type: bf16 as float.
template <class Element, int Rank>
using nested_list = typename nested<Element, Rank>::type;

/// The sizes of a list, taken from the first part of each dimension. A size of 0 is followed by
/// zeros.
template <int Rank, class List>
void read_sizes(index_t* sizes, const List& list) {
  *sizes = static_cast<index_t>(list.size());
  if constexpr (Rank > 1) {
    if (list.size() > 0) {
      read_sizes<Rank - 1>(sizes + 1, *list.begin());
    }
  }
}
template <int Rank, class List>
std::array<index_t, static_cast<std::size_t>(Rank)> sizes_of_list(const List& list) {
  std::array<index_t, static_cast<std::size_t>(Rank)> sizes{};
  read_sizes<Rank>(sizes.data(), list);
  return sizes;
}

/// Calls store(element) for all elements in row-major order. Throws mtp::error at a part that has
/// not `sizes[0]` elements, before it stores one of them.
template <int Rank, class List, class Store>
void for_each_listed(const index_t* sizes, const List& list, const Store& store) {
  check(static_cast<index_t>(list.size()) == *sizes,
        "tensor: expected rows of one length, got ",
        *sizes,
        " and ",
        list.size(),
        " elements; nested braces hold elements, so write a shape by its type: "
        "tensor(dims<2>(2, 3), {..})");
  for (const auto& part : list) {
    if constexpr (Rank > 1) {
      for_each_listed<Rank - 1>(sizes + 1, part, store);
    } else {
      store(part);
    }
  }
}

}  // namespace mtp::inline MTP_ABI::detail
