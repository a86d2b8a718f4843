// Linear maps by weights in FP8 against a scalar program and against double. The CPU alone has
// them.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cpu/chain.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/ops/grouped_linear.hpp"
#include "mtp/ops/head_linear.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/quantize.hpp"
#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/e4m3.hpp"
#include "support/tolerance.hpp"
#include "support/weights.hpp"

namespace mtp::test::e4m3_cases {

namespace {

using reference::e4m3_matrix;
constexpr auto e4m3 = quantized_format::e4m3;

/// A weight and what it was made of.
template <class S>
struct weight {
  explicit weight(e4m3_matrix matrix, quantized_format what = e4m3)
      : of(std::move(matrix)),
        format(what),
        bytes(quantized_weight_bytes<cpu>(of.N, of.K, format)) {
    for (index_t n = of.N - 1; n >= 0; --n) {  // in any order
      set_e4m3_output(to(), of.N, of.K, n, numbers(n), scales(n), format);
    }
  }
  weight(index_t N, index_t K, std::uint64_t stream)
      : weight(reference::random_e4m3(N, K, stream)) {}

  vector_view<std::byte, cpu> to() { return {bytes.data(), dims<1>{bytes.count()}}; }
  std::span<const std::uint8_t> numbers(index_t n) const {
    return std::span(of.numbers)
        .subspan(static_cast<std::size_t>(n * of.K), static_cast<std::size_t>(of.K));
  }
  std::span<const float> scales(index_t n) const {
    return std::span(of.scales).subspan(static_cast<std::size_t>(n * of.groups()),
                                        static_cast<std::size_t>(of.groups()));
  }
  weight_view<const S, cpu> view() { return {nullptr, of.N, of.K, bytes.data(), format}; }

  e4m3_matrix of;
  quantized_format format;
  buffer<std::byte, cpu> bytes;
};

/// The chain that the operation promises, for one row and output.
template <class S, class X>
float chain(const e4m3_matrix& w, const X& x, index_t m, index_t n, float start) {
  using row = std::conditional_t<cpu_detail::factor<S>, S, float>;
  for (index_t g = 0; g < w.groups(); ++g) {
    const index_t first = g * 128;
    const float inner = cpu_products::chain<row, float>(
        0.0f,
        std::min<index_t>(128, w.K - first),
        [&](index_t k) { return static_cast<float>(x(m, first + k)); },
        [&](index_t k) { return static_cast<float>(w.value(n, first + k)); });
    start = cpu_products::multiply_add(inner, w.scale(n, g), start);
  }
  return start;
}

struct map_sizes {
  index_t N, K;
};
// Around the outputs of a panel, and the inputs of a pair and of a group.
const map_sizes sizes[] = {{1, 1},
                           {2, 3},
                           {31, 4},
                           {33, 127},
                           {5, 128},
                           {65, 129},
                           {40, 255},
                           {64, 260},
                           {130, 131},
                           {33, 576},
                           {200, 1001}};

/// The operations of M rows against the scalar program and against double.
template <class S>
void check_map(cpu_context& context, weight<S>& w, const guarded<S, 2, cpu>& all, index_t M) {
  const index_t N = w.of.N, K = w.of.K, G = w.of.groups();
  const auto x = all.view().slice(0, 0, M);
  guarded<S, 2, cpu> y(dims<2>{M, N}, {N + 3, 1});
  guarded<S, 2, cpu> biased(dims<2>{M, N}), added(dims<2>{M, N});
  guarded<float, 2, cpu> sums(dims<2>{M, N});
  guarded<S, 1, cpu> bias(dims<1>{N}, uniform(N, 3));
  guarded<S, 2, cpu> residual(dims<2>{M, N}, {N + 1, 1}, uniform(M * N, 4));
  linear_forward(context, y.view(), x, w.view());
  linear_forward(context, sums.view(), x, w.view());
  linear_bias_forward(context, biased.view(), x, w.view(), bias.view());
  linear_add_forward(context, added.view(), x, w.view(), residual.view());
  CHECK(y.intact());
  CHECK(sums.intact());
  CHECK(biased.intact());
  CHECK(added.intact());

  std::vector<S> expected, expected_biased, expected_added;
  std::vector<float> expected_sums;
  std::vector<double> exact, bounds;
  for (index_t m = 0; m < M; ++m) {
    for (index_t n = 0; n < N; ++n) {
      const auto from = [&](S start) { return chain<S>(w.of, x, m, n, static_cast<float>(start)); };
      expected_sums.push_back(from(S(0.0f)));
      expected.push_back(S(expected_sums.back()));
      expected_biased.push_back(S(from(bias.view()(n))));
      expected_added.push_back(S(from(residual.view()(m, n))));
      double sum = 0, magnitude = 0;
      for (index_t k = 0; k < K; ++k) {
        const double product = w.of.value(n, k) * static_cast<double>(w.of.scale(n, k / 128)) *
                               static_cast<double>(x(m, k));
        sum += product;
        magnitude += std::abs(product);
      }
      exact.push_back(sum);
      // One rounding for each link of the longest way of a product into the sum.
      bounds.push_back(static_cast<double>(std::min<index_t>(K, 128) + G + 1) * 0x1p-24 *
                       magnitude);
    }
  }
  CHECK(same_bits(elements(sums.view()), expected_sums));
  CHECK(same_bits(elements(y.view()), expected));
  CHECK(same_bits(elements(biased.view()), expected_biased));
  CHECK(same_bits(elements(added.view()), expected_added));
  CHECK(within(sums.view(), exact, bounds));
}

}  // namespace

TEST_CASE_TEMPLATE("each of the 256 codes has the value of its definition", S, float, bf16) {
  cpu_context context({.threads = 1});
  for (const index_t K : {1, 2, 130}) {  // the only one, the second of a pair, of another group
    CAPTURE(K);
    e4m3_matrix of{256, K, std::vector<std::uint8_t>(static_cast<std::size_t>(256 * K)), {}};
    of.scales.assign(static_cast<std::size_t>(256 * of.groups()), 0.5f);
    for (index_t code = 0; code < 256; ++code) {
      of.number(code, K - 1) = static_cast<std::uint8_t>(code);
    }
    weight<S> w(of);
    guarded<S, 2, cpu> x(
        dims<2>{1, K}, {K, 1}, std::vector<double>(static_cast<std::size_t>(K), 2));
    guarded<float, 2, cpu> y(dims<2>{1, 256});
    linear_forward(context, y.view(), x.view(), w.view());
    for (index_t code = 0; code < 256; ++code) {
      CAPTURE(code);
      const double value = reference::value_of_e4m3(static_cast<std::uint8_t>(code));
      const auto got = static_cast<double>(y.view()(0, code));
      CHECK((std::isnan(value) ? std::isnan(got) : got == value));
    }
  }
}

TEST_CASE_TEMPLATE("linear maps in FP8 have the bits of a scalar program, and its bound",
                   S,
                   float,
                   bf16) {
  cpu_context one({.threads = 1}), four({.threads = 4});
  for (const map_sizes& s : sizes) {
    CAPTURE(s.N);
    CAPTURE(s.K);
    weight<S> w(s.N, s.K, 1);
    const guarded<S, 2, cpu> x(dims<2>{11, s.K}, {s.K + 2, 1}, normal(11 * s.K, 2));
    for (const index_t M : {0, 1, 2, 5, 11}) {
      CAPTURE(M);
      check_map<S>(M == 2 ? four : one, w, x, M);
    }
  }
  CHECK(workspace_is_idle(one));
}

TEST_CASE_TEMPLATE("a row in FP8 has the same bits among any number of rows and threads",
                   S,
                   float,
                   bf16) {
  weight<S> w(200, 300, 1);
  const guarded<S, 2, cpu> x(dims<2>{40, 300}, {300, 1}, normal(40 * 300, 2));
  cpu_context alone({.threads = 1});
  guarded<S, 2, cpu> expected(dims<2>{40, 200});
  for (index_t m = 0; m < 40; ++m) {
    linear_forward(alone, expected.view().slice(0, m, 1), x.view().slice(0, m, 1), w.view());
  }
  for (int threads = 1; threads <= 4; ++threads) {
    cpu_context context({.threads = threads});
    for (const index_t M : {1, 2, 3, 4, 5, 7, 8, 9, 17, 40}) {
      CAPTURE(M);
      CAPTURE(threads);
      guarded<S, 2, cpu> y(dims<2>{M, 200});
      linear_forward(context, y.view(), x.view().slice(0, 0, M), w.view());
      CHECK(same_bits(y.view(), expected.view().slice(0, 0, M)));
    }
  }
}

TEST_CASE_TEMPLATE("experts in 8 bits, of either format, have the bits of linear maps",
                   S,
                   float,
                   bf16) {
  constexpr index_t N = 96, K = 200, E = 5;
  const std::vector<index_t> ends{0, 3, 3, 4, 21, 40};
  const index_t R = ends.back();
  weight<S> in_e4m3(E * N, K, 1);
  cpu_context one({.threads = 1});
  guarded_weight<S, cpu> elements_of_all(E * N, K, normal(E * N * K, 7));
  buffer<std::byte, cpu> integers(quantized_weight_bytes<cpu>(E * N, K));
  quantize_weight(one,
                  vector_view<std::byte, cpu>(integers.data(), dims<1>{integers.count()}),
                  elements_of_all.view());
  const weight_view<const S, cpu> in_int8(nullptr, E * N, K, integers.data());
  const guarded<S, 2, cpu> x(dims<2>{R, K}, {K + 1, 1}, normal(R * K, 2));
  for (const weight_view<const S, cpu>& w : {in_e4m3.view(), in_int8}) {
    guarded<S, 2, cpu> expected(dims<2>{R, N});
    for (index_t e = 0; e < E; ++e) {
      const index_t first = ends[static_cast<std::size_t>(e)];
      for (index_t r = first; r < ends[static_cast<std::size_t>(e + 1)]; ++r) {
        linear_forward(
            one, expected.view().slice(0, r, 1), x.view().slice(0, r, 1), w.rows(e * N, N));
      }
    }
    for (int threads = 1; threads <= 3; ++threads) {
      CAPTURE(threads);
      cpu_context context({.threads = threads});
      guarded<S, 2, cpu> y(dims<2>{R, N}, {N + 5, 1});
      grouped_linear_forward(context,
                             y.view(),
                             x.view(),
                             w,
                             vector_view<const index_t, cpu>(ends.data(), dims<1>{E + 1}));
      CHECK(y.intact());
      CHECK(same_bits(elements(y.view()), elements(expected.view())));
      CHECK(workspace_is_idle(context));
    }
  }
}

TEST_CASE_TEMPLATE("heads in FP8 have the bits of a linear map, in any company", S, float, bf16) {
  constexpr index_t M = 19, H = 3, N = 64, K = 200;
  weight<S> w(H * N, K, 1);
  const guarded<S, 3, cpu> x(
      dims<3>{M, H, K}, strides(H * (K + 3) + 5, K + 3, 1), normal(M * H * K, 2));
  for (int threads = 1; threads <= 3; ++threads) {
    cpu_context context({.threads = threads});
    for (const index_t rows : {0, 1, 2, 8, 9, 19}) {
      CAPTURE(rows);
      guarded<S, 3, cpu> y(dims<3>{rows, H, N}, strides(H * (N + 1) + 2, N + 1, 1));
      head_linear_forward(context, y.view(), x.view().slice(0, M - rows, rows), w.view());
      CHECK(y.intact());
      for (index_t h = 0; h < H; ++h) {
        guarded<S, 2, cpu> one(dims<2>{rows, N});
        for (index_t m = 0; m < rows; ++m) {
          linear_forward(context,
                         one.view().slice(0, m, 1),
                         x.view().select(1, h).slice(0, M - rows + m, 1),
                         w.view().rows(h * N, N));
        }
        CHECK(same_bits(elements(y.view().select(1, h)), elements(one.view())));
      }
      CHECK(workspace_is_idle(context));
    }
  }
}

TEST_CASE_TEMPLATE("transposed heads in FP8 have the bits of a scalar program, and its bound",
                   S,
                   float,
                   bf16) {
  using row = std::conditional_t<cpu_detail::factor<S>, S, float>;
  constexpr index_t M = 19, H = 3;
  for (const map_sizes& s : {map_sizes{128, 40}, map_sizes{256, 161}}) {
    const index_t N = s.N, K = s.K, blocks = N / 128;
    CAPTURE(N);
    weight<S> w(reference::random_e4m3(H * N, K, 1), quantized_format::e4m3_transposed);
    const guarded<S, 3, cpu> dy(
        dims<3>{M, H, N}, strides(H * (N + 3) + 5, N + 3, 1), normal(M * H * N, 2));
    std::vector<S> expected;
    std::vector<double> exact, bounds;
    for (index_t m = 0; m < M; ++m) {
      for (index_t h = 0; h < H; ++h) {
        for (index_t k = 0; k < K; ++k) {
          float sum = 0;
          double value = 0, magnitude = 0;
          for (index_t b = 0; b < blocks; ++b) {
            const index_t first = h * N + b * 128;
            const float scale = w.of.scale(first, k / 128);  // of the first output of the block
            const auto of_row = [&](index_t n) {
              return static_cast<float>(dy.view()(m, h, b * 128 + n));
            };
            const auto number = [&](index_t n) {
              return static_cast<float>(w.of.value(first + n, k));
            };
            const float inner = cpu_products::chain<row, float>(0.0f, 128, of_row, number);
            sum = cpu_products::multiply_add(inner, scale, sum);
            for (index_t n = 0; n < 128; ++n) {
              const double product = static_cast<double>(scale) * static_cast<double>(of_row(n)) *
                                     static_cast<double>(number(n));
              value += product;
              magnitude += std::abs(product);
            }
          }
          expected.push_back(S(sum));
          exact.push_back(value);
          const double error = static_cast<double>(128 + blocks + 1) * 0x1p-24 * magnitude;
          bounds.push_back(error + (unit_roundoff<S> > 0x1p-24
                                        ? unit_roundoff<S> * (std::abs(value) + error)
                                        : 0));
        }
      }
    }
    for (int threads = 1; threads <= 3; ++threads) {
      cpu_context context({.threads = threads});
      for (const index_t rows : {1, 2, 8, 9, 19}) {
        CAPTURE(rows);
        guarded<S, 3, cpu> dx(dims<3>{rows, H, K}, strides(H * (K + 1) + 2, K + 1, 1));
        head_linear_backward_input(
            context, dx.view(), dy.view().slice(0, M - rows, rows), w.view());
        CHECK(dx.intact());
        const auto from = (M - rows) * H * K;
        CHECK(same_bits(elements(dx.view()),
                        std::vector<S>(expected.begin() + from, expected.end())));
        CHECK(within(
            dx.view(), {exact.begin() + from, exact.end()}, {bounds.begin() + from, bounds.end()}));
        CHECK(workspace_is_idle(context));
      }
    }
  }
}

TEST_CASE("weights in FP8 are refused by what does not read their form, and nothing changes") {
  constexpr auto transposed = quantized_format::e4m3_transposed;
  cpu_context context({.threads = 1});
  weight<float> plain(256, 40, 1);
  weight<float> turned(plain.of, transposed);
  guarded<float, 3, cpu> x(dims<3>{2, 2, 40}, uniform(160, 1)), y(dims<3>{2, 2, 128});
  guarded<float, 3, cpu> narrow(dims<3>{2, 4, 64}), of_four(dims<3>{2, 4, 40}, uniform(320, 1));
  CHECK(rejects("head_linear_forward",
                [&] { head_linear_forward(context, y.view(), x.view(), turned.view()); }));
  CHECK(rejects("head_linear_backward_input",
                [&] { head_linear_backward_input(context, x.view(), y.view(), plain.view()); }));
  CHECK(rejects("head_linear_backward_input", [&] {  // heads that end within a block
    head_linear_backward_input(context, of_four.view(), narrow.view(), turned.view());
  }));
  guarded<float, 2, cpu> row(dims<2>{1, 256}), input(dims<2>{1, 40}, uniform(40, 1));
  CHECK(rejects("linear map",
                [&] { linear_forward(context, row.view(), input.view(), turned.view()); }));
  const std::vector<index_t> ends{0, 1}, chosen{0};
  CHECK(rejects("linear map", [&] {
    grouped_linear_forward(context,
                           row.view(),
                           input.view(),
                           turned.view(),
                           vector_view<const index_t, cpu>(ends.data(), dims<1>{2}));
  }));
  CHECK(rejects("weight_view", [&] { static_cast<void>(turned.view().rows(128, 128)); }));
  CHECK(rejects("quantized_rows", [&] {
    quantized_rows(context,
                   plain.to(),
                   turned.view(),
                   vector_view<const index_t, cpu>(chosen.data(), dims<1>{1}));
  }));
  CHECK(rejects("set_e4m3_output", [&] {
    set_e4m3_output(turned.to(), 255, 40, 0, turned.numbers(0), turned.scales(0), transposed);
  }));
  CHECK(y.untouched());
  CHECK(row.untouched());
}

TEST_CASE("what is not finite stays where it is") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  cpu_context context({.threads = 2});
  weight<float> w(40, 300, 1);
  w.of.number(33, 5) = 0x7f;
  w.of.number(7, 299) = 0xff;
  w.of.scale(12, 1) = std::numeric_limits<float>::quiet_NaN();
  weight<float> broken(w.of);
  guarded<float, 2, cpu> x(dims<2>{3, 300}, {300, 1}, uniform(900, 2));
  x.view()(1, 130) = static_cast<float>(infinity);
  guarded<float, 2, cpu> y(dims<2>{3, 40});
  linear_forward(context, y.view(), x.view(), broken.view());
  for (index_t m = 0; m < 3; ++m) {
    for (index_t n = 0; n < 40; ++n) {
      CAPTURE(m);
      CAPTURE(n);
      const bool is_nan = n == 33 || n == 7 || n == 12;
      if (m == 1) {
        CHECK_FALSE(std::isfinite(y.view()(m, n)));
      } else {
        CHECK(std::isnan(y.view()(m, n)) == is_nan);
      }
    }
  }
}

TEST_CASE("a number that is NaN in a transposed block makes its input NaN, whoever writes first") {
  cpu_context context({.threads = 1});
  e4m3_matrix of = reference::random_e4m3(128, 40, 1);
  of.number(0, 3) = 0xff;  // the output whose scales count
  of.number(100, 38) = 0x7f;
  const guarded<float, 3, cpu> dy(dims<3>{2, 1, 128}, uniform(256, 2));
  for (const bool descending : {false, true}) {
    weight<float> w(of, quantized_format::e4m3_transposed);
    buffer<std::byte, cpu> bytes(w.bytes.count());
    const vector_view<std::byte, cpu> to(bytes.data(), dims<1>{bytes.count()});
    for (index_t i = 0; i < 128; ++i) {
      const index_t n = descending ? 127 - i : i;
      set_e4m3_output(to, 128, 40, n, w.numbers(n), w.scales(n), w.format);
    }
    guarded<float, 3, cpu> dx(dims<3>{2, 1, 40});
    const weight_view<const float, cpu> written(nullptr, 128, 40, bytes.data(), w.format);
    head_linear_backward_input(context, dx.view(), dy.view(), written);
    for (index_t k = 0; k < 40; ++k) {
      CAPTURE(k);
      CHECK(std::isnan(dx.view()(0, 0, k)) == (k == 3 || k == 38));
      CHECK(std::isnan(dx.view()(1, 0, k)) == (k == 3 || k == 38));
    }
  }
}

TEST_CASE("rows of a weight in FP8 keep their bits") {
  cpu_context context({.threads = 2});
  weight<float> w(70, 133, 1);
  const guarded<float, 2, cpu> x(dims<2>{2, 133}, {133, 1}, normal(2 * 133, 2));
  guarded<float, 2, cpu> all(dims<2>{2, 70});
  linear_forward(context, all.view(), x.view(), w.view());
  std::vector<index_t> chosen;
  for (index_t n = 69; n >= 0; n -= 2) {
    chosen.push_back(n);
  }
  const auto R = static_cast<index_t>(chosen.size());
  buffer<std::byte, cpu> bytes(quantized_weight_bytes<cpu>(R, 133, e4m3));
  quantized_rows(context,
                 vector_view<std::byte, cpu>(bytes.data(), dims<1>{bytes.count()}),
                 w.view(),
                 vector_view<const index_t, cpu>(chosen.data(), dims<1>{R}));
  guarded<float, 2, cpu> some(dims<2>{2, R});
  const weight_view<const float, cpu> part(nullptr, R, 133, bytes.data(), e4m3);
  linear_forward(context, some.view(), x.view(), part);
  for (index_t m = 0; m < 2; ++m) {
    for (index_t r = 0; r < R; ++r) {
      CHECK(cpu_products::same(some.view()(m, r),
                               all.view()(m, chosen[static_cast<std::size_t>(r)])));
    }
  }
}

TEST_CASE("a weight in 8 bits is split where one of elements is") {
  cpu_context context({.threads = 1});
  weight<float> w(131, 140, 1);
  const guarded<float, 2, cpu> x(dims<2>{1, 140}, {140, 1}, normal(140, 2));
  guarded<float, 2, cpu> all(dims<2>{1, 131});
  linear_forward(context, all.view(), x.view(), w.view());
  for (const auto& [first, count] : {std::pair{0, 64}, {64, 64}, {64, 67}, {128, 3}, {0, 131}}) {
    guarded<float, 2, cpu> some(dims<2>{1, count});
    linear_forward(context, some.view(), x.view(), w.view().rows(first, count));
    CHECK(same_bits(elements(some.view()), elements(all.view().slice(1, first, count))));
  }
  CHECK(rejects("weight_view", [&] { static_cast<void>(w.view().rows(1, 64)); }));
}

TEST_CASE("an output that does not fit is refused, and nothing changes") {
  weight<float> w(5, 130, 1);
  const std::vector<std::byte> before(w.bytes.data(), w.bytes.data() + w.bytes.count());
  const std::vector<std::uint8_t> numbers(130, 1);
  const std::vector<float> scales(2, 1);
  const std::span<const std::uint8_t> all(numbers);
  const std::span<const float> both(scales);
  const auto set = [&](index_t bytes, index_t n, auto of_numbers, auto of_scales) {
    return [&w, bytes, n, of_numbers, of_scales] {
      set_e4m3_output(w.to().slice(0, 0, bytes), 5, 130, n, of_numbers, of_scales);
    };
  };
  const index_t bytes = w.bytes.count();
  CHECK(rejects("set_e4m3_output", set(bytes - 1, 0, all, both)));
  CHECK(rejects("set_e4m3_output", set(bytes, 5, all, both)));
  CHECK(rejects("set_e4m3_output", set(bytes, -1, all, both)));
  CHECK(rejects("set_e4m3_output", set(bytes, 0, all.first(129), both)));
  CHECK(rejects("set_e4m3_output", set(bytes, 0, all, both.first(1))));
  CHECK(std::equal(before.begin(), before.end(), w.bytes.data()));
  set(bytes, 0, all, both)();
  CHECK_FALSE(std::equal(before.begin(), before.end(), w.bytes.data()));
}

}  // namespace mtp::test::e4m3_cases
