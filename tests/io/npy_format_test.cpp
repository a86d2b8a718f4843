#include "mtp/io/npy_format.hpp"

#include <cmath>
#include <cstdint>
#include <doctest/doctest.h>
#include <limits>
#include <string>
#include <vector>

#include "io/scratch.hpp"

namespace mtp::test::io_npy_format_cases {

using namespace mtp::io;

namespace {

io::detail::npy_header parse(const std::string& text) {
  const std::string where = "file: ";
  return io::detail::npy_parser(where, text).parse();
}

bool is_refused(const std::string& text) {
  try {
    parse(text);
    return false;
  } catch (const error&) {
    return true;
  }
}

}  // namespace

TEST_CASE("element types have NumPy's names, and those that NumPy lacks their accumulator type's") {
  static_assert(io::detail::npy_type<double>() == "<f8" && io::detail::npy_type<bf16>() == "<f4");
  static_assert(io::detail::npy_type<std::int64_t>() == "<i8" &&
                io::detail::npy_type<std::int32_t>() == "<i4" &&
                io::detail::npy_type<std::uint8_t>() == "|u1");
  static_assert(io::detail::npy_reads<float>("<f2") && !io::detail::npy_reads<double>("<f2"));
  static_assert(io::detail::npy_reads<std::uint8_t>("|b1") &&
                !io::detail::npy_reads<std::int32_t>("|b1"));
  static_assert(io::detail::npy_element_size("<i4") == 4 &&
                io::detail::npy_element_size("<c8") == 0);
}

TEST_CASE("a header is read back as it was composed, and its elements begin at 64 bytes") {
  for (const std::vector<index_t>& shape :
       {std::vector<index_t>{}, {7}, {2, 3}, {1, 0, 123456789}}) {
    const std::string header = io::detail::compose_npy_header("<f4", shape);
    CHECK(header.size() % 64 == 0);
    CHECK(header.back() == '\n');
    const auto read = parse(header.substr(10));
    CHECK(read.type == "<f4");
    CHECK(!read.fortran_order);
    CHECK(read.shape == shape);
  }
}

TEST_CASE("a dictionary has each of its three keys once and nothing behind it") {
  CHECK(!is_refused("{'shape': (2,), 'fortran_order': True, 'descr': '<f8'}"));
  CHECK(is_refused("{'shape': (2,), 'fortran_order': True}"));
  CHECK(is_refused("{'shape': (2,), 'shape': (2,), 'fortran_order': True, 'descr': '<f8'}"));
  CHECK(is_refused("{'shape': (2,), 'fortran_order': True, 'descr': '<f8', 'other': True}"));
  CHECK(is_refused("{'shape': (2,), 'fortran_order': True, 'descr': '<f8'} x"));
  CHECK(is_refused("{'shape': (-2,), 'fortran_order': True, 'descr': '<f8'}"));
  CHECK(is_refused("{'shape': (2,), 'fortran_order': 1, 'descr': '<f8'}"));
}

TEST_CASE("every binary16 becomes the float of the same value") {
  const auto value = [](std::uint16_t bits) { return io::detail::float_of_f16(bits); };
  CHECK(value(0x3c00) == 1);
  CHECK(value(0xc000) == -2);
  CHECK(value(0x0001) == 0x1p-24f);
  CHECK(value(0x83ff) == -0x1.ff8p-15f);
  CHECK(value(0x7bff) == 65504);
  CHECK(value(0x7c00) == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(value(0x7e00)));
  CHECK(std::signbit(value(0x8000)));
}

}  // namespace mtp::test::io_npy_format_cases
