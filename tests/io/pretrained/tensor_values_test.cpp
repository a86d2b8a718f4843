// Elements of files as numbers, and the scales of blocks.
#include "mtp/io/pretrained/tensor_values.hpp"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/io/safetensors_writer.hpp"

namespace mtp::test::io_pretrained_tensor_values_cases {

namespace {

using mtp::index_t;
using mtp::io::element;
using mtp::testing::scratch_directory;

template <class T>
mtp::io::tensor_source source(const std::string& name,
                              element type,
                              const std::vector<index_t>& shape,
                              const std::vector<T>& values) {
  return {name, type, shape, [values](index_t first, index_t count, std::byte* to) {
            std::memcpy(to, values.data() + first, static_cast<std::size_t>(count) * sizeof(T));
          }};
}

/// sign * 1.mantissa * 2^(exponent - bias), from the definition of a format.
double by_definition(unsigned bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int mantissa = static_cast<int>(bits & ((1u << mantissa_bits) - 1));
  const int exponent = static_cast<int>(bits >> mantissa_bits & ((1u << exponent_bits) - 1));
  const double fraction = mantissa / std::pow(2.0, mantissa_bits);
  const double sign = (bits >> (exponent_bits + mantissa_bits) & 1) != 0 ? -1 : 1;
  return sign * (exponent == 0 ? fraction * std::pow(2.0, 1 - bias)
                               : (1 + fraction) * std::pow(2.0, exponent - bias));
}

std::string refused(const std::filesystem::path& path, const std::string& name) {
  const mtp::io::tensor_files files(path);
  try {
    const mtp::io::tensor_values<float> values(files, *files.find(name));
  } catch (const mtp::error& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("every F16, F8_E4M3 and F8_E8M0 has the value of its definition") {
  int nans = 0;
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const float value = mtp::io::detail::float_of_f16(static_cast<std::uint16_t>(bits));
    if ((bits & 0x7c00) == 0x7c00) {
      nans += std::isnan(value) ? 1 : 0;
      CHECK((std::isnan(value) || std::isinf(value)));
      CHECK(std::signbit(value) == ((bits & 0x8000) != 0));
    } else if (static_cast<double>(value) != by_definition(bits, 5, 10)) {
      FAIL_CHECK(bits);
    }
  }
  CHECK(nans == 2 * 1023);
  for (unsigned bits = 0; bits < 0x100; ++bits) {
    const auto byte = static_cast<std::uint8_t>(bits);
    CAPTURE(bits);
    if ((bits & 0x7f) == 0x7f) {
      CHECK(std::isnan(mtp::io::detail::float_of_f8_e4m3(byte)));
    } else {
      CHECK(static_cast<double>(mtp::io::detail::float_of_f8_e4m3(byte)) ==
            by_definition(bits, 4, 3));
    }
    if (bits == 0xff) {
      CHECK(std::isnan(mtp::io::detail::float_of_f8_e8m0(byte)));
    } else {
      CHECK(static_cast<double>(mtp::io::detail::float_of_f8_e8m0(byte)) ==
            std::pow(2.0, static_cast<int>(bits) - 127));
    }
  }
  CHECK(mtp::io::detail::float_of_f8_e4m3(0x7e) == 448);
}

TEST_CASE("every element type is read as the numbers that it holds") {
  const scratch_directory scratch;
  mtp::io::write_safetensors(
      scratch / "model.safetensors",
      std::vector{source<double>("f64", element::f64, {3}, {0.1, -2, 1e300}),
                  source<float>("f32", element::f32, {3}, {0.1f, -2, 3}),
                  source<std::uint16_t>("f16", element::f16, {3}, {0x3c00, 0xc000, 0x0001}),
                  source<std::uint16_t>("bf16", element::bf16, {3}, {0x3f80, 0xc000, 0x4040})},
      {});
  const mtp::io::tensor_files files(scratch.path());
  const auto read = [&](auto zero, const std::string& name) {
    std::vector<decltype(zero)> got(2);
    mtp::io::tensor_values<decltype(zero)>(files, *files.find(name)).read(1, 2, got.data());
    return got;
  };
  CHECK(read(double{}, "f64") == std::vector<double>{-2, 1e300});
  CHECK(read(float{}, "f64") == std::vector<float>{-2, std::numeric_limits<float>::infinity()});
  CHECK(read(float{}, "f32") == std::vector<float>{-2, 3});
  CHECK(read(double{}, "f16") == std::vector<double>{-2, std::pow(2.0, -24)});
  CHECK(read(float{}, "bf16") == std::vector<float>{-2, 3});
}

TEST_CASE("blocks of F8 are scaled, at the edges as well, whatever piece is read") {
  constexpr index_t rows = 130, columns = 257;  // 2 x 3 blocks
  std::vector<std::uint8_t> bytes(rows * columns);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::uint8_t>(i * 7 % 0x7f);
  }
  const std::vector<float> scales{0.5f, 3, -0.125f, 7, 1e-3f, 11};
  const std::vector<std::uint8_t> powers{127, 128, 120, 130, 1, 126};
  const scratch_directory scratch;
  mtp::io::write_safetensors(
      scratch / "model.safetensors",
      std::vector{source("x.weight", element::f8_e4m3, {rows, columns}, bytes),
                  source("x.weight_scale_inv", element::f32, {2, 3}, scales),
                  source("y.weight", element::f8_e4m3, {rows, columns}, bytes),
                  source("y.scale", element::f8_e8m0, {2, 3}, powers)},
      {});
  const mtp::io::tensor_files files(scratch.path());
  for (const std::string name : {"x.weight", "y.weight"}) {
    std::vector<double> got(bytes.size(), 99);
    mtp::io::tensor_values<double> values(files, *files.find(name));
    for (index_t first = 0; first < rows * columns; first += 1000) {
      values.read(first, (std::min)(index_t{1000}, rows * columns - first), got.data() + first);
    }
    index_t wrong = 0;
    for (index_t r = 0; r < rows; ++r) {
      for (index_t c = 0; c < columns; ++c) {
        const auto block = static_cast<std::size_t>(r / 128 * 3 + c / 128);
        const double scale = name[0] == 'x' ? static_cast<double>(scales[block])
                                            : std::pow(2.0, static_cast<int>(powers[block]) - 127);
        const auto at = static_cast<std::size_t>(r * columns + c);
        wrong += got[at] == scale * by_definition(bytes[at], 4, 3) ? 0 : 1;
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("F8 without fitting scales, and integers, are refused") {
  const scratch_directory scratch;
  const std::vector<std::uint8_t> bytes(129, 1);
  mtp::io::write_safetensors(scratch / "model.safetensors",
                             std::vector{source("bare.weight", element::f8_e4m3, {129, 1}, bytes),
                                         source("short.weight", element::f8_e4m3, {129, 1}, bytes),
                                         source<float>("short.scale", element::f32, {1, 1}, {1}),
                                         source("flat.weight", element::f8_e4m3, {129}, bytes),
                                         source<float>("flat.scale", element::f32, {2}, {1, 1}),
                                         source("whole.weight", element::f8_e4m3, {129, 1}, bytes),
                                         source("whole.scale", element::u8, {2, 1}, bytes),
                                         source("u8", element::u8, {129}, bytes)},
                             {});
  const auto says = [&](const std::string& name, const std::string& part) {
    const std::string message = refused(scratch.path(), name);
    CAPTURE(message);
    CHECK(message.find(part) != std::string::npos);
  };
  says("bare.weight", "without its scales; expected a tensor bare.weight_scale_inv or bare.scale");
  says("short.weight", "short.scale: expected shape [2, 1], a scale for each 128 x 128 block, got");
  says("flat.weight", "of rank 1");
  says("whole.weight", "whole.scale: expected scales of F32, got U8");
  says("u8", "expected F64, F32, F16, BF16 or F8_E4M3, got U8");
}

}  // namespace mtp::test::io_pretrained_tensor_values_cases
