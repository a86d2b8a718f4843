#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/combine_test.hpp"

namespace mtp::test::combine {

TEST_CASE_TEMPLATE(
    "on a GPU, combine_forward takes a wrong token for a row of zeros and reports it",
    S,
    float,
    double,
    bf16) {
  using A = accumulate_t<S>;
  // Few rows, few that do not fit into shared memory, and many.
  for (const combine_sizes& s : {combine_sizes{4, 24, 9, 3, 0},
                                 combine_sizes{16, 1032, 3, 3, 0},
                                 combine_sizes{20, 7, 5, 3, 0},
                                 combine_sizes{70, 7, 5, 3, 0}}) {
    for (const token_t wrong : {-1, 3}) {
      const index_t row = s.N - 2;
      CAPTURE(s.N);
      CAPTURE(wrong);
      auto context = testing<staged>::make_context();
      problem<S, staged> p(s, true), zero(s, true);
      guarded<S, 2, staged> y(dims<2>{s.N, s.outputs}), expected(dims<2>{s.N, s.outputs});
      guarded<A, 1, staged> inv_hidden(dims<1>{s.N}), inv_embedding(dims<1>{s.N});
      guarded<A, 1, staged> r(dims<1>{s.N}), q(dims<1>{s.N});
      p.tokens.view()(row) = wrong;
      p.forward(context, y.view(), inv_hidden.view(), inv_embedding.view());
      CHECK_THROWS_WITH_AS(
          context.synchronize(),
          doctest::Contains(("embedding: token " + std::to_string(wrong) + " in row " +
                             std::to_string(row) + " does not lie in [0, 3)")
                                .c_str()),
          error);
      context.synchronize();

      // A vocabulary whose last token has a row of zeros.
      guarded_weight<S, staged> table(
          4,
          s.C,
          join(p.table.rows().elements, std::vector<double>(static_cast<std::size_t>(s.C))));
      zero.table = std::move(table);
      zero.tokens.view()(row) = 3;
      zero.forward(context, expected.view(), r.view(), q.view());
      CHECK(same_bits(y.view(), expected.view()));
      CHECK(same_bits(inv_hidden.view(), r.view()));
      CHECK(same_bits(inv_embedding.view(), q.view()));
      CHECK(y.intact());
    }
  }
}

TEST_CASE("on a GPU, combine_forward of few rows of bf16 is one kernel") {
  auto context = testing<staged>::make_context();
  const combine_sizes s{5, 64, 48, 6, 0};
  problem<bf16, staged> p(s, true);
  guarded<bf16, 2, staged> y(dims<2>{s.N, s.outputs});
  guarded<float, 1, staged> inv_hidden(dims<1>{s.N}), inv_embedding(dims<1>{s.N});
#if defined(MTP_CUDA_EMULATION)
  const long launches = emulation::counts().launches;
  p.forward(context, y.view(), inv_hidden.view(), inv_embedding.view());
  CHECK(emulation::counts().launches - launches == 1);
#endif
}

}  // namespace mtp::test::combine
