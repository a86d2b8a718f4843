#include "support/cuda_cases.hpp"
// The backend comes first.
#include "support/cuda_tensor_ranks.hpp"
// The cases come first.
#include "ops/sharded_embedding_test.hpp"

namespace mtp::test::sharded_embedding_cases {

// The host cannot look at tokens on a device.
TEST_CASE("tokens that no rank has give zeros and no gradient, and are reported by all") {
  const std::vector<double> tokens{2, 24, 7, -1, 2147483647, 23, 0};
  const index_t N = 7, C = 5, V = 24, part = V / 2;
  const auto rows = normal(V * C, 1);
  const auto reports = from_ranks_of<std::vector<double>, staged>(2, [&](auto& context, int rank) {
    guarded<token_t, 1, staged> ids(dims<1>{N}, tokens);
    guarded_weight<float, staged> table(part, C, rows_of(rows, C, rank * part, part));
    guarded_weight<float, staged> dtable(part, C, std::vector<double>(part * C, 0.0));
    guarded<float, 2, staged> x(dims<2>{N, C}), dx(dims<2>{N, C}, std::vector<double>(N * C, 1.0));
    sharded_embedding_forward(context, x.view(), table.view(), ids.view());
    const comparison forward = rejects("embedding", [&] { context.synchronize(); });
    CHECK(forward);
    CHECK(forward.message.find(" does not lie in [0, 24)") != std::string::npos);
    sharded_embedding_backward(context, dtable.view(), dx.view(), ids.view());
    CHECK(rejects("embedding", [&] { context.synchronize(); }));
    CHECK_NOTHROW(context.synchronize());
    CHECK(x.intact());
    CHECK(dtable.intact());
    return join(values(x.view()), dtable.rows().elements);
  });
  std::vector<double> x;
  for (const double token : tokens) {
    for (index_t c = 0; c < C; ++c) {
      const bool known = token >= 0 && token < static_cast<double>(V);
      const auto at = static_cast<std::size_t>(known ? static_cast<index_t>(token) * C + c : 0);
      x.push_back(known ? static_cast<double>(static_cast<float>(rows[at])) : 0);
    }
  }
  for (index_t rank = 0; rank < 2; ++rank) {
    std::vector<double> expected = x;
    for (index_t row = 0; row < part; ++row) {
      const index_t token = rank * part + row;
      const bool met = token == 2 || token == 7 || token == 23 || token == 0;
      expected.insert(expected.end(), static_cast<std::size_t>(C), met ? 1 : 0);
    }
    CHECK(same_bits(reports[static_cast<std::size_t>(rank)], expected));
  }
}

}  // namespace mtp::test::sharded_embedding_cases
