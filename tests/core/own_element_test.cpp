// An element type that the library does not know: its one row makes it pass through tensors, print,
// files and the operations of the CPU.
#include <doctest/doctest.h>

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/core/equality.hpp"
#include "mtp/core/print.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/io/npy.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/rms_norm.hpp"

namespace mtp::test::core_own_element_cases {

/// A binary32 of which 16 bits are left: 8 of the exponent and 7 of the mantissa as bf16, but
/// truncated, so that it shows whose conversion was called.
class truncated {
 public:
  truncated() = default;
  explicit truncated(float value) : bits_(std::bit_cast<std::uint32_t>(value) & 0xffff0000u) {}
  operator float() const { return std::bit_cast<float>(bits_); }
  std::uint32_t bits() const { return bits_; }

 private:
  std::uint32_t bits_;
};

}  // namespace mtp::test::core_own_element_cases

template <>
struct mtp::scalar_traits<mtp::test::core_own_element_cases::truncated> {
  using accumulator = float;
  static constexpr int digits = 7;
  static constexpr const char* name = "truncated";
  static constexpr const char* file_name = "";
  static constexpr const char* npy_name = "";
};

namespace mtp::test::core_own_element_cases {

static_assert(scalar<truncated> && storage_scalar<truncated> && !real<truncated>);
static_assert(std::same_as<accumulate_t<truncated>, float>);

namespace {

/// x[i] = scale (i - 3), of which few are multiples of the smallest difference.
template <class Shape>
tensor<truncated, Shape, cpu> numbers(const Shape& shape, float scale) {
  tensor<truncated, Shape, cpu> x(shape);
  for (index_t i = 0; i < x.count(); ++i) {
    x.data()[i] = truncated(scale * static_cast<float>(i - 3));
  }
  return x;
}

/// The same elements in f32.
template <class Shape>
tensor<float, Shape, cpu> in_f32(const tensor<truncated, Shape, cpu>& x) {
  tensor<float, Shape, cpu> y(x.shape());
  for (index_t i = 0; i < x.count(); ++i) {
    y.data()[i] = static_cast<float>(x.data()[i]);
  }
  return y;
}

/// Whether each element of y is that of the f32 result, truncated.
template <class Shape>
bool is_truncation(const tensor<truncated, Shape, cpu>& y, const tensor<float, Shape, cpu>& exact) {
  bool same = true, lossy = false;
  for (index_t i = 0; i < y.count(); ++i) {
    same = same && y.data()[i].bits() == truncated(exact.data()[i]).bits();
    lossy = lossy || static_cast<float>(y.data()[i]) != exact.data()[i];
  }
  return same && lossy;
}

}  // namespace

TEST_CASE("a tensor of an element type from outside compares and prints") {
  const tensor<truncated, dims<2>, cpu> x{{1, 1.01f}, {-2, 0.5f}};  // [2, 2]
  CHECK(static_cast<float>(x(0, 1)) == 1.0078125f);
  CHECK(x == tensor<truncated, dims<2>, cpu>{{1, 1.0078125f}, {-2, 0.5f}});
  CHECK(all_close(x, tensor<float, dims<2>, cpu>{{1, 1.01f}, {-2, 0.5f}}, 0x1p-7));
  std::ostringstream text;
  text << x;
  CHECK(text.str() == "truncated [2, 2]\n[[      1, 1.00781],\n [     -2,     0.5]]");
}

TEST_CASE("elementwise operations compute an element type from outside in f32 and store it once") {
  cpu_context context({.threads = 1});
  const dims<2> shape(3, 37);                                         // the last packet is cut
  const auto a = numbers(shape, 1.23f), b = numbers(shape, 0.0317f);  // [3, 37]
  const auto wide_a = in_f32(a), wide_b = in_f32(b);                  // [3, 37]
  tensor<truncated, dims<2>, cpu> y(shape);                           // [3, 37]
  tensor<float, dims<2>, cpu> z(shape);                               // [3, 37]

  add(context, y.view(), a.view(), b.view());
  add(context, z.view(), wide_a.view(), wide_b.view());
  CHECK(is_truncation(y, z));
  multiply(context, y.view(), a.view(), b.view());
  multiply(context, z.view(), wide_a.view(), wide_b.view());
  CHECK(is_truncation(y, z));
  scale(context, y.view(), a.view(), 0.3f);
  scale(context, z.view(), wide_a.view(), 0.3f);
  CHECK(is_truncation(y, z));

  copy(context, z.view(), a.view());
  CHECK(z == wide_a);
  const tensor<double, dims<1>, cpu> exact{1.01, -3.999};  // [2]
  tensor<truncated, dims<1>, cpu> stored(dims<1>(2));      // [2]
  copy(context, stored.view(), exact.view());
  CHECK(stored == tensor<truncated, dims<1>, cpu>{1.01f, -3.999f});
}

TEST_CASE("norms and products of an element type from outside are those of f32, stored once") {
  cpu_context context({.threads = 2});
  const index_t M = 3, N = 41, K = 37;
  const auto x = numbers(dims<2>(M, K), 0.0317f);   // [M, K]
  const auto wide_x = in_f32(x);                    // [M, K]
  const auto factors = numbers(dims<1>(K), 0.11f);  // [K]
  const auto wide_factors = in_f32(factors);        // [K]
  tensor<truncated, dims<2>, cpu> y(x.shape());     // [M, K]
  tensor<float, dims<2>, cpu> z(x.shape());         // [M, K]
  tensor<float, dims<1>, cpu> inverse(dims<1>{M});  // [M]
  rms_norm_forward(context, y.view(), inverse.view(), x.view(), factors.view(), 1e-6);
  rms_norm_forward(context, z.view(), inverse.view(), wide_x.view(), wide_factors.view(), 1e-6);
  CHECK(is_truncation(y, z));

  using traits = backend_traits<cpu>;
  const index_t storage = traits::weight_storage<truncated>(N, K);
  REQUIRE(storage == traits::weight_storage<float>(N, K));
  const auto w = numbers(dims<1>{storage}, 0.00217f);   // panels of W [N, K]
  const auto wide_w = in_f32(w);                        // the same
  tensor<truncated, dims<2>, cpu> out(dims<2>(M, N));   // [M, N]
  tensor<float, dims<2>, cpu> wide_out(dims<2>(M, N));  // [M, N]
  const weight_view<const truncated, cpu> weight(w.data(), N, K);
  const weight_view<const float, cpu> wide_weight(wide_w.data(), N, K);
  linear_forward(context, out.view(), x.view(), weight);
  linear_forward(context, wide_out.view(), wide_x.view(), wide_weight);
  CHECK(is_truncation(out, wide_out));
}

TEST_CASE("NumPy's files have an element type from outside as its accumulator type") {
  const mtp::testing::scratch_directory folder;
  const auto x = numbers(dims<2>(2, 5), 1.23f);  // [2, 5]
  io::save_npy(folder / "x.npy", x);
  CHECK(io::load_npy<float, dims<2>, cpu>(folder / "x.npy") == in_f32(x));
}

}  // namespace mtp::test::core_own_element_cases
