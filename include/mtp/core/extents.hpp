// Shapes that mix sizes known to the compiler with sizes known at run time.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <limits>
#include <ostream>
#include <utility>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// Stands for a size that is known at run time only.
inline constexpr index_t dynamic = -1;

namespace detail {

/// Whether the product of the sizes fits into index_t, with ones in place of sizes that are not
/// positive. Then the strides of a shape with a size of zero fit as well.
template <std::size_t Count>
constexpr bool product_fits(const std::array<index_t, Count>& sizes) {
  constexpr index_t half = index_t{1} << 31;  // of two factors below, no product is too large
  index_t product = 1;
  for (const index_t size : sizes) {
    const index_t factor = size > 1 ? size : 1;
    if ((product >= half || factor >= half) &&
        factor > (std::numeric_limits<index_t>::max)() / product) {
      return false;
    }
    product *= factor;
  }
  return true;
}

}  // namespace detail

/// The shape of a tensor: one size per dimension, each either static or `dynamic`, as in
/// `extents<dynamic, 256> shape{rows, 256}`. Throws mtp::error for a value that contradicts a
/// static size and for sizes whose product does not fit into index_t.
template <index_t... Sizes>
class extents {
  static_assert(((Sizes >= 0 || Sizes == dynamic) && ...),
                "extents: a static size must not be negative");
  static_assert(detail::product_fits(std::array<index_t, sizeof...(Sizes)>{Sizes...}),
                "extents: the product of the static sizes must fit into 64 bits");

 public:
  /// Number of dimensions.
  static constexpr int rank = static_cast<int>(sizeof...(Sizes));
  /// The sizes in the type; `dynamic` where only the value has them.
  static constexpr std::array<index_t, sizeof...(Sizes)> static_sizes{Sizes...};
  /// Whether all sizes are static.
  static constexpr bool is_static = ((Sizes != dynamic) && ...);

  /// A shape whose sizes are all static.
  constexpr extents() requires is_static = default;

  /// One value per dimension, static ones included. Throws as the constructor from an array does.
  template <class... Values>
  requires(sizeof...(Values) == sizeof...(Sizes) && sizeof...(Values) > 0 &&
           (std::convertible_to<Values, index_t> && ...)) constexpr explicit(sizeof...(Values) == 1)
      extents(Values... values)
      : extents(std::array<index_t, sizeof...(Sizes)>{static_cast<index_t>(values)...}) {}

  /// All sizes, static ones included. Throws mtp::error for a negative size, for a size that
  /// contradicts a static one, and for sizes whose product does not fit into index_t.
  constexpr explicit extents(const std::array<index_t, sizeof...(Sizes)>& values) : sizes_(values) {
    for (std::size_t d = 0; d < sizes_.size(); ++d) {
      check(sizes_[d] >= 0, "extents: size ", d, " must not be negative, got ", sizes_[d]);
      check(static_sizes[d] == dynamic || static_sizes[d] == sizes_[d],
            "extents: size ",
            d,
            " is fixed to ",
            static_sizes[d],
            ", got ",
            sizes_[d]);
    }
    check(detail::product_fits(sizes_),
          "extents: the product of the sizes ",
          *this,
          " does not fit into 64 bits");
  }

  /// From a shape of the same rank whose static sizes do not contradict these.
  template <index_t... Others>
  requires(sizeof...(Others) == sizeof...(Sizes)) constexpr extents(const extents<Others...>& other)
      : extents(other.sizes()) {
    static_assert(((Sizes == dynamic || Others == dynamic || Sizes == Others) && ...),
                  "extents: static sizes differ");
  }

  /// Size of a dimension, counted from 0; not checked.
  constexpr index_t operator[](int dimension) const {
    return sizes_[static_cast<std::size_t>(dimension)];
  }

  /// All sizes.
  constexpr const std::array<index_t, sizeof...(Sizes)>& sizes() const { return sizes_; }

  /// Number of elements; 1 for rank 0.
  constexpr index_t count() const {
    index_t product = 1;
    for (const index_t size : sizes_) {
      product *= size;
    }
    return product;
  }

  /// Whether ranks and sizes are equal; it does not matter which sizes are static.
  template <index_t... Others>
  friend constexpr bool operator==(const extents& a, const extents<Others...>& b) {
    if constexpr (sizeof...(Others) != sizeof...(Sizes)) {
      return false;
    } else {
      return a.sizes() == b.sizes();
    }
  }

  /// Writes the sizes as [2, 3].
  friend std::ostream& operator<<(std::ostream& out, const extents& shape) {
    out << '[';
    for (int d = 0; d < rank; ++d) {
      out << (d ? ", " : "") << shape[d];
    }
    return out << ']';
  }

 private:
  std::array<index_t, sizeof...(Sizes)> sizes_{Sizes...};
};

namespace detail {
template <class Dimensions>
struct dims_of;
template <std::size_t... Dimension>
struct dims_of<std::index_sequence<Dimension...>> {
  using type = extents<(static_cast<void>(Dimension), dynamic)...>;
};

template <class T>
inline constexpr bool is_extents = false;
template <index_t... Sizes>
inline constexpr bool is_extents<extents<Sizes...>> = true;
}  // namespace detail

/// The shape type with `Rank` dynamic sizes.
template <int Rank>
using dims =
    typename detail::dims_of<std::make_index_sequence<static_cast<std::size_t>(Rank)>>::type;

/// A type made by `extents`.
template <class T>
concept extents_type = detail::is_extents<T>;

}  // namespace mtp::inline MTP_ABI
