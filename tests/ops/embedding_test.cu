#include <algorithm>
#include <numeric>

#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/embedding_test.hpp"

namespace mtp::test::embedding {

// The host cannot look at tokens on a device: kernels must not follow a wrong one anywhere.
TEST_CASE_TEMPLATE("tokens outside the table give zeros and no gradient, and are reported",
                   S,
                   float,
                   double,
                   bf16) {
  using A = accumulate_t<S>;
  staged_context context = testing<staged>::make_context();
  const std::vector<token_t> tokens = {2, 5, 0, -1, 2, 2147483647, -2147483647 - 1};
  auto ids = guarded_tokens<staged>(tokens);
  for (const table_sizes& size :
       {table_sizes{7, 5, 3, 0}, table_sizes{7, 4, 16, 0}, table_sizes{7, 5, 16, 0}}) {
    const index_t V = size.V, C = size.C;
    CAPTURE(V);
    const auto N = static_cast<index_t>(tokens.size());
    guarded_weight<S, staged> table(V, C, uniform(V * C, 1));
    guarded_weight<A, staged> dtable(V, C, uniform(V * C, 2));
    guarded<S, 2, staged> x(dims<2>{N, C}), dx(dims<2>{N, C}, uniform(N * C, 3));
    const std::vector<double> rows = table.rows().elements;
    std::vector<double> expected, sums = dtable.rows().elements;
    for (index_t n = 0; n < N; ++n) {
      const token_t token = tokens[static_cast<std::size_t>(n)];
      const bool known = token >= 0 && token < V;
      for (index_t c = 0; c < C; ++c) {
        const auto at = static_cast<std::size_t>(token * C + c);
        expected.push_back(known ? rows[at] : 0);
        if (known) {
          sums[at] =
              static_cast<double>(static_cast<A>(sums[at]) + static_cast<A>(dx.view()(n, c)));
        }
      }
    }
    embedding_forward(context, x.view(), table.view(), ids.view());
    CHECK(rejects("embedding", [&] { context.synchronize(); }));
    CHECK_NOTHROW(context.synchronize());  // what was thrown is forgotten
    CHECK(same_bits(values(x.view()), expected));
    CHECK(x.intact());

    embedding_backward(context, dtable.view(), dx.view(), ids.view());
    const comparison report = rejects("embedding", [&] { context.synchronize(); });
    CHECK(report);
    CHECK(report.message.find(" does not lie in [0, " + std::to_string(V) + ")") !=
          std::string::npos);
    CHECK(same_bits(dtable.rows().elements, sums));
    CHECK(dtable.intact());
  }
}

TEST_CASE("tokens are sorted by all bits that they have, and rows of one token stay in order") {
  auto context = testing<staged>::make_context();
  for (const index_t V : {1, 2, 3, 4, 255, 256, 257, 65535, 65536, 131072}) {
    CAPTURE(V);
    // The last number, V, stands for tokens that do not exist.
    const std::vector<token_t> tokens = random_tokens(300, V + 1);
    const auto N = static_cast<index_t>(tokens.size());
    std::vector<double> order(tokens.size());
    std::iota(order.begin(), order.end(), 0.0);
    auto first = guarded_tokens<staged>(tokens), second = guarded_tokens<staged>(tokens);
    guarded<std::int32_t, 1, staged> rows(dims<1>{N}, order), other_rows(dims<1>{N}, order);
    guarded<token_t, 1, staged> sorted(dims<1>{N});
    guarded<std::int32_t, 1, staged> sorted_rows(dims<1>{N});
    context.on_device(
        [&](const auto& a, const auto& b, const auto& c, const auto& d, auto to, auto to_rows) {
          const cuda_detail::ordered_pairs pairs = cuda_detail::sort_by_token(
              context, {{a.data(), b.data()}, {c.data(), d.data()}}, N, V);
          const auto copy = [&](auto* into, const auto* from) {
            cuda_detail::check_cuda(cudaMemcpyAsync(into,
                                                    from,
                                                    static_cast<std::size_t>(N) * sizeof *into,
                                                    cudaMemcpyDeviceToDevice,
                                                    context.stream()),
                                    "copy");
          };
          copy(to.data(), pairs.tokens);
          copy(to_rows.data(), pairs.rows);
        },
        first.view(),
        second.view(),
        rows.view(),
        other_rows.view(),
        sorted.view(),
        sorted_rows.view());
    std::stable_sort(order.begin(), order.end(), [&](double a, double b) {
      return tokens[static_cast<std::size_t>(a)] < tokens[static_cast<std::size_t>(b)];
    });
    std::vector<double> expected;
    for (const double n : order) {
      expected.push_back(static_cast<double>(tokens[static_cast<std::size_t>(n)]));
    }
    CHECK(same_bits(values(sorted.view()), expected));
    CHECK(same_bits(values(sorted_rows.view()), order));
    CHECK(first.intact());
    CHECK(second.intact());
    CHECK(rows.intact());
    CHECK(other_rows.intact());
    CHECK(workspace_is_idle(context));
  }
}

TEST_CASE("embedding operations can be recorded and replayed with other tokens") {
  using S = float;
  staged_context context = testing<staged>::make_context();
  const index_t N = 70, V = 3, C = 40;
  guarded_weight<S, staged> table(V, C, uniform(V * C, 1));
  guarded_weight<S, staged> dtable(V, C, uniform(V * C, 2));
  guarded<S, 2, staged> x(dims<2>{N, C}), dx(dims<2>{N, C}, uniform(N * C, 3));
  std::vector<double> list(static_cast<std::size_t>(N));
  guarded<token_t, 1, staged> ids(dims<1>{N}, list);
  const auto w = table.view(), dw = dtable.view();
  const auto to = x.view(), from = dx.view();
  const auto places = ids.view();
  staged_recording cycle;
  for (index_t round = 0; round < 4; ++round) {
    std::vector<token_t> tokens;
    for (index_t n = 0; n < N; ++n) {
      tokens.push_back(static_cast<token_t>((n / (round + 1) + round) % V));
    }
    ids.set({tokens.begin(), tokens.end()});
    const reference::array<2> before = dtable.rows();
    cycle.replay(context, [&] {
      embedding_forward(context, to, w, places);
      embedding_backward(context, dw, from, places);
    });
    context.synchronize();
    CAPTURE(round);
    CHECK(same_bits(values(x.view()), reference::embedding_forward(table.rows(), tokens).elements));
    CHECK(same_bits(dtable.rows().elements,
                    summed_in_order<S>(before, reference::array_of(dx.view()), tokens)));
  }
}

}  // namespace mtp::test::embedding
