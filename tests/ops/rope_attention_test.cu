#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/rope_attention_test.hpp"

namespace mtp::test::rope_attention {

TEST_CASE_TEMPLATE("rows outside a cache are not looked up in the table", S, double, bf16) {
  staged_context context = testing<staged>::make_context();
  for (const head_sizes& heads : {head_sizes{4, 2, 32}, head_sizes{2, 1, 10}}) {
    for (const index_t M : {9, 40}) {
      for (const index_t first : {-4, 35, 900}) {
        rotating_sequences<S, staged> a({1, M, heads}, 1);
        auto table = rope_table<accumulate_t<S>, staged>(39, heads.E, 4);
        test_cache<S, staged> cache(a, 39);
        auto out = a.like_queries();
        auto positions = positions_at<staged>(first, M);
        rope_attention_cached_forward(context,
                                      out.view(),
                                      cache.view(),
                                      a.q.view(),
                                      a.k.view(),
                                      a.v.view(),
                                      table.view(),
                                      positions.view());
        context.synchronize();
        for (index_t m = 0; m < M; ++m) {
          if (first + m < 0 || first + m >= 39) {
            CHECK(same_bits(values(out.view().select(0, m)),
                            std::vector<double>(static_cast<std::size_t>(a.H * a.E), 0.0)));
          }
        }
        CHECK(out.intact());
      }
    }
  }
}

}  // namespace mtp::test::rope_attention
