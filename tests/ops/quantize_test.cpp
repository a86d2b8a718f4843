// Weights in 8 bits against the reference. The CPU alone has them.
#include "mtp/ops/quantize.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "mtp/core/tensor.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/supported.hpp"
#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/quantized_linear.hpp"
#include "support/weights.hpp"

namespace mtp::test::quantize_cases {

namespace {

using reference::array;
using reference::array_of;

/// A weight and its bytes.
template <class S>
struct weight_in_8_bits {
  weight_in_8_bits(cpu_context& context,
                   index_t outputs,
                   index_t inputs,
                   const std::vector<double>& rows)
      : elements(outputs, inputs, rows), bytes(quantized_weight_bytes<cpu>(outputs, inputs)) {
    quantize_weight(context, view(), elements.view());
  }
  vector_view<std::byte, cpu> view() { return {bytes.data(), dims<1>{bytes.count()}}; }
  /// Without the elements, so that nothing else can be read.
  weight_view<const S, cpu> weight() {
    return {nullptr, elements.view().outputs, elements.view().inputs, bytes.data()};
  }

  guarded_weight<S, cpu> elements;
  buffer<std::byte, cpu> bytes;
};

struct map_sizes {
  index_t N, K;
};
// Around the outputs of a panel, the inputs of a dot product, and those of a group.
const map_sizes sizes[] = {{1, 1},
                           {2, 3},
                           {31, 4},
                           {32, 5},
                           {33, 127},
                           {5, 128},
                           {65, 129},
                           {40, 255},
                           {7, 256},
                           {64, 260},
                           {96, 384},
                           {130, 131},
                           {33, 576},
                           {3, 1000},
                           {200, 1408}};

/// The three operations of M rows against the scalar program and against the elements.
template <class S>
void check_map(cpu_context& context,
               weight_in_8_bits<S>& w,
               const guarded<S, 2, cpu>& all,
               index_t M,
               bool against_elements) {
  const index_t N = w.elements.view().outputs, K = w.elements.view().inputs;
  const auto x = all.view().slice(0, 0, M);
  guarded<S, 2, cpu> y(dims<2>{M, N}, strides(N + 3, 1));
  guarded<S, 2, cpu> biased(dims<2>{M, N}), added(dims<2>{M, N});
  guarded<float, 2, cpu> sums(dims<2>{M, N});
  guarded<S, 1, cpu> bias(dims<1>{N}, uniform(N, 3));
  guarded<S, 2, cpu> residual(dims<2>{M, N}, {N + 1, 1}, uniform(M * N, 4));
  linear_forward(context, y.view(), x, w.weight());
  linear_forward(context, sums.view(), x, w.weight());
  linear_bias_forward(context, biased.view(), x, w.weight(), bias.view());
  linear_add_forward(context, added.view(), x, w.weight(), residual.view());
  CHECK(y.intact());
  CHECK(sums.intact());
  CHECK(biased.intact());
  CHECK(added.intact());

  const array<2> xs = array_of(x), ws = w.elements.rows();
  const auto qx = reference::quantize(xs, 32512), qw = reference::quantize(ws, 127);
  std::vector<S> expected, expected_biased, expected_added;
  std::vector<float> expected_sums;
  std::vector<double> exact, bounds;
  for (index_t m = 0; m < M; ++m) {
    for (index_t n = 0; n < N; ++n) {
      const auto chain = [&](S start) {
        return reference::quantized_chain(qx, qw, m, n, static_cast<float>(start));
      };
      expected_sums.push_back(chain(S(0.0f)));
      expected.push_back(S(expected_sums.back()));
      expected_biased.push_back(S(chain(bias.view()(n))));
      expected_added.push_back(S(chain(residual.view()(m, n))));
      if (against_elements) {
        exact.push_back(0);
        for (index_t k = 0; k < K; ++k) {
          exact.back() += xs(m, k) * ws(n, k);
        }
        bounds.push_back(reference::quantization_bound(xs, ws, qx, qw, m, n));
      }
    }
  }
  CHECK(same_bits(elements(sums.view()), expected_sums));
  CHECK(same_bits(elements(y.view()), expected));
  CHECK(same_bits(elements(biased.view()), expected_biased));
  CHECK(same_bits(elements(added.view()), expected_added));
  if (against_elements) {
    CHECK(within(sums.view(), exact, bounds));
  }
}

/// A row with one element, and what a weight of ones makes of it.
template <class S>
std::vector<float> sums_of(const std::vector<double>& row, const std::vector<double>& weight) {
  cpu_context context({.threads = 1});
  const auto K = static_cast<index_t>(row.size());
  weight_in_8_bits<S> w(context, 1, K, weight);
  guarded<S, 2, cpu> x(dims<2>{1, K}, {K, 1}, row);
  guarded<float, 2, cpu> y(dims<2>{1, 1});
  linear_forward(context, y.view(), x.view(), w.weight());
  return elements(y.view());
}

}  // namespace

TEST_CASE_TEMPLATE("linear maps in 8 bits have the bits of a scalar program, and its bound",
                   S,
                   float,
                   bf16) {
  cpu_context one({.threads = 1}), four({.threads = 4});
  for (const map_sizes& s : sizes) {
    CAPTURE(s.N);
    CAPTURE(s.K);
    weight_in_8_bits<S> w(one, s.N, s.K, normal(s.N * s.K, 1));
    const guarded<S, 2, cpu> x(dims<2>{9, s.K}, {s.K + 2, 1}, normal(9 * s.K, 2));
    for (const index_t M : {0, 1, 2, 9}) {
      CAPTURE(M);
      check_map<S>(M == 2 ? four : one, w, x, M, M == 9);
    }
  }
  CHECK(workspace_is_idle(one));
}

TEST_CASE("a row has the same bits among any number of rows, on any number of threads") {
  cpu_context one({.threads = 1});
  weight_in_8_bits<float> w(one, 70, 300, normal(70 * 300, 1));
  const guarded<float, 2, cpu> x(dims<2>{64, 300}, {300, 1}, normal(64 * 300, 2));
  for (int threads = 1; threads <= 4; ++threads) {
    cpu_context context({.threads = threads});
    for (index_t M = 1; M <= 13; ++M) {
      CAPTURE(M);
      CAPTURE(threads);
      check_map<float>(context, w, x, M, false);
    }
    check_map<float>(context, w, x, 64, false);
  }
}

TEST_CASE("the largest sums of a group are exact") {
  // 127 * 32512 * 128, of either sign: no intermediate sum may saturate.
  const std::vector<double> ones(256, 1.0), minus(256, -1.0);
  std::vector<double> turning = ones;
  for (std::size_t k = 1; k < turning.size(); k += 2) {
    turning[k] = -1;
  }
  const float largest = sums_of<float>(ones, ones).front();
  // The weight's scale 1 / 127 is rounded up to 2^-7 * 1.015625: its numbers are 126.
  const float number = 126, scale = 0x1.04p-7f, unit = 1.0f / 32512;
  const float group = number * 32512 * 128;
  const float product = scale * unit;
  CHECK(largest == cpu_products::multiply_add(group, product, group * product));
  CHECK(sums_of<float>(minus, minus).front() == largest);
  CHECK(sums_of<float>(minus, ones).front() == -largest);
  CHECK(sums_of<float>(turning, turning).front() == largest);
  CHECK(sums_of<float>(turning, ones).front() == 0);
}

TEST_CASE_TEMPLATE("an element that is not finite makes its row NaN and leaves the others",
                   S,
                   float,
                   bf16) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  cpu_context context({.threads = 2});
  weight_in_8_bits<S> w(context, 40, 300, uniform(40 * 300, 1));
  guarded<S, 2, cpu> x(dims<2>{3, 300}, {300, 1}, uniform(900, 2));
  const auto run = [&] {
    guarded<S, 2, cpu> y(dims<2>{3, 40});
    linear_forward(context, y.view(), x.view(), w.weight());
    return elements(y.view());
  };
  const auto finite = run();
  for (const double wrong : {infinity, -infinity, std::nan("")}) {
    CAPTURE(wrong);
    const S kept = x.view()(1, 299);
    x.view()(1, 299) = stored<S>(wrong);
    const auto y = run();
    x.view()(1, 299) = kept;
    for (std::size_t i = 0; i < y.size(); ++i) {
      const bool of_row = i / 40 == 1;
      CHECK(std::isnan(static_cast<float>(y[i])) == of_row);
      if (!of_row) {
        CHECK(cpu_products::same(y[i], finite[i]));
      }
    }
  }
  // The same in a weight: its output of every row.
  for (const double wrong : {infinity, -infinity, std::nan("")}) {
    auto rows = uniform(40 * 300, 1);
    rows[33 * 300 + 5] = wrong;
    weight_in_8_bits<S> broken(context, 40, 300, rows);
    guarded<S, 2, cpu> y(dims<2>{3, 40});
    linear_forward(context, y.view(), x.view(), broken.weight());
    for (index_t m = 0; m < 3; ++m) {
      for (index_t n = 0; n < 40; ++n) {
        CHECK(std::isnan(static_cast<float>(y.view()(m, n))) == (n == 33));
      }
    }
  }
}

TEST_CASE("zeros stay zero, and so do groups of tiny numbers") {
  const std::vector<double> zeros(130, 0.0), ones(130, 1.0);
  CHECK(sums_of<float>(zeros, ones).front() == 0);
  CHECK(sums_of<float>(ones, zeros).front() == 0);
  const std::vector<double> tiny(130, 0x1.fp-101), small(130, 0x1p-100);
  CHECK(sums_of<float>(tiny, ones).front() == 0);
  CHECK(sums_of<float>(ones, tiny).front() == 0);
  CHECK(sums_of<float>(small, ones).front() > 129 * 0x1p-100f);
  CHECK(sums_of<float>(ones, small).front() > 129 * 0x1p-100f);
  const std::vector<double> large(130, 0x1p127);
  CHECK(sums_of<float>(large, ones).front() == std::numeric_limits<float>::infinity());
  CHECK(sums_of<float>(large, small).front() > 129 * 0x1p27f);
}

TEST_CASE("rows of a weight in 8 bits keep their bits") {
  cpu_context context({.threads = 2});
  weight_in_8_bits<float> w(context, 70, 133, normal(70 * 133, 1));
  const guarded<float, 2, cpu> x(dims<2>{2, 133}, {133, 1}, normal(2 * 133, 2));
  guarded<float, 2, cpu> all(dims<2>{2, 70});
  linear_forward(context, all.view(), x.view(), w.weight());
  std::vector<index_t> chosen;
  for (index_t n = 69; n >= 0; n -= 2) {
    chosen.push_back(n);
  }
  const auto R = static_cast<index_t>(chosen.size());
  buffer<std::byte, cpu> bytes(quantized_weight_bytes<cpu>(R, 133));
  quantized_rows(context,
                 vector_view<std::byte, cpu>(bytes.data(), dims<1>{bytes.count()}),
                 w.weight(),
                 vector_view<const index_t, cpu>(chosen.data(), dims<1>{R}));
  guarded<float, 2, cpu> some(dims<2>{2, R});
  linear_forward(
      context, some.view(), x.view(), weight_view<const float, cpu>(nullptr, R, 133, bytes.data()));
  for (index_t m = 0; m < 2; ++m) {
    for (index_t r = 0; r < R; ++r) {
      CHECK(cpu_products::same(some.view()(m, r),
                               all.view()(m, chosen[static_cast<std::size_t>(r)])));
    }
  }
}

TEST_CASE("what does not fit is refused, and so is going back through 8 bits") {
  cpu_context context({.threads = 1});
  weight_in_8_bits<float> w(context, 5, 6, uniform(30, 1));
  const guarded<float, 2, cpu> x(dims<2>{2, 6}, {6, 1}, uniform(12, 2));
  guarded<float, 2, cpu> y(dims<2>{2, 5}), dx(dims<2>{2, 6});
  CHECK(rejects("quantize_weight", [&] {
    quantize_weight(context, w.view().slice(0, 0, w.bytes.count() - 1), w.elements.view());
  }));
  CHECK(rejects("quantize_weight", [&] { quantize_weight(context, w.view(), w.weight()); }));
  CHECK(rejects("quantized_rows", [&] {
    const index_t row = 0;
    quantized_rows(
        context, w.view(), w.elements.view(), vector_view<const index_t, cpu>(&row, dims<1>{1}));
  }));
  CHECK(
      rejects("linear_forward", [&] { linear_forward(context, dx.view(), x.view(), w.weight()); }));
  CHECK(rejects("linear_backward_input",
                [&] { linear_backward_input(context, dx.view(), y.view(), w.weight()); }));
  CHECK(rejects("linear_add_backward_input", [&] {
    linear_add_backward_input(context, dx.view(), y.view(), w.weight(), x.view());
  }));
  CHECK(y.untouched());
  CHECK(dx.untouched());
}

TEST_CASE("whether a backend has weights in 8 bits can be asked") {
  using bytes = vector_view<std::byte, cpu>;
  static_assert(supported<op::quantize_weight, cpu, bytes, weight_view<float, cpu>>);
  static_assert(supported<op::quantize_weight, cpu, bytes, weight_view<bf16, cpu>>);
  static_assert(!supported<op::quantize_weight, cpu, bytes, weight_view<double, cpu>>);
  static_assert(has_quantized_weights<cpu, bf16> && !has_quantized_weights<cpu, double>);
}

}  // namespace mtp::test::quantize_cases
