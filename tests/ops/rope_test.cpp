// Rotary position embedding against the reference.
#include "mtp/ops/rope.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <span>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/rope.hpp"
#include "support/tolerance.hpp"

namespace {

using namespace mtp;
using namespace mtp::test;
using reference::array;
using reference::array_of;

constexpr double theta = 10000;

/// Cosines in the first half of the columns, sines in the second.
template <class S>
guarded<S, 2> rope_table(index_t positions, index_t E) {
  std::vector<double> table;
  for (index_t p = 0; p < positions; ++p) {
    for (index_t c = 0; c < E; ++c) {
      const double a = reference::rope_angle(p, c % (E / 2), E, theta);
      table.push_back(c < E / 2 ? std::cos(a) : std::sin(a));
    }
  }
  return {dims<2>{positions, E}, strides(E + 3, 1), table};
}

struct rope_sizes {
  index_t N, H, E, length, first;
};

const rope_sizes sizes[] = {{1, 1, 2, 1, 0},
                            {6, 2, 4, 3, 0},
                            {4, 3, 6, 2, 5},
                            {5, 1, 14, 5, 1},
                            {7, 2, 16, 7, 0},
                            {3, 1, 18, 1, 39},
                            {8, 2, 30, 4, 2},
                            {5, 3, 32, 5, 0},
                            {13, 1, 34, 13, 3},
                            {12, 2, 62, 6, 0},
                            {4, 2, 64, 2, 9},
                            {3, 2, 66, 3, 0},
                            {0, 2, 8, 1, 0}};

template <class S>
guarded<S, 3> random_heads(const rope_sizes& s, std::uint64_t stream) {
  return {dims<3>{s.N, s.H, s.E},
          strides(s.H * (s.E + 1) + 2, s.E + 1, 1),
          normal(s.N * s.H * s.E, stream)};
}

/// Two products and their sum, each with the rounding of its cosine or sine.
template <class S>
std::vector<double> bounds(const array<3>& x) {
  const index_t half = x.size(2) / 2;
  array<3> pairs(x.sizes);
  for (index_t n = 0; n < x.size(0); ++n) {
    for (index_t h = 0; h < x.size(1); ++h) {
      for (index_t e = 0; e < x.size(2); ++e) {
        pairs(n, h, e) = gamma(4, unit_roundoff<S>) *
                         (std::abs(x(n, h, e % half)) + std::abs(x(n, h, e % half + half)));
      }
    }
  }
  return pairs.elements;
}

TEST_CASE_TEMPLATE("rope_forward and rope_backward match the reference", S, float, double) {
  cpu_context context({.threads = 2});
  for (const rope_sizes& s : sizes) {
    CAPTURE(s.N);
    CAPTURE(s.E);
    auto table = rope_table<S>(40, s.E);
    auto x = random_heads<S>(s, 1), dx = random_heads<S>(s, 2);
    const array<3> xs = array_of(x.view()), dxs = array_of(dx.view());
    rope_forward(context, x.view(), table.view(), s.length, s.first);
    CHECK(within(x.view(), reference::rope(xs, theta, s.length, s.first).elements, bounds<S>(xs)));
    CHECK(x.intact());
    rope_backward(context, dx.view(), table.view(), s.length, s.first);
    CHECK(within(
        dx.view(), reference::rope(dxs, theta, s.length, s.first, -1).elements, bounds<S>(dxs)));
    CHECK(dx.intact());
    CHECK(table.untouched());
  }
}

TEST_CASE("rope_backward matches differences of rope_forward") {
  cpu_context context({.threads = 2});
  for (const rope_sizes& s : {rope_sizes{4, 2, 6, 2, 3}, rope_sizes{12, 3, 34, 6, 0}}) {
    const dims<3> shape{s.N, s.H, s.E};
    auto table = rope_table<double>(40, s.E);
    auto x = random_heads<double>(s, 1), dy = random_heads<double>(s, 2);
    const array<3> dys = array_of(dy.view());
    rope_backward(context, dy.view(), table.view(), s.length, s.first);
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          guarded<double, 3> moved(shape, std::vector<double>(at.begin(), at.end()));
          rope_forward(context, moved.view(), table.view(), s.length, s.first);
          return reference::inner(dys, array_of(moved.view()));
        },
        values(x.view()),
        values(dy.view())));
  }
}

TEST_CASE_TEMPLATE("rope gives a row the same bits among any number of rows and threads",
                   S,
                   float,
                   double) {
  cpu_context one({.threads = 1});
  const rope_sizes s{200, 3, 66, 200, 7};
  auto table = rope_table<S>(207, s.E);
  auto x = random_heads<S>(s, 1);
  using function = void (*)(
      cpu_context&, mtp::view<S, dims<3>, cpu>, matrix_view<const S, cpu>, index_t, index_t);
  const function functions[] = {
      [](auto& context, auto rows, auto positions, index_t length, index_t first) {
        rope_forward(context, rows, positions, length, first);
      },
      [](auto& context, auto rows, auto positions, index_t length, index_t first) {
        rope_backward(context, rows, positions, length, first);
      }};
  for (const function rotate : functions) {
    const auto run = [&](cpu_context& context, index_t first, index_t M) {
      guarded<S, 3> rows(dims<3>{M, s.H, s.E}, values(x.view().slice(0, first, M)));
      rotate(context, rows.view(), table.view(), M, s.first + first);
      return elements(rows.view());
    };
    std::vector<S> alone;
    for (index_t m = 0; m < s.N; ++m) {
      alone = join(std::move(alone), run(one, m, 1));
    }
    for (int threads = 1; threads <= 4; ++threads) {
      cpu_context context({.threads = threads});
      CHECK(same_bits(run(context, 0, s.N), alone));
      for (index_t M = 1; M <= 17; ++M) {
        CAPTURE(M);
        CHECK(same_bits(run(context, 0, M),
                        std::vector<S>(alone.begin(), alone.begin() + M * s.H * s.E)));
      }
    }
  }
}

TEST_CASE_TEMPLATE("rope starts each sequence of a batch at the first position", S, float, double) {
  cpu_context context({.threads = 1});
  const index_t length = 7, H = 2, E = 18;
  auto table = rope_table<S>(10, E);
  for (index_t batch = 1; batch <= 5; ++batch) {
    auto all = random_heads<S>({batch * length, H, E, length, 3}, 1);
    std::vector<S> expected;
    for (index_t b = 0; b < batch; ++b) {
      guarded<S, 3> one(dims<3>{length, H, E}, values(all.view().slice(0, b * length, length)));
      rope_forward(context, one.view(), table.view(), length, 3);
      expected = join(std::move(expected), elements(one.view()));
    }
    rope_forward(context, all.view(), table.view(), length, 3);
    CHECK(same_bits(elements(all.view()), expected));
  }
}

TEST_CASE("rope operations reject wrong shapes and positions and change nothing") {
  using S = float;
  cpu_context context({.threads = 1});
  auto table = rope_table<S>(10, 8), narrow = rope_table<S>(10, 6);
  guarded<S, 3> x(dims<3>{6, 2, 8}, uniform(96, 1)), odd(dims<3>{6, 2, 7}, uniform(84, 1));
  guarded<S, 3> spread(dims<3>{6, 2, 8}, strides(32, 16, 2), uniform(96, 1));
  guarded<S, 2> odd_table(dims<2>{10, 7}, uniform(70, 2));
  guarded<S, 2> spread_table(dims<2>{10, 8}, strides(16, 2), uniform(80, 2));
  const auto both = [&](auto x_, auto table_, index_t length, index_t first) {
    CHECK(rejects("rope_forward", [&] { rope_forward(context, x_, table_, length, first); }));
    CHECK(rejects("rope_backward", [&] { rope_backward(context, x_, table_, length, first); }));
  };
  both(x.view(), narrow.view(), 6, 0);
  both(odd.view(), odd_table.view(), 6, 0);
  both(spread.view(), table.view(), 6, 0);
  both(x.view(), spread_table.view(), 6, 0);
  both(x.view(), table.view(), 4, 0);
  both(x.view(), table.view(), 0, 0);
  both(x.view(), table.view(), 6, 5);
  both(x.view(), table.view(), 6, -1);
  CHECK(x.untouched());
  CHECK(odd.untouched());
  CHECK(spread.untouched());
}

}  // namespace
