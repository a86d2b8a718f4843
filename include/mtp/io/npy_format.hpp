// The header of NumPy's .npy files: element type, shape, and order of the elements.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/safetensors_format.hpp"
#include "mtp/io/small_floats.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// The content of a header.
struct npy_header {
  std::string type;            // "<f4"
  bool fortran_order = false;  // the first index varies fastest
  std::vector<index_t> shape;
};

inline constexpr std::string_view npy_magic{"\x93NUMPY", 6};
inline constexpr std::size_t npy_prefix_bytes = 12;  // of version 2 and 3; 10 of version 1
inline constexpr std::uint64_t most_npy_header_bytes = 1'000'000;  // what follows the prefix
inline constexpr std::size_t most_npy_dimensions = 64;             // as in NumPy 2
inline constexpr std::size_t npy_alignment = 64;

/// Bytes of an element of that type; 0 for a type that is not supported.
constexpr index_t npy_element_size(std::string_view type) {
  constexpr std::array<std::string_view, 7> names{"<f8", "<f4", "<f2", "<i8", "<i4", "|u1", "|b1"};
  constexpr std::array<index_t, 7> sizes{8, 4, 2, 8, 4, 1, 1};
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == type) return sizes[i];
  }
  return 0;
}

/// The type in which elements of Element are written: itself, or its accumulator type where NumPy
/// has no such type, as for bf16. The conversion is exact.
template <class Element>
struct npy_stored {
  using type = Element;
};
template <scalar S>
requires(std::string_view(scalar_traits<S>::npy_name).empty()) struct npy_stored<S> {
  using type = accumulate_t<S>;
};

/// NumPy's name of that type.
template <class Element>
constexpr std::string_view npy_type() {
  using stored = typename npy_stored<Element>::type;
  if constexpr (scalar<stored>) {
    return scalar_traits<stored>::npy_name;
  } else {
    constexpr element type = element_of<stored>();
    return type == element::i64 ? "<i8" : type == element::i32 ? "<i4" : "|u1";
  }
}

/// Whether elements of a file of that type are read into Element: f16 becomes f32, and bool becomes
/// bytes.
template <class Element>
constexpr bool npy_reads(std::string_view type) {
  static_assert(std::same_as<Element, typename npy_stored<Element>::type>,
                "load: NumPy has no such element type; load its accumulator type and convert with "
                "mtp::copy");
  return type == npy_type<Element>() || (std::same_as<Element, float> && type == "<f2") ||
         (std::same_as<Element, std::uint8_t> && type == "|b1");
}

/// Parses the Python dictionary of a header strictly: three entries, each once, with literals only.
class npy_parser {
 public:
  /// Messages begin with `where`.
  npy_parser(const std::string& where, std::string_view text) : where_(where), text_(text) {}

  npy_header parse() {
    npy_header header;
    bool has_type = false, has_order = false, has_shape = false;
    expect('{');
    while (!take('}')) {
      const std::string key = string();
      expect(':');
      if (key == "descr" && !has_type) {
        has_type = true;
        skip();
        require(at_ < text_.size() && text_[at_] != '[' && text_[at_] != '(',
                "structured elements are not read");
        header.type = string();
      } else if (key == "fortran_order" && !has_order) {
        has_order = true;
        header.fortran_order = truth();
      } else if (key == "shape" && !has_shape) {
        has_shape = true;
        header.shape = tuple();
      } else {
        require(false, "the key '", key, "' is unknown or comes twice");
      }
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    skip();
    require(at_ == text_.size(), "something follows the dictionary at byte ", at_);
    require(has_type && has_order && has_shape,
            "expected the keys 'descr', 'fortran_order' and 'shape'");
    return header;
  }

 private:
  template <class... Parts>
  void require(bool holds, const Parts&... parts) const {
    check(holds, where_, "the header: ", parts...);
  }
  void skip() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) {
      ++at_;
    }
  }
  bool take(char wanted) {
    skip();
    const bool there = at_ < text_.size() && text_[at_] == wanted;
    at_ += there ? 1 : 0;
    return there;
  }
  void expect(char wanted) { require(take(wanted), "expected '", wanted, "' at byte ", at_); }
  std::string string() {
    skip();
    require(at_ < text_.size() && (text_[at_] == '\'' || text_[at_] == '"'),
            "expected a string at byte ",
            at_);
    const std::size_t end = text_.find(text_[at_], at_ + 1);
    require(end != std::string_view::npos, "the string at byte ", at_, " does not end");
    const std::string_view inside = text_.substr(at_ + 1, end - at_ - 1);
    require(inside.find_first_of("\\\n") == std::string_view::npos,
            "the string at byte ",
            at_,
            " has an escape or a line break");
    at_ = end + 1;
    return std::string(inside);
  }
  bool truth() {
    skip();
    for (const auto& [word, value] :
         {std::pair{std::string_view("True"), true}, std::pair{std::string_view("False"), false}}) {
      if (text_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return value;
      }
    }
    require(false, "expected True or False at byte ", at_);
    return false;
  }
  std::vector<index_t> tuple() {
    std::vector<index_t> sizes;
    expect('(');
    while (!take(')')) {
      skip();
      index_t size = -1;
      const auto [end, code] =
          std::from_chars(text_.data() + at_, text_.data() + text_.size(), size);
      require(code == std::errc() && size >= 0, "expected a size at byte ", at_);
      at_ = static_cast<std::size_t>(end - text_.data());
      require(sizes.size() < most_npy_dimensions,
              "at most ",
              most_npy_dimensions,
              " dimensions are read");
      sizes.push_back(size);
      if (!take(',')) {
        require(sizes.size() != 1, "a shape of one size needs a comma behind it");
        expect(')');
        break;
      }
    }
    return sizes;
  }

  const std::string& where_;
  std::string_view text_;
  std::size_t at_ = 0;
};

/// Magic, version 1.0, and the dictionary, padded so that the elements lie at a multiple of 64
/// bytes.
inline std::string compose_npy_header(std::string_view type, std::span<const index_t> shape) {
  std::string text = "{'descr': '" + std::string(type) + "', 'fortran_order': False, 'shape': (";
  for (std::size_t d = 0; d < shape.size(); ++d) {
    text += (d > 0 ? ", " : "") + std::to_string(shape[d]);
  }
  text += shape.size() == 1 ? ",), }" : "), }";
  const std::size_t before = npy_magic.size() + 4;
  text.append(npy_alignment - 1 - (before + text.size()) % npy_alignment, ' ') += '\n';
  std::string header(npy_magic);
  header +=
      {'\x01', '\x00', static_cast<char>(text.size() & 0xff), static_cast<char>(text.size() >> 8)};
  return header + text;
}

}  // namespace mtp::inline MTP_ABI::io::detail
