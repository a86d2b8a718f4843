// Owning tensors.
#pragma once

#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/extents.hpp"
#include "mtp/core/nested_list.hpp"
#include "mtp/core/operand.hpp"
#include "mtp/core/refusal.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI {

/// A contiguous block of a backend's memory. Move-only. Its bytes start as zero.
template <class Element, class Backend>
class buffer {
  static_assert(backend<Backend>,
                "buffer: include the backend's header first, e.g. <mtp/backend/cpu.hpp>");
  static_assert(std::is_trivially_copyable_v<Element>,
                "buffer: elements must be trivially copyable");

 public:
  /// No elements.
  buffer() = default;
  /// `count` elements. Throws mtp::error for a negative number, for more bytes than index_t can
  /// count, and when memory runs out.
  explicit buffer(index_t count) : count_(count) {
    constexpr auto size = static_cast<index_t>(sizeof(Element));
    check(count >= 0, "buffer: the number of elements must not be negative, got ", count);
    check(count <= (std::numeric_limits<index_t>::max)() / size,
          "buffer: ",
          count,
          " elements of ",
          size,
          " bytes do not fit into memory");
    if (count > 0) {
      data_ = static_cast<Element*>(backend_traits<Backend>::allocate(bytes()));
    }
  }
  /// `count` elements at `data`, which some other way of getting memory has made, such as a file in
  /// memory. In the end, release(data, bytes) is called, unless there are none.
  buffer(Element* data, index_t count, void (*release)(void* data, std::size_t bytes)) noexcept
      : data_(count > 0 ? data : nullptr), count_(count), release_(release) {}
  /// Takes the memory; `other` is empty afterwards.
  buffer(buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        count_(std::exchange(other.count_, 0)),
        release_(other.release_) {}
  /// Swaps the memory.
  buffer& operator=(buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    std::swap(release_, other.release_);
    return *this;
  }
  ~buffer() {
    if (data_ != nullptr && release_ != nullptr) {
      release_(data_, bytes());
    } else if (data_ != nullptr) {
      backend_traits<Backend>::deallocate(data_, bytes());
    }
  }

  /// The elements, in the backend's memory; null if there are none.
  Element* data() { return data_; }
  /// Read-only.
  const Element* data() const { return data_; }
  /// Number of elements.
  index_t count() const { return count_; }
  /// Their size in bytes.
  std::size_t bytes() const { return static_cast<std::size_t>(count_) * sizeof(Element); }

 private:
  Element* data_ = nullptr;
  index_t count_ = 0;
  void (*release_)(void* data, std::size_t bytes) = nullptr;  // null: the backend's
};

namespace detail {

/// The elements of a tensor in row-major order, copied to the host. Not a vector, because a vector
/// of bool holds no array of bool.
template <class Tensor>
auto copied(const Tensor& x) {
  using element = typename Tensor::value_type;
  const auto count = static_cast<std::size_t>(x.count());
  auto elements = std::make_unique<element[]>(count);
  backend_traits<typename Tensor::view_type::backend_type>::copy_to_host(
      elements.get(), x.data(), count * sizeof(element));
  return elements;
}

}  // namespace detail

/// A tensor that owns its elements: a buffer with a shape, row-major and contiguous, zero at first.
/// Move-only, because copies of large tensors should be visible: call `mtp::copy(context,
/// destination, source)`. Operations take tensors and views alike.
template <class Element, extents_type Shape, class Backend>
class tensor {
  static_assert(backend<Backend>,
                "tensor: include the backend's header first, e.g. <mtp/backend/cpu.hpp>");

 public:
  /// Type of the elements.
  using value_type = Element;
  /// Type of the shape: an `extents`.
  using shape_type = Shape;
  /// The result of view().
  using view_type = mtp::view<Element, Shape, Backend>;
  /// The result of view() of a const tensor.
  using const_view_type = mtp::view<const Element, Shape, Backend>;

  /// A tensor of zeros, with the shape in its type.
  tensor() requires Shape::is_static : tensor(Shape{}) {}
  /// Refuses a type with dynamic sizes. A template, so that explicit instantiations leave it out.
  template <class Caller = void>
  tensor() requires(!Shape::is_static) : tensor(detail::refused<Shape>()) {
    static_assert(!std::is_void_v<Caller>,
                  "tensor: the type leaves sizes open; construct it from a shape, as in "
                  "tensor(dims<2>(2, 3))");
  }
  /// A tensor of zeros.
  explicit tensor(const Shape& shape) : shape_(shape), elements_(shape.count()) {}

  /// From elements in row-major order on the host. Throws mtp::error if their number does not match
  /// the shape.
  tensor(const Shape& shape, std::span<const Element> elements) : tensor(shape) {
    check(static_cast<index_t>(elements.size()) == shape.count(),
          "tensor: expected ",
          shape.count(),
          " elements for shape ",
          shape,
          ", got ",
          elements.size());
    backend_traits<Backend>::copy_from_host(elements_.data(), elements.data(), elements_.bytes());
  }
  /// The same for elements written in the program.
  tensor(const Shape& shape, std::initializer_list<Element> elements)
      : tensor(shape, std::span<const Element>(elements.begin(), elements.size())) {}
  /// From elements in nested braces, which define the shape: `{{1, 2}, {3, 4}}` has shape [2, 2].
  /// Throws mtp::error for rows of different lengths and for sizes that contradict those of the
  /// type.
  tensor(detail::nested_list<Element, Shape::rank> elements) requires(Shape::rank > 0)
      : tensor(Shape(detail::sizes_of_list<Shape::rank>(elements))) {
    const auto all = std::make_unique<Element[]>(static_cast<std::size_t>(count()));
    Element* next = all.get();
    detail::for_each_listed<Shape::rank>(
        shape_.sizes().data(), elements, [&](const auto& element) { *next++ = Element(element); });
    backend_traits<Backend>::copy_from_host(elements_.data(), all.get(), elements_.bytes());
  }

  /// A view of all elements, valid until the tensor is moved or destroyed.
  view_type view() & { return {elements_.data(), shape_}; }
  /// Read-only.
  const_view_type view() const& { return {elements_.data(), shape_}; }
  /// Refuses temporaries.
  template <class Caller = void>
  const_view_type view() && {
    static_assert(
        detail::never<Caller>,
        "tensor::view: the view of a temporary tensor would outlive it; give the tensor a "
        "name, or give the operation the tensor itself");
    return std::as_const(*this).view();
  }
  /// Converts to a view, with static or dynamic sizes, where one is expected. A temporary tensor
  /// does not convert to a view that writes.
  template <class Other, extents_type OtherShape>
  requires(std::convertible_to<view_type, mtp::view<Other, OtherShape, Backend>>)
  operator mtp::view<Other, OtherShape, Backend>() & {
    return view();
  }
  /// Read-only.
  template <class Other, extents_type OtherShape>
  requires(std::convertible_to<const_view_type, mtp::view<Other, OtherShape, Backend>>)
  operator mtp::view<Other, OtherShape, Backend>() const& {
    return view();
  }

  /// The size of each dimension.
  const Shape& shape() const { return shape_; }
  /// Size of a dimension, counted from 0.
  index_t extent(int dimension) const { return shape_[dimension]; }
  /// Number of elements.
  index_t count() const { return elements_.count(); }
  /// The elements in row-major order, in the backend's memory.
  Element* data() { return elements_.data(); }
  /// Read-only.
  const Element* data() const { return elements_.data(); }

  /// One element, for memory of the host; indices are not checked.
  template <class... Indices>
  Element& operator()(Indices... indices) {
    static_assert(backend_traits<Backend>::is_host_memory,
                  "tensor::operator(): the elements lie on a device; copy them with to_host()");
    return view()(indices...);
  }
  /// Read-only.
  template <class... Indices>
  const Element& operator()(Indices... indices) const {
    static_assert(backend_traits<Backend>::is_host_memory,
                  "tensor::operator(): the elements lie on a device; copy them with to_host()");
    return view()(indices...);
  }

  /// One element, for memory of the host. Throws mtp::error for an index that does not exist.
  template <class... Indices>
  Element& at(Indices... indices) {
    return view().at(indices...);
  }
  /// Read-only.
  template <class... Indices>
  const Element& at(Indices... indices) const {
    return view().at(indices...);
  }

  /// The first element in row-major order, for memory of the host.
  template <class Memory = Backend>
  requires host_accessible<Memory> Element* begin() { return data(); }
  /// Read-only.
  template <class Memory = Backend>
  requires host_accessible<Memory>
  const Element* begin() const { return data(); }
  /// One past the last element.
  template <class Memory = Backend>
  requires host_accessible<Memory> Element* end() { return data() + count(); }
  /// Read-only.
  template <class Memory = Backend>
  requires host_accessible<Memory>
  const Element* end() const { return data() + count(); }

  /// The same tensor in the memory of another backend.
  template <class Other>
  [[nodiscard("tensor::to: the tensor itself stays where it is")]] tensor<Element, Shape, Other>
  to() const {
    const auto elements = detail::copied(*this);
    return {shape_, std::span<const Element>(elements.get(), static_cast<std::size_t>(count()))};
  }

  /// The elements in row-major order, copied to the host.
  [[nodiscard("tensor::to_host: the tensor itself stays where it is")]] std::vector<Element>
  to_host() const {
    if constexpr (std::same_as<Element, bool>) {  // a vector of bits, which has no memory of bool
      const auto elements = detail::copied(*this);
      return std::vector<Element>(elements.get(), elements.get() + count());
    } else {
      std::vector<Element> elements(static_cast<std::size_t>(count()));
      backend_traits<Backend>::copy_to_host(elements.data(), elements_.data(), elements_.bytes());
      return elements;
    }
  }

 private:
  Shape shape_;
  buffer<Element, Backend> elements_;
};

}  // namespace mtp::inline MTP_ABI
