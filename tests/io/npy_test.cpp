#include "mtp/io/npy.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/core/equality.hpp"

namespace mtp::test::io_npy_cases {

using testing::content;
using testing::put;
using testing::scratch_directory;

namespace {

/// A file as NumPy 2.4.6 writes it: magic, version, length, dictionary, padding to 128 bytes, data.
std::string npy(const std::string& dictionary, const std::string& data, int version = 1) {
  std::string text = dictionary;
  const std::size_t prefix = version == 1 ? 10 : 12;
  text.append(127 - prefix - text.size(), ' ') += '\n';
  std::string file("\x93NUMPY", 6);
  file += static_cast<char>(version);
  file += '\0';
  file += static_cast<char>(text.size());
  file.append(version == 1 ? 1 : 3, '\0');
  return file + text + data;
}

std::string dictionary(const std::string& type, const std::string& shape, bool fortran = false) {
  return "{'descr': '" + type + "', 'fortran_order': " + (fortran ? "True" : "False") +
         ", 'shape': " + shape + ", }";
}

template <class Element>
std::string raw(const std::vector<Element>& elements) {
  std::string bytes(elements.size() * sizeof(Element), '\0');
  std::memcpy(bytes.data(), elements.data(), bytes.size());
  return bytes;
}

template <class Element, class Shape>
tensor<Element, Shape, cpu> loaded(const std::string& bytes) {
  const scratch_directory folder;
  put(folder / "x.npy", bytes);
  return io::load_npy<Element, Shape, cpu>(folder / "x.npy");
}

/// What reading the bytes as f32 [2] says; empty if it works.
std::string refusal(const std::string& bytes) {
  try {
    static_cast<void>(loaded<float, dims<1>>(bytes));
    return "";
  } catch (const error& refused) {
    return refused.what();
  }
}

bool says(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  return text.find(part) != std::string::npos;
}

template <class Element, class Shape>
void check_round_trip(const tensor<Element, Shape, cpu>& x) {
  const scratch_directory folder;
  io::save_npy(folder / "x.npy", x);
  CHECK(folder.entries() == 1);
  CHECK((io::load_npy<Element, Shape, cpu>(folder / "x.npy") == x));
  CHECK((io::load_npy<Element, dims<Shape::rank>, cpu>(folder / "x.npy") == x));
}

}  // namespace

TEST_CASE("what was saved is loaded, bit for bit, whatever type and shape") {
  check_round_trip(tensor<float, extents<2, 3>, cpu>({}, {1, -0.0f, 3, 1e-45f, NAN, 6}));
  check_round_trip(tensor<double, extents<2>, cpu>({}, {0.1, -HUGE_VAL}));
  check_round_trip(tensor<std::int64_t, extents<1>, cpu>({}, {std::int64_t{1} << 60}));
  check_round_trip(tensor<std::int32_t, extents<2>, cpu>({}, {-1, 7}));
  check_round_trip(tensor<std::uint8_t, extents<3>, cpu>({}, {0, 128, 255}));
  check_round_trip(tensor<float, extents<>, cpu>({}, {2.5f}));
  check_round_trip(tensor<float, extents<0, 3>, cpu>());
  check_round_trip(tensor<float, dims<2>, cpu>(dims<2>(300, 1100)));  // more than a chunk
}

TEST_CASE("files are those that NumPy writes") {
  const scratch_directory folder;
  const tensor<float, extents<2, 3>, cpu> x({}, {1, 2, 3, 4, 5, 6});  // [2, 3]
  io::save_npy(folder / "x.npy", x);
  CHECK(content(folder / "x.npy") ==
        npy(dictionary("<f4", "(2, 3)"), raw(std::vector<float>{1, 2, 3, 4, 5, 6})));
  io::save_npy(folder / "x.npy", x.view().transpose().select(0, 1));
  CHECK(content(folder / "x.npy") == npy(dictionary("<f4", "(2,)"), raw(std::vector<float>{2, 5})));
}

TEST_CASE("bf16 is written as f32, exactly, and is not read") {
  const scratch_directory folder;
  const tensor<bf16, extents<2>, cpu> x({}, {bf16(1.5f), bf16(-0x1p-130f)});  // [2]
  io::save_npy(folder / "x.npy", x);
  CHECK(io::load_npy<float, dims<1>, cpu>(folder / "x.npy").to_host() ==
        std::vector<float>{1.5f, -0x1p-130f});
}

TEST_CASE("Fortran's order, versions 2 and 3, and other spellings are read") {
  const std::vector<std::int32_t> stored{0, 3, 1, 4, 2, 5};
  CHECK(loaded<std::int32_t, dims<2>>(npy(dictionary("<i4", "(2, 3)", true), raw(stored)))
            .to_host() == std::vector<std::int32_t>{0, 1, 2, 3, 4, 5});
  std::vector<std::int32_t> cube(24);  // element (i, j, k) of [2, 3, 4] is 100 i + 10 j + k
  for (std::size_t n = 0; n < 24; ++n) {
    cube[n] = static_cast<std::int32_t>(100 * (n % 2) + 10 * (n / 2 % 3) + n / 6);
  }
  const auto x =
      loaded<std::int32_t, dims<3>>(npy(dictionary("<i4", "(2, 3, 4)", true), raw(cube)));
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 4; ++k) {
        REQUIRE(x(i, j, k) == 100 * i + 10 * j + k);
      }
    }
  }
  const std::string two = raw(std::vector<float>{1, 2});
  CHECK(refusal(npy(dictionary("<f4", "(2,)"), two, 2)).empty());
  CHECK(refusal(npy(dictionary("<f4", "(2,)"), two, 3)).empty());
  CHECK(refusal(npy(R"({"shape":(2,),"descr":"<f4","fortran_order":True})", two)).empty());
}

TEST_CASE("f16 becomes f32, exactly") {
  const std::vector<std::uint16_t> halves{
      0x3c00, 0xc000, 0x7bff, 0x0001, 0x83ff, 0x7c00, 0xfc00, 0x8000, 0x3555};
  const auto x = loaded<float, dims<1>>(npy(dictionary("<f2", "(9,)"), raw(halves)));  // [9]
  const std::vector<float> expected{1,
                                    -2,
                                    65504,
                                    0x1p-24f,
                                    -1023 * 0x1p-24f,
                                    std::numeric_limits<float>::infinity(),
                                    -std::numeric_limits<float>::infinity(),
                                    -0.0f,
                                    0x1.554p-2f};
  CHECK(x.to_host() == expected);
  CHECK(std::signbit(x(7)));
  const auto nan = loaded<float, dims<1>>(
      npy(dictionary("<f2", "(1,)"), raw(std::vector<std::uint16_t>{0x7e00})));  // [1]
  CHECK(std::isnan(nan(0)));
}

TEST_CASE("truth values are read as bytes") {
  CHECK(loaded<std::uint8_t, dims<1>>(npy(dictionary("|b1", "(2,)"), std::string("\x01\x00", 2)))
            .to_host() == std::vector<std::uint8_t>{1, 0});
}

TEST_CASE("another type, rank or size is refused with both") {
  const std::string two = raw(std::vector<float>{1, 2});
  CHECK(says(refusal(npy(dictionary("<f8", "(1,)"), two)), "expected elements '<f4', got '<f8'"));
  CHECK(says(refusal(npy(dictionary("<f4", "(2, 1)"), two)),
             "expected shape [-1] (-1: any size), got [2, 1]"));
  CHECK(says(refusal(npy(dictionary(">f4", "(2,)"), two)), "big-endian"));
  CHECK(says(refusal(npy(dictionary("<c8", "(1,)"), two)), "or |b1, got '<c8'"));
  CHECK(
      says(refusal(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", two)),
           "structured"));
  CHECK_THROWS_AS(static_cast<void>(loaded<float, extents<3>>(npy(dictionary("<f4", "(2,)"), two))),
                  error);
}

TEST_CASE(
    "sizes that do not fit, and files that are too long or short, are refused before memory is "
    "made") {
  const std::string two = raw(std::vector<float>{1, 2});
  CHECK(says(refusal(npy(dictionary("<f4", "(3,)"), two)), "expected 12 bytes of elements"));
  CHECK(says(refusal(npy(dictionary("<f4", "(1,)"), two)), "expected 4 bytes of elements"));
  CHECK(says(refusal(npy(dictionary("<f4", "(1000000000000,)"), two)),
             "expected 4000000000000 bytes"));
  CHECK(says(refusal(npy(dictionary("<f4", "(4294967296, 4294967296)"), two)), "is too large"));
  CHECK(says(refusal(npy(dictionary("<f4", "(9223372036854775807,)"), two)), "is too large"));
  CHECK(says(refusal(npy(dictionary("<f4", "(0, 9223372036854775807, 9)"), "")), "is too large"));
  CHECK(says(refusal(npy(dictionary("<f4", "(9223372036854775808,)"), two)), "expected a size"));
  CHECK(says(refusal(npy(dictionary("<f4", "(-2,)"), two)), "expected a size"));
  std::string many = "(";
  for (int d = 0; d < 65; ++d) {
    many += "1,";
  }
  std::string header = dictionary("<f4", many + ")");
  header.append(1, '\n');
  std::string file("\x93NUMPY\x01\x00", 8);
  file += static_cast<char>(header.size() & 0xff);
  file += static_cast<char>(header.size() >> 8);
  CHECK(says(refusal(file + header + two.substr(4)), "at most 64 dimensions"));
}

TEST_CASE("a file that is cut off anywhere is refused") {
  const std::string whole = npy(dictionary("<f4", "(2,)"), raw(std::vector<float>{1, 2}));
  REQUIRE(refusal(whole).empty());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CAPTURE(size);
    REQUIRE(!refusal(whole.substr(0, size)).empty());
  }
  CHECK(!refusal(whole + '\0').empty());
}

TEST_CASE("headers that are no headers are refused") {
  const std::string two = raw(std::vector<float>{1, 2});
  const std::string good = npy(dictionary("<f4", "(2,)"), two);
  struct change {
    std::size_t at;
    char byte;
  };
  for (const change& each : {change{0, 'x'}, {6, '\0'}, {6, '\4'}, {7, '\1'}, {9, '\xff'}}) {
    std::string bad = good;
    bad[each.at] = each.byte;
    CAPTURE(each.at);
    CHECK(!refusal(bad).empty());
  }
  for (const char* const text :
       {"",
        "{}",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 2}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2 2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2.0,)}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} 1",
        "{'descr': '<f4, 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<\\f4', 'fortran_order': False, 'shape': (2,)}"}) {
    CAPTURE(text);
    CHECK(!refusal(npy(text, two)).empty());
  }
}

TEST_CASE("no changed byte of a header makes more than a refusal or another array") {
  const std::string whole = npy(dictionary("<f4", "(2,)"), raw(std::vector<float>{1, 2}));
  for (std::size_t at = 0; at < 128; ++at) {
    for (int byte = 0; byte < 256; byte += 5) {
      std::string changed = whole;
      changed[at] = static_cast<char>(byte);
      static_cast<void>(refusal(changed));
    }
  }
}

TEST_CASE("a file that cannot be written leaves the one before") {
  const scratch_directory folder;
  put(folder / "x.npy", "before");
  const tensor<float, extents<1>, cpu> x({}, {1});  // [1]
  CHECK_THROWS_AS(io::save_npy(folder / "no such folder" / "x.npy", x), error);
  CHECK(content(folder / "x.npy") == "before");
  CHECK_THROWS_AS(static_cast<void>(io::load_npy<float, dims<1>, cpu>(folder / "y.npy")), error);
}

}  // namespace mtp::test::io_npy_cases
