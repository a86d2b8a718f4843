// Tensors and views as text.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <type_traits>
#include <vector>

#include "mtp/core/default_environment.hpp"
#include "mtp/core/equality.hpp"
#include "mtp/core/extents.hpp"
#include "mtp/core/operand.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// A tensor with more elements is printed without the middle of its longer dimensions.
inline constexpr index_t most_printed = 1000;
/// Elements printed at each end of such a dimension.
inline constexpr index_t printed_edge = 3;

template <class Element>
constexpr const char* element_name() {
  if constexpr (scalar<Element>) {
    return scalar_traits<Element>::name;
  } else if constexpr (std::is_same_v<Element, bool>) {
    return "bool";
  } else {
    static_assert(std::is_integral_v<Element>,
                  "operator<<: the elements are neither numbers nor truth values");
    constexpr const char* with_sign[] = {"i8", "i16", "i32", "i64"};
    constexpr const char* without[] = {"u8", "u16", "u32", "u64"};
    constexpr int size = sizeof(Element) == 1   ? 0
                         : sizeof(Element) == 2 ? 1
                         : sizeof(Element) == 4 ? 2
                                                : 3;
    return std::is_signed_v<Element> ? with_sign[size] : without[size];
  }
}

/// At most 6 significant digits, whatever the locale.
template <class Element>
std::string element_text(const Element& element) {
  char text[32];
  std::to_chars_result end{};
  if constexpr (scalar<Element>) {
    end = std::to_chars(
        text, text + sizeof(text), static_cast<double>(element), std::chars_format::general, 6);
  } else {
    end = std::to_chars(text, text + sizeof(text), static_cast<long long>(element));
  }
  return {text, end.ptr};
}

/// Writes a view of the host as nested brackets.
template <class View>
class printer {
 public:
  explicit printer(const View& x) : x_(x), elides_(x.count() > most_printed) {}

  std::string text() {
    const detail::default_environment scope;
    for_each(0, 0, [&](index_t at) { width_ = (std::max)(width_, cell(at).size()); });
    write(0, 0);
    return std::move(text_);
  }

 private:
  std::string cell(index_t at) const { return element_text(x_.data()[at]); }

  /// How many elements in the middle of a dimension are not printed.
  index_t left_out(int d) const {
    return elides_ && x_.extent(d) > 2 * printed_edge ? x_.extent(d) - 2 * printed_edge : 0;
  }

  template <class Function>
  void for_each(int d, index_t at, const Function& function) {
    if (d == View::rank) {
      function(at);
      return;
    }
    for (index_t i = 0; i < x_.extent(d); ++i) {
      if (left_out(d) > 0 && i == printed_edge) {
        i += left_out(d);
      }
      for_each(d + 1, at + i * stride(d), function);
    }
  }

  void write(int d, index_t at) {
    if (d == View::rank) {
      const std::string element = cell(at);
      text_.append(width_ - element.size(), ' ') += element;
      return;
    }
    const bool last = d == View::rank - 1;
    text_ += '[';
    for (index_t i = 0; i < x_.extent(d); ++i) {
      if (i > 0) {
        separate(d, last);
      }
      if (left_out(d) > 0 && i == printed_edge) {
        text_ += "...";
        separate(d, last);
        i += left_out(d);
      }
      write(d + 1, at + i * stride(d));
    }
    text_ += ']';
  }

  void separate(int d, bool last) {
    if (last) {
      text_ += ", ";
    } else {
      text_ += ',';
      text_.append(static_cast<std::size_t>(View::rank - 1 - d), '\n');
      text_.append(static_cast<std::size_t>(d + 1), ' ');
    }
  }

  index_t stride(int d) const { return x_.strides()[static_cast<std::size_t>(d)]; }

  const View& x_;
  bool elides_;
  std::size_t width_ = 0;
  std::string text_;
};

}  // namespace detail

/// Writes element type and shape, and the elements in nested brackets on the lines below:
///
///     f32 [2, 3]
///     [[  1,   2,   3],
///      [0.5, nan, inf]]
///
/// Numbers have six significant digits, whatever the locale and the stream's format. With more than
/// 1000 elements, only three at each end of a dimension are printed. Tensors on a device are copied
/// to the host.
template <detail::operand X>
std::ostream& operator<<(std::ostream& out, const X& x) {
  const std::string text = detail::with_host_view(x, [](const auto& elements) {
    return detail::printer<std::remove_cvref_t<decltype(elements)>>(elements).text();
  });
  return out << detail::element_name<detail::element_of<X>>() << ' ' << x.shape() << '\n' << text;
}

}  // namespace mtp::inline MTP_ABI
