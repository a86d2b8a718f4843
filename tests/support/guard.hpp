// Tensors that notice what an operation must not do: write beside its output, or leave some of it
// out.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "mtp/core/extents.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"
#include "support/backends.hpp"

namespace mtp::test {

/// An element that stands where nobody may write. It is a NaN, so that reading it shows too, with
/// bits that no arithmetic produces.
template <class Element>
Element poison() {
  if constexpr (std::is_same_v<Element, double>) {
    return std::bit_cast<double>(std::uint64_t{0x7ff8'5a5a'5a5a'5a5a});
  } else if constexpr (std::is_same_v<Element, float>) {
    return std::bit_cast<float>(std::uint32_t{0x7fc5'5a5a});
  } else if constexpr (std::is_same_v<Element, bf16>) {
    return bf16::from_bits(0x7fd5);
  } else {
    return static_cast<Element>(0x5a5a'5a5a);
  }
}

/// An element that an operation that overwrites must replace.
template <class Element>
Element unwritten() {
  if constexpr (std::is_same_v<Element, bf16>) {
    return bf16(std::numeric_limits<float>::quiet_NaN());
  } else if constexpr (std::is_floating_point_v<Element>) {
    return std::numeric_limits<Element>::quiet_NaN();
  } else {
    return static_cast<Element>(-0x3bad);
  }
}

/// `value` as S, rounded once (to bf16 via float).
template <class Element>
Element stored(double value) {
  if constexpr (std::is_same_v<Element, bf16>) {
    return bf16(static_cast<float>(value));
  } else {
    return static_cast<Element>(value);
  }
}

/// A tensor between guard zones, in memory that the host and the backend's operations address.
/// Elements start as NaN. With strides that leave gaps, the gaps are guarded as well.
template <class Element, int Rank, class Backend>
class guarded {
 public:
  using shape_type = dims<Rank>;
  using view_type = mtp::view<Element, shape_type, Backend>;
  using const_view_type = mtp::view<const Element, shape_type, Backend>;
  using strides_type = typename view_type::strides_type;

  /// Contiguous.
  explicit guarded(const shape_type& shape) : guarded(shape, view_type::row_major(shape)) {}

  /// With strides, none of them negative.
  guarded(const shape_type& shape, const strides_type& strides) : shape_(shape), strides_(strides) {
    index_t span = shape.count() > 0 ? 1 : 0;
    for (int d = 0; d < Rank && span > 0; ++d) {
      span += (shape[d] - 1) * strides[static_cast<std::size_t>(d)];
    }
    memory_.assign(static_cast<std::size_t>(span + 2 * zone), poison<Element>());
    covered_.assign(memory_.size(), false);
    for_each([&](std::size_t at, index_t) {
      memory_[at] = unwritten<Element>();
      covered_[at] = true;
    });
    remember();
  }

  /// With elements in row-major order, for inputs and for outputs that are added to.
  guarded(const shape_type& shape, const strides_type& strides, const std::vector<double>& elements)
      : guarded(shape, strides) {
    set(elements);
  }
  template <std::same_as<std::vector<double>> Elements>  // so that {1, 2} can only be strides
  guarded(const shape_type& shape, const Elements& elements)
      : guarded(shape, view_type::row_major(shape), elements) {}

  void set(const std::vector<double>& elements) {
    testing<Backend>::settle();
    check(static_cast<index_t>(elements.size()) == shape_.count(),
          "guarded::set: expected ",
          shape_.count(),
          " elements, got ",
          elements.size());
    for_each([&](std::size_t at, index_t i) {
      memory_[at] = stored<Element>(elements[static_cast<std::size_t>(i)]);
    });
    remember();
  }

  /// For operations and for the host.
  view_type view() {
    testing<Backend>::settle();
    return {memory_.data() + zone, shape_, strides_};
  }
  const_view_type view() const {
    testing<Backend>::settle();
    return {memory_.data() + zone, shape_, strides_};
  }

  /// Nothing was written outside the elements.
  bool intact() const {
    testing<Backend>::settle();
    for (std::size_t at = 0; at < memory_.size(); ++at) {
      if (!covered_[at] && std::memcmp(&memory_[at], &start_[at], sizeof(Element)) != 0) {
        return false;
      }
    }
    return true;
  }

  /// Nothing was written at all since the beginning or the last set().
  bool untouched() const {
    testing<Backend>::settle();
    return std::memcmp(memory_.data(), start_.data(), memory_.size() * sizeof(Element)) == 0;
  }

 private:
  static constexpr index_t zone = 64;  // elements: more than a panel or a vector

  void remember() { start_.assign(memory_.begin(), memory_.end()); }

  template <class Body>
  void for_each(const Body& body) {
    for (index_t i = 0; i < shape_.count(); ++i) {
      index_t offset = zone, rest = i;
      for (int d = Rank - 1; d >= 0; --d) {
        offset += rest % shape_[d] * strides_[static_cast<std::size_t>(d)];
        rest /= shape_[d];
      }
      body(static_cast<std::size_t>(offset), i);
    }
  }

  shape_type shape_;
  strides_type strides_;
  std::vector<Element, shared_allocator<Element, Backend>> memory_;
  std::vector<Element> start_;
  std::vector<bool> covered_;
};

}  // namespace mtp::test
