// Reads and writes tensors as NumPy's .npy files.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "mtp/core/equality.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/extents.hpp"
#include "mtp/core/operand.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/io/file.hpp"
#include "mtp/io/npy_format.hpp"
#include "mtp/io/safetensors_format.hpp"

namespace mtp::inline MTP_ABI::io {

namespace detail {

/// An array in `size` bytes of a file from `offset` on. All is checked except the bits of the
/// elements.
struct npy_array {
  npy_header header;
  std::uint64_t data = 0;   // offset of the elements in the file
  std::uint64_t bytes = 0;  // of the elements
  index_t count = 0;
};

/// Reads a header and checks that everything it claims fits into the bytes.
inline npy_array open_npy(const std::string& where,
                          const input_file& file,
                          std::uint64_t offset,
                          std::uint64_t size) {
  std::array<unsigned char, npy_prefix_bytes> prefix{};
  check(size >= npy_magic.size() + 4, where, "too small for an npy file: ", size, " bytes");
  file.read_exactly(offset,
                    std::as_writable_bytes(std::span(prefix))
                        .first((std::min<std::size_t>)(size, prefix.size())));
  check(std::memcmp(prefix.data(), npy_magic.data(), npy_magic.size()) == 0,
        where,
        "not an npy file: it does not begin with \\x93NUMPY");
  const int major = prefix[6], minor = prefix[7];
  check(major >= 1 && major <= 3 && minor == 0,
        where,
        "expected version 1.0, 2.0 or 3.0, got ",
        major,
        ".",
        minor);
  const std::uint64_t begin = major == 1 ? 10 : 12;
  check(size >= begin, where, "ends within its header");
  std::uint64_t length = prefix[8] | static_cast<std::uint64_t>(prefix[9]) << 8;
  if (major > 1) {
    length |= static_cast<std::uint64_t>(prefix[10]) << 16 | static_cast<std::uint64_t>(prefix[11])
                                                                 << 24;
  }
  check(length <= most_npy_header_bytes && length <= size - begin,
        where,
        "the header claims ",
        length,
        " bytes; the file has ",
        size - begin,
        " left, and at most ",
        most_npy_header_bytes,
        " are read");
  std::string text(static_cast<std::size_t>(length), '\0');
  file.read_exactly(offset + begin, std::as_writable_bytes(std::span(text)));

  npy_array array;
  array.header = npy_parser(where, text).parse();
  const npy_header& header = array.header;
  check(!header.type.starts_with('>'),
        where,
        "expected little-endian elements, got big-endian '",
        header.type,
        "'");
  const index_t element = npy_element_size(header.type);
  check(element > 0,
        where,
        "expected elements <f8, <f4, <f2, <i8, <i4, |u1 or |b1, got '",
        header.type,
        "'");
  // In bytes: an overflow is found before the product is used.
  index_t product = element;
  bool fits = true, empty = false;
  for (const index_t extent : header.shape) {
    empty = empty || extent == 0;
    fits = fits && (extent == 0 || !__builtin_mul_overflow(product, extent, &product));
  }
  check(fits, where, "the shape ", shape_text(header.shape), " is too large");
  array.bytes = empty ? 0 : static_cast<std::uint64_t>(product);
  array.count = empty ? 0 : product / element;
  array.data = offset + begin + length;
  check(array.bytes == size - begin - length,
        where,
        "expected ",
        array.bytes,
        " bytes of elements for shape ",
        shape_text(header.shape),
        " of '",
        header.type,
        "', got ",
        size - begin - length);
  return array;
}

/// The elements of an array in row-major order.
template <class Element>
std::vector<Element> read_npy_elements(const input_file& file, const npy_array& array) {
  const auto count = static_cast<std::size_t>(array.count);
  std::vector<Element> stored(count);  // in the order of the file
  if (array.header.type == "<f2") {
    if constexpr (std::same_as<Element, float>) {
      std::vector<std::uint16_t> halves(count);
      file.read_exactly(array.data, std::as_writable_bytes(std::span(halves)));
      std::transform(halves.begin(), halves.end(), stored.begin(), float_of_f16);
    }
  } else {
    file.read_exactly(array.data, std::as_writable_bytes(std::span(stored)));
  }
  if (!array.header.fortran_order || array.header.shape.size() < 2) {
    return stored;
  }
  std::vector<Element> turned(count);
  const auto& shape = array.header.shape;
  std::vector<index_t> at(shape.size(), 0);  // the indices of element i in row-major order
  for (std::size_t i = 0; i < count; ++i) {
    index_t from = 0;
    for (std::size_t d = shape.size(); d-- > 0;) {
      from = from * shape[d] + at[d];
    }
    turned[i] = stored[static_cast<std::size_t>(from)];
    for (std::size_t d = shape.size(); d-- > 0 && ++at[d] == shape[d];) {
      at[d] = 0;
    }
  }
  return turned;
}

/// A tensor with the elements of an array, if type and shape match.
template <class Element, extents_type Shape, class Backend>
tensor<Element, Shape, Backend> tensor_of_npy(const std::string& where,
                                              const input_file& file,
                                              const npy_array& array) {
  check(npy_reads<Element>(array.header.type),
        where,
        "expected elements '",
        npy_type<Element>(),
        "', got '",
        array.header.type,
        "'");
  const auto& shape = array.header.shape;
  bool fits = shape.size() == static_cast<std::size_t>(Shape::rank);
  std::array<index_t, static_cast<std::size_t>(Shape::rank)> sizes{};
  for (std::size_t d = 0; fits && d < sizes.size(); ++d) {
    sizes[d] = shape[d];
    fits = Shape::static_sizes[d] == dynamic || Shape::static_sizes[d] == sizes[d];
  }
  std::vector<index_t> wanted(Shape::static_sizes.begin(), Shape::static_sizes.end());
  check(fits,
        where,
        "expected shape ",
        shape_text(wanted),
        " (-1: any size), got ",
        shape_text(shape));
  const std::vector<Element> elements = read_npy_elements<Element>(file, array);
  return {Shape(sizes), std::span<const Element>(elements)};
}

/// Calls write(bytes) with the elements of x in row-major order, in the type of the file.
template <class View, class Write>
void write_npy_elements(const View& x, const Write& write) {
  using value_type = typename View::value_type;
  using stored = typename npy_stored<value_type>::type;
  std::vector<stored> chunk;
  const std::size_t most = static_cast<std::size_t>(chunk_bytes) / sizeof(stored);
  mtp::detail::holds_everywhere(x, x, [&](const value_type& value, const value_type&) {
    chunk.push_back(static_cast<stored>(value));
    if (chunk.size() == most) {
      write(std::as_bytes(std::span(chunk)));
      chunk.clear();
    }
    return true;
  });
  write(std::as_bytes(std::span(chunk)));
}

/// The header for x.
template <class View>
std::string npy_header_of(const View& x) {
  return compose_npy_header(npy_type<typename View::value_type>(), x.shape().sizes());
}

}  // namespace detail

/// Loads the array of an .npy file as a tensor of the given type: `load_npy<float, dims<2>,
/// mtp::cpu>("w.npy")`.
///
/// Versions 1 to 3, elements stored row by row or in Fortran's order. Element is double, float,
/// std::int64_t, std::int32_t or std::uint8_t and must be the type in the file, except that f16 is
/// read into float, which is exact, and bool into std::uint8_t. Static sizes of Shape must match
/// the file. Nothing is allocated before all sizes are known to fit into the file. Throws
/// mtp::error, with the file, what was expected and what was found: for a file of another format,
/// for big-endian or other elements, and for a file that is too long or too short.
template <class Element, extents_type Shape, class Backend>
[[nodiscard]] tensor<Element, Shape, Backend> load_npy(const std::filesystem::path& path) {
  const std::string where = "load_npy: '" + path.string() + "': ";
  const input_file file(path);
  const auto array = detail::open_npy(where, file, 0, file.size());
  return detail::tensor_of_npy<Element, Shape, Backend>(where, file, array);
}

/// Writes a tensor or view as an .npy file of version 1, row by row, whole or not at all (see
/// atomic_file). Element types as in load_npy; bf16 becomes f32, which is exact, because NumPy
/// has no bf16. A tensor on a device is copied to the host. The same tensor gives the same bytes.
/// Throws mtp::error if writing fails; an earlier file is then unchanged.
template <mtp::detail::operand X>
void save_npy(const std::filesystem::path& path, const X& x) {
  mtp::detail::with_host_view(x, [&](const auto& elements) {
    atomic_file file(path);
    buffered_writer writer(file);
    writer.write(detail::npy_header_of(elements));
    detail::write_npy_elements(elements, [&](auto bytes) { writer.write(bytes); });
    writer.flush();
    file.commit();
  });
}

}  // namespace mtp::inline MTP_ABI::io
