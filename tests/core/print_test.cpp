#include "mtp/core/print.hpp"

#include <doctest/doctest.h>

#include <iomanip>
#include <limits>
#include <locale>
#include <numeric>
#include <sstream>
#include <string>

#include "mtp/backend/cpu.hpp"

namespace mtp::test::core_print_cases {

namespace {

template <class X>
std::string text_of(const X& x) {
  std::ostringstream out;
  out << x;
  return out.str();
}

struct decimal_comma : std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
};

}  // namespace

TEST_CASE("a matrix is printed row by row under its type and shape") {
  const tensor<float, extents<2, 3>, cpu> x({}, {1, -2.5f, 3, 1e-10f, 123456, 1.0f / 3});  // [2, 3]
  CHECK(text_of(x) ==
        "f32 [2, 3]\n"
        "[[       1,     -2.5,        3],\n"
        " [   1e-10,   123456, 0.333333]]");
  CHECK(text_of(x.view().transpose().slice(0, 0, 2)) ==
        "f32 [2, 2]\n"
        "[[     1,  1e-10],\n"
        " [  -2.5, 123456]]");
}

TEST_CASE("ranks 0, 1 and 3, and tensors without elements, are printed") {
  const tensor<double, extents<>, cpu> one({}, {5.0});             // []
  const tensor<token_t, extents<3>, cpu> tokens({}, {1, -20, 3});  // [3]
  const tensor<bf16, extents<2, 1, 2>, cpu> x({},
                                              {bf16(1), bf16(2), bf16(3), bf16(4)});  // [2, 1, 2]
  const tensor<float, dims<2>, cpu> nothing(dims<2>(0, 3)), columns(dims<2>(2, 0));   // empty
  CHECK(text_of(one) == "f64 []\n5");
  CHECK(text_of(tokens) == "i32 [3]\n[  1, -20,   3]");
  CHECK(text_of(x) == "bf16 [2, 1, 2]\n[[[1, 2]],\n\n [[3, 4]]]");
  CHECK(text_of(nothing) == "f32 [0, 3]\n[]");
  CHECK(text_of(columns) == "f32 [2, 0]\n[[],\n []]");
}

TEST_CASE("what is not a number is printed as it is, and truth values as 0 and 1") {
  constexpr double inf = std::numeric_limits<double>::infinity();
  const tensor<double, extents<3>, cpu> x({}, {inf, -inf, -0.0});  // [3]
  const tensor<bool, extents<2>, cpu> flags({}, {true, false});    // [2]
  CHECK(text_of(x) == "f64 [3]\n[ inf, -inf,   -0]");
  CHECK(text_of(flags) == "bool [2]\n[1, 0]");
}

TEST_CASE("of more than a thousand elements the middle is left out") {
  tensor<index_t, dims<1>, cpu> x(dims<1>(1001));  // [1001]
  std::iota(x.begin(), x.end(), index_t{0});
  CHECK(text_of(x) == "i64 [1001]\n[   0,    1,    2, ...,  998,  999, 1000]");
  CHECK(text_of(x.view().slice(0, 0, 1000)).find("...") == std::string::npos);
  const tensor<float, dims<2>, cpu> wide(dims<2>(2, 1000)), high(dims<2>(1000, 2));  // zeros
  CHECK(text_of(wide) ==
        "f32 [2, 1000]\n"
        "[[0, 0, 0, ..., 0, 0, 0],\n"
        " [0, 0, 0, ..., 0, 0, 0]]");
  CHECK(text_of(high) ==
        "f32 [1000, 2]\n"
        "[[0, 0],\n [0, 0],\n [0, 0],\n ...,\n [0, 0],\n [0, 0],\n [0, 0]]");
}

TEST_CASE("neither the locale nor the formats of the stream change the text") {
  const tensor<double, extents<2>, cpu> x({}, {1234567.5, 0.25});  // [2]
  std::ostringstream out;
  out.imbue(std::locale(std::locale::classic(), new decimal_comma));
  out << std::fixed << std::setprecision(1) << std::hex << x;
  CHECK(out.str() == "f64 [2]\n[1.23457e+06,        0.25]");
}

}  // namespace mtp::test::core_print_cases
