#include "support/cpu_cases.hpp"
// The cases come first.
#include "mtp/ops/embedding.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "ops/combine_test.hpp"

namespace mtp::test::combine {

TEST_CASE_TEMPLATE(
    "on the CPU, combine operations give the bits of embedding, norms, concatenation and "
    "projection",
    S,
    float,
    double,
    bf16) {
  using A = accumulate_t<S>;
  cpu_context context({.threads = 2});
  for (const combine_sizes& s : {combine_sizes{5, 24, 33, 6, 8}, combine_sizes{37, 41, 20, 9, 0}}) {
    for (const bool hidden_first : {true, false}) {
      CAPTURE(s.N);
      CAPTURE(hidden_first);
      problem<S, cpu> p(s, hidden_first);
      const index_t N = s.N, C = s.C;
      guarded<S, 2, cpu> embedded(dims<2>{N, C}), both(dims<2>{N, 2 * C}), dboth(dims<2>{N, 2 * C});
      guarded<S, 2, cpu> y(dims<2>{N, s.outputs}), expected(dims<2>{N, s.outputs});
      guarded<A, 1, cpu> inv_hidden(dims<1>{N}), inv_embedding(dims<1>{N});
      guarded<A, 1, cpu> r(dims<1>{N}), q(dims<1>{N});
      const auto half = [&](guarded<S, 2, cpu>& rows, bool first) {
        return rows.view().slice(1, first ? 0 : C, C);
      };
      embedding_forward(context, embedded.view(), p.table.view(), p.tokens.view());
      rms_norm_forward(context,
                       half(both, hidden_first),
                       r.view(),
                       p.hidden.view(),
                       p.hidden_scale.view(),
                       epsilon);
      rms_norm_forward(context,
                       half(both, !hidden_first),
                       q.view(),
                       embedded.view(),
                       p.embedding_scale.view(),
                       epsilon);
      linear_forward(context, expected.view(), both.view(), p.projection.view());
      p.forward(context, y.view(), inv_hidden.view(), inv_embedding.view());
      CHECK(same_bits(y.view(), expected.view()));
      CHECK(same_bits(inv_hidden.view(), r.view()));
      CHECK(same_bits(inv_embedding.view(), q.view()));

      guarded<S, 2, cpu> dy(dims<2>{N, s.outputs}, normal(N * s.outputs, 6));
      gradients<S, cpu> d(s, 1), apart(s, 1);
      d.backward(context, p, dy, inv_hidden, inv_embedding);
      linear_backward_weight(context, apart.projection.view(), dy.view(), both.view());
      linear_backward_input(context, dboth.view(), dy.view(), p.projection.view());
      const matrix_view<const S, cpu> nothing(nullptr, dims<2>{0, 0});
      rms_norm_backward(context,
                        apart.hidden.view(),
                        apart.hidden_scale.view(),
                        half(dboth, hidden_first),
                        p.hidden.view(),
                        r.view(),
                        p.hidden_scale.view(),
                        nothing);
      rms_norm_backward(context,
                        half(dboth, !hidden_first),
                        apart.embedding_scale.view(),
                        half(dboth, !hidden_first),
                        embedded.view(),
                        q.view(),
                        p.embedding_scale.view(),
                        nothing);
      embedding_backward(context, apart.table.view(), half(dboth, !hidden_first), p.tokens.view());
      CHECK(same_bits(d.hidden.view(), apart.hidden.view()));
      CHECK(same_bits(d.hidden_scale.view(), apart.hidden_scale.view()));
      CHECK(same_bits(d.embedding_scale.view(), apart.embedding_scale.view()));
      CHECK(same_bits(d.projection.storage(), apart.projection.storage()));
      CHECK(same_bits(d.table.storage(), apart.table.storage()));
    }
  }
}

TEST_CASE("on the CPU, combine operations reject tokens outside the vocabulary") {
  cpu_context context({.threads = 1});
  for (const token_t wrong : {-1, 3}) {
    problem<float, cpu> p({4, 6, 5, 3, 0}, true);
    p.tokens.view()(2) = wrong;
    guarded<float, 2, cpu> y(dims<2>{4, 5});
    guarded<float, 1, cpu> inv_hidden(dims<1>{4}), inv_embedding(dims<1>{4});
    CHECK(rejects("combine_forward",
                  [&] { p.forward(context, y.view(), inv_hidden.view(), inv_embedding.view()); }));
    CHECK(y.untouched());
  }
}

}  // namespace mtp::test::combine
