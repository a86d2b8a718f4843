// Owning tensors.
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/extents.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI {

/// A contiguous block of a backend's memory. Move-only; its elements start as zero bytes.
template <class Element, class Backend>
class buffer {
  static_assert(backend<Backend>,
                "buffer: include the backend's header first, e.g. <mtp/backend/cpu.hpp>");
  static_assert(std::is_trivially_copyable_v<Element>,
                "buffer: elements must be trivially copyable");

 public:
  buffer() = default;
  explicit buffer(index_t count) : count_(count) {
    check(count >= 0, "buffer: the number of elements must not be negative, got ", count);
    if (count > 0) {
      data_ = static_cast<Element*>(backend_traits<Backend>::allocate(bytes()));
    }
  }
  buffer(buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
  buffer& operator=(buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~buffer() {
    if (data_ != nullptr) {
      backend_traits<Backend>::deallocate(data_, bytes());
    }
  }

  Element* data() { return data_; }
  const Element* data() const { return data_; }
  index_t count() const { return count_; }
  std::size_t bytes() const { return static_cast<std::size_t>(count_) * sizeof(Element); }

 private:
  Element* data_ = nullptr;
  index_t count_ = 0;
};

/// An owning tensor: a buffer with a shape. Row-major and contiguous; zero when made. Move-only,
/// because a copy of a large tensor should be seen: write `mtp::copy(context, destination.view(),
/// source.view())`.
template <class Element, extents_type Shape, class Backend>
class tensor {
 public:
  using value_type = Element;
  using shape_type = Shape;
  using view_type = mtp::view<Element, Shape, Backend>;
  using const_view_type = mtp::view<const Element, Shape, Backend>;

  tensor() requires Shape::is_static : tensor(Shape{}) {}
  explicit tensor(const Shape& shape) : shape_(shape), elements_(shape.count()) {}

  /// From elements in row-major order on the host.
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
  tensor(const Shape& shape, std::initializer_list<Element> elements)
      : tensor(shape, std::span<const Element>(elements.begin(), elements.size())) {}

  view_type view() { return {elements_.data(), shape_}; }
  const_view_type view() const { return {elements_.data(), shape_}; }
  operator view_type() { return view(); }
  operator const_view_type() const { return view(); }

  const Shape& shape() const { return shape_; }
  index_t extent(int dimension) const { return shape_[dimension]; }
  index_t count() const { return elements_.count(); }
  Element* data() { return elements_.data(); }
  const Element* data() const { return elements_.data(); }

  template <class... Indices>
  Element& operator()(Indices... indices) {
    static_assert(backend_traits<Backend>::is_host_memory,
                  "tensor::operator(): the elements lie on a device; copy them with to_host()");
    return view()(indices...);
  }
  template <class... Indices>
  const Element& operator()(Indices... indices) const {
    static_assert(backend_traits<Backend>::is_host_memory,
                  "tensor::operator(): the elements lie on a device; copy them with to_host()");
    return view()(indices...);
  }

  /// The same tensor in the memory of another backend.
  template <class Other>
  tensor<Element, Shape, Other> to() const {
    return {shape_, std::span<const Element>(to_host())};
  }

  /// The elements in row-major order.
  std::vector<Element> to_host() const {
    std::vector<Element> elements(static_cast<std::size_t>(count()));
    backend_traits<Backend>::copy_to_host(elements.data(), elements_.data(), elements_.bytes());
    return elements;
  }

 private:
  Shape shape_;
  buffer<Element, Backend> elements_;
};

}  // namespace mtp::inline MTP_ABI
