// Embedding look-up and its gradient against the reference.
#include "mtp/ops/embedding.hpp"

#include <doctest/doctest.h>

#include <span>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/gradcheck.hpp"
#include "support/guard.hpp"
#include "support/promises.hpp"
#include "support/random.hpp"
#include "support/reference/embedding.hpp"
#include "support/text.hpp"
#include "support/tolerance.hpp"
#include "support/weights.hpp"

namespace {

using namespace mtp;
using namespace mtp::test;
using reference::array;
using reference::array_of;
using reference::magnitude;

struct table_sizes {
  index_t N, V, C;
};

const table_sizes sizes[] = {{1, 1, 1},
                             {3, 2, 3},
                             {7, 15, 16},
                             {5, 16, 17},
                             {20, 17, 31},
                             {9, 31, 32},
                             {40, 32, 33},
                             {13, 33, 65},
                             {200, 7, 5},
                             {0, 4, 3},
                             {64, 129, 257}};

std::vector<token_t> random_tokens(index_t N, index_t V) {
  const random_stream random(mtp::seed{7}, 1);
  std::vector<token_t> tokens;
  for (index_t n = 0; n < N; ++n) {
    tokens.push_back(static_cast<token_t>(
        random.below(static_cast<std::uint64_t>(n), static_cast<std::uint64_t>(V))));
  }
  if (N > 1) {
    tokens.front() = static_cast<token_t>(V - 1);
    tokens.back() = 0;
  }
  return tokens;
}

TEST_CASE_TEMPLATE("embedding_forward copies the rows of the tokens", S, float, double) {
  cpu_context context({.threads = 2});
  for (const table_sizes& s : sizes) {
    const index_t N = s.N, V = s.V, C = s.C;
    CAPTURE(N);
    CAPTURE(C);
    guarded_weight<S> table(V, C, uniform(V * C, 1));
    const auto tokens = random_tokens(N, V);
    guarded<S, 2> x(dims<2>{N, C}, strides(C + 3, 1));
    embedding_forward(context, x.view(), table.view(), view_of(tokens));
    CHECK(within(x.view(), reference::embedding_forward(table.rows(), tokens).elements, 0.0));
    CHECK(x.intact());
    CHECK(table.untouched());
  }
}

TEST_CASE_TEMPLATE("embedding_backward matches the reference", S, float, double) {
  cpu_context context({.threads = 2});
  for (const table_sizes& s : sizes) {
    const index_t N = s.N, V = s.V, C = s.C;
    CAPTURE(N);
    CAPTURE(C);
    guarded_weight<S> dtable(V, C, uniform(V * C, 1));
    guarded<S, 2> dx(dims<2>{N, C}, strides(C + 3, 1), uniform(N * C, 2));
    const auto tokens = random_tokens(N, V);
    const array<2> before = dtable.rows(), dxs = array_of(dx.view());
    embedding_backward(context, dtable.view(), dx.view(), view_of(tokens));
    const array<2> terms = reference::embedding_backward(magnitude(before), magnitude(dxs), tokens);
    std::vector<double> bound;
    for (const double element : terms.elements) {
      bound.push_back(sum_bound(N, unit_roundoff<S>, element));
    }
    CHECK(within(dtable.rows().elements,
                 reference::embedding_backward(before, dxs, tokens).elements,
                 bound));
    CHECK(dtable.padding_is_zero());
    CHECK(dtable.intact());
    CHECK(dx.untouched());
  }
}

TEST_CASE_TEMPLATE("embedding_backward adds in the order of positions", S, float, double) {
  cpu_context context({.threads = 2});
  // In this order the small numbers are lost; in any other order some of them are not.
  const double large = 4 / unit_roundoff<S>;
  guarded_weight<S> dtable(3, 1, {0, 0, 0});
  guarded<S, 2> dx(dims<2>{5, 1}, std::vector<double>{large, 1, 1, 1, -large});
  const std::vector<token_t> tokens(5, 1);
  embedding_backward(context, dtable.view(), dx.view(), view_of(tokens));
  CHECK(within(dtable.rows().elements, {0, 0, 0}, 0.0));
}

TEST_CASE("embedding_backward matches differences of embedding_forward") {
  cpu_context context({.threads = 2});
  for (const table_sizes& s : {table_sizes{6, 4, 3}, table_sizes{40, 33, 65}}) {
    const index_t N = s.N, V = s.V, C = s.C;
    const auto tokens = random_tokens(N, V);
    guarded_weight<double> table(V, C, uniform(V * C, 1));
    guarded_weight<double> dtable(V, C, std::vector<double>(static_cast<std::size_t>(V * C)));
    guarded<double, 2> dx(dims<2>{N, C}, uniform(N * C, 2)), x(dims<2>{N, C});
    embedding_backward(context, dtable.view(), dx.view(), view_of(tokens));
    const array<2> dxs = array_of(dx.view());
    CHECK(gradient_matches(
        [&](std::span<const double> at) {
          guarded_weight<double> moved(V, C, std::vector<double>(at.begin(), at.end()));
          embedding_forward(context, x.view(), moved.view(), view_of(tokens));
          return reference::inner(dxs, array_of(x.view()));
        },
        table.rows().elements,
        dtable.rows().elements));
  }
}

TEST_CASE_TEMPLATE("embedding operations give the same bits for any number of threads",
                   S,
                   float,
                   double) {
  const index_t N = 500, V = 50, C = 131;
  const auto tokens = random_tokens(N, V);
  guarded<S, 2> dx(dims<2>{N, C}, uniform(N * C, 2));
  CHECK(same_for_all_threads([&](cpu_context& context) {
    guarded_weight<S> table(V, C, uniform(V * C, 1));
    guarded<S, 2> x(dims<2>{N, C});
    embedding_forward(context, x.view(), table.view(), view_of(tokens));
    embedding_backward(context, table.view(), dx.view(), view_of(tokens));
    return join(elements(x.view()), table.storage());
  }));
}

TEST_CASE("embedding operations reject wrong shapes and tokens and change nothing") {
  using S = float;
  cpu_context context({.threads = 1});
  guarded_weight<S> table(5, 3, uniform(15, 1)), wide(5, 4, uniform(20, 1));
  guarded<S, 2> x(dims<2>{4, 3}), longer(dims<2>{5, 3}), spread(dims<2>{4, 3}, strides(6, 2));
  const std::vector<token_t> good = {0, 4, 2, 1}, large = {0, 4, 5, 1}, negative = {0, 4, 2, -1};
  const auto both = [&](auto x_, auto table_, const std::vector<token_t>& list) {
    const auto tokens = view_of(list);
    CHECK(rejects("embedding_forward", [&] { embedding_forward(context, x_, table_, tokens); }));
    return rejects("embedding_backward", [&] { embedding_backward(context, table_, x_, tokens); });
  };
  CHECK(both(longer.view(), table.view(), good));
  CHECK(both(x.view(), wide.view(), good));
  CHECK(both(spread.view(), table.view(), good));
  const comparison outside = both(x.view(), table.view(), large);
  CHECK(outside);
  CHECK(outside.message == "embedding_backward: token 5 at position 2 does not lie in [0, 5)");
  CHECK(both(x.view(), table.view(), negative));
  CHECK(x.untouched());
  CHECK(longer.untouched());
  CHECK(spread.untouched());
  CHECK(table.untouched());
  CHECK(wide.untouched());
}

}  // namespace
