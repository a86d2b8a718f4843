// Non-owning views of tensors, typed by element, shape and backend.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/extents.hpp"
#include "mtp/core/refusal.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// A reference to elements in a backend's memory, with a shape and one stride per dimension, in
/// elements. A copy of a view refers to the same elements. A view of `const` elements is read-only.
/// operator() accesses an element where the memory belongs to the host.
template <class Element, extents_type Shape, class Backend>
class view {
 public:
  using element_type = Element;                     ///< type of the elements, `const` if read-only
  using value_type = std::remove_const_t<Element>;  ///< the same without `const`
  using shape_type = Shape;                         ///< type of the shape: an `extents`
  using backend_type = Backend;                     ///< the backend that owns the memory
  static constexpr int rank = Shape::rank;          ///< number of dimensions
  /// One stride per dimension.
  using strides_type = std::array<index_t, static_cast<std::size_t>(rank)>;
  /// A part of the view.
  using part_type = view<Element, dims<rank>, Backend>;
  /// A part of the view with one dimension fixed.
  using selected_type = view<Element, dims<(rank > 0 ? rank - 1 : 0)>, Backend>;

  /// Contiguous, row-major: the last dimension has stride 1.
  constexpr view(Element* data, const Shape& shape)
      : data_(data), shape_(shape), strides_(row_major(shape)) {}

  /// Element (i, j, ..) lies at data[i strides[0] + j strides[1] + ..].
  constexpr view(Element* data, const Shape& shape, const strides_type& strides)
      : data_(data), shape_(shape), strides_(strides) {}

  /// Adds const, and drops or checks static sizes. Throws mtp::error where a size differs.
  template <class Other, extents_type OtherShape>
  requires(std::convertible_to<Other (*)[], Element (*)[]>&& OtherShape::rank ==
           rank) constexpr view(const view<Other, OtherShape, Backend>& other)
      : data_(other.data()), shape_(other.shape()), strides_(other.strides()) {}

  /// Refuses other views. Explicit, so that only a requested conversion fails with the message.
  template <class Other, class OtherShape, class OtherBackend>
  constexpr explicit view(const view<Other, OtherShape, OtherBackend>&)
      : view(nullptr, detail::refused<Shape>()) {
    static_assert(std::same_as<OtherBackend, Backend>,
                  "view: the elements belong to another backend; copy them with tensor::to()");
    static_assert(std::same_as<std::remove_const_t<Other>, value_type>,
                  "view: the element types differ; convert elements with mtp::copy");
    static_assert(std::is_const_v<Element> || !std::is_const_v<Other>,
                  "view: a view of const elements cannot become one that writes");
    static_assert(OtherShape::rank == rank, "view: the ranks differ");
  }

  /// The element whose indices are all 0.
  constexpr Element* data() const { return data_; }
  /// The size of each dimension.
  constexpr const Shape& shape() const { return shape_; }
  /// The stride of each dimension, in elements.
  constexpr const strides_type& strides() const { return strides_; }
  /// Size of a dimension, counted from 0.
  constexpr index_t extent(int dimension) const { return shape_[dimension]; }
  /// Stride of a dimension, in elements.
  constexpr index_t stride(int dimension) const {
    return strides_[static_cast<std::size_t>(dimension)];
  }
  /// Number of elements.
  constexpr index_t count() const { return shape_.count(); }
  /// Whether there are no elements.
  constexpr bool empty() const { return count() == 0; }
  /// Whether the elements are contiguous in row-major order.
  constexpr bool is_contiguous() const { return strides_ == row_major(shape_); }

  /// One element, for memory of the host; indices are not checked.
  template <class... Indices>
  requires(sizeof...(Indices) == static_cast<std::size_t>(rank) &&
           (std::convertible_to<Indices, index_t> && ...)) constexpr Element&
  operator()(Indices... indices) const {
    index_t offset = 0;
    std::size_t d = 0;
    ((offset += static_cast<index_t>(indices) * strides_[d++]), ...);
    return data_[offset];
  }

  /// One element, for memory of the host. Throws mtp::error for an index that does not exist.
  template <class... Indices>
  constexpr Element& at(Indices... indices) const {
    static_assert(host_accessible<Backend>,
                  "view::at: the elements lie on a device; copy them with tensor::to_host()");
    static_assert(sizeof...(Indices) == static_cast<std::size_t>(rank),
                  "view::at: expected one index for each dimension");
    int d = 0;
    (check_index(d++, static_cast<index_t>(indices)), ...);
    return (*this)(indices...);
  }

  /// The first element in row-major order, for memory of the host. Throws mtp::error unless the
  /// view is contiguous; clone() makes a contiguous copy.
  template <class Memory = Backend>  // asked when it is called: clang 14 asks too early otherwise
  requires host_accessible<Memory>
  constexpr Element* begin() const {
    check(is_contiguous(),
          "view::begin: the view of shape ",
          shape_,
          " is not contiguous; make a contiguous copy with mtp::clone(context, view)");
    return data_;
  }
  /// One past the last element. Throws as begin() does.
  template <class Memory = Backend>
  requires host_accessible<Memory>
  constexpr Element* end() const { return begin() + count(); }

  /// The part [first, first + count) along one dimension. Throws mtp::error if it is out of range.
  [[nodiscard("view::slice: the view itself stays as it is")]] constexpr part_type slice(
      int dimension, index_t first, index_t count) const {
    check(dimension >= 0 && dimension < rank,
          "view::slice: expected a dimension in [0, ",
          rank,
          "), got ",
          dimension);
    check(first >= 0 && count >= 0 && count <= extent(dimension) - first,
          "view::slice: [",
          first,
          ", ",
          first,
          " + ",
          count,
          ") does not lie in [0, ",
          extent(dimension),
          ")");
    auto sizes = shape_.sizes();
    sizes[static_cast<std::size_t>(dimension)] = count;
    return {data_ + first * stride(dimension), dims<rank>(sizes), strides_};
  }

  /// Elements first, first + step, .. along one dimension, `count` of them. Throws mtp::error if
  /// one is out of range or step < 1.
  [[nodiscard("view::slice: the view itself stays as it is")]] constexpr part_type slice(
      int dimension, index_t first, index_t count, index_t step) const {
    check(step >= 1, "view::slice: expected a step of at least 1, got ", step);
    check(dimension >= 0 && dimension < rank,
          "view::slice: expected a dimension in [0, ",
          rank,
          "), got ",
          dimension);
    check(first >= 0 && count >= 0 && first <= extent(dimension) &&
              (count == 0 ||
               (first < extent(dimension) && count - 1 <= (extent(dimension) - 1 - first) / step)),
          "view::slice: ",
          count,
          " elements from ",
          first,
          " on in steps of ",
          step,
          " do not lie in [0, ",
          extent(dimension),
          ")");
    auto sizes = shape_.sizes();
    auto strides = strides_;
    sizes[static_cast<std::size_t>(dimension)] = count;
    // One element or none takes no step, and the product might not fit.
    strides[static_cast<std::size_t>(dimension)] *= count > 1 ? step : 1;
    return {data_ + first * stride(dimension), dims<rank>(sizes), strides};
  }

  /// Fixes one dimension to `index`; the rank drops by one. Throws mtp::error if the dimension or
  /// the index is out of range.
  [[nodiscard("view::select: the view itself stays as it is")]] constexpr selected_type select(
      int dimension, index_t index) const requires(rank > 0) {
    check(dimension >= 0 && dimension < rank,
          "view::select: expected a dimension in [0, ",
          rank,
          "), got ",
          dimension);
    check(index >= 0 && index < extent(dimension),
          "view::select: index ",
          index,
          " does not lie in [0, ",
          extent(dimension),
          ")");
    std::array<index_t, static_cast<std::size_t>(rank - 1)> sizes{}, strides{};
    for (int d = 0, to = 0; d < rank; ++d) {
      if (d != dimension) {
        sizes[static_cast<std::size_t>(to)] = extent(d);
        strides[static_cast<std::size_t>(to++)] = stride(d);
      }
    }
    return {data_ + index * stride(dimension), dims<rank - 1>(sizes), strides};
  }

  /// Swaps two dimensions; no element moves. Throws mtp::error if a dimension is out of range.
  [[nodiscard("view::transpose: the view itself stays as it is")]] constexpr part_type transpose(
      int a = rank - 2, int b = rank - 1) const requires(rank >= 2) {
    check(a >= 0 && a < rank && b >= 0 && b < rank,
          "view::transpose: expected dimensions in [0, ",
          rank,
          "), got ",
          a,
          " and ",
          b);
    auto sizes = shape_.sizes();
    auto strides = strides_;
    std::swap(sizes[static_cast<std::size_t>(a)], sizes[static_cast<std::size_t>(b)]);
    std::swap(strides[static_cast<std::size_t>(a)], strides[static_cast<std::size_t>(b)]);
    return {data_, dims<rank>(sizes), strides};
  }

  /// The same elements with another shape. Throws mtp::error unless the view is contiguous and the
  /// number of elements stays the same.
  template <extents_type Other>
  [[nodiscard(
      "view::reshape: the view itself stays as it is")]] constexpr view<Element, Other, Backend>
  reshape(const Other& shape) const {
    check(is_contiguous(), "view::reshape: the view of shape ", shape_, " is not contiguous");
    check(shape.count() == count(),
          "view::reshape: expected ",
          count(),
          " elements, got shape ",
          shape);
    return {data_, shape};
  }

  /// The strides of contiguous elements in row-major order.
  static constexpr strides_type row_major(const Shape& shape) {
    strides_type strides{};
    index_t stride = 1;
    for (int d = rank - 1; d >= 0; --d) {
      strides[static_cast<std::size_t>(d)] = stride;
      stride *= shape[d];
    }
    return strides;
  }

 private:
  constexpr void check_index(int dimension, index_t index) const {
    check(index >= 0 && index < extent(dimension),
          "view::at: index ",
          index,
          " of dimension ",
          dimension,
          " does not lie in [0, ",
          extent(dimension),
          "), the shape is ",
          shape_);
  }

  Element* data_;
  Shape shape_;
  strides_type strides_;
};

/// A view of rank 1 whose size is known at run time only.
template <class Element, class Backend>
using vector_view = view<Element, dims<1>, Backend>;
/// A view of rank 2 whose sizes are known at run time only.
template <class Element, class Backend>
using matrix_view = view<Element, dims<2>, Backend>;

}  // namespace mtp::inline MTP_ABI
