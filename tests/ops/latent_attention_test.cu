#include "support/cuda_cases.hpp"
// The cases come first.
#include "ops/latent_attention_test.hpp"

namespace mtp::test::latent_attention {

TEST_CASE_TEMPLATE("rows outside a cache of latents write nothing and give zeros", S, float, bf16) {
  staged_context context = testing<staged>::make_context();
  const index_t capacity = 20, M = 12;
  for (const index_t first : {-30, -5, 0, 15, 20, 70}) {
    CAPTURE(first);
    latents<S, staged> past(15, {3, 24, 18}, 1), a(M, {3, 24, 18});
    latent_memory<S, staged> cache(a.W, capacity), expected(a.W, capacity);
    auto ignored = past.like_out(15);
    for (auto* const one : {&cache, &expected}) {
      if (first == 15) {  // positions before the first must have been written
        attend_chain(context, past, one->view(), ignored, 0, 15, [](index_t) { return 15; });
      }
    }
    const auto run = [&](auto& to, auto& in, index_t skip, index_t rows) {
      std::vector<index_t> own(static_cast<std::size_t>(rows));
      std::iota(own.begin(), own.end(), skip);
      auto positions = positions_at<staged>(first + skip, rows);
      attend(context, a, in.view(), own, positions, {{0, rows}}, to.view().slice(0, skip, rows));
      context.synchronize();
    };
    auto out = a.like_out(M), inside = a.like_out(M);
    run(out, cache, 0, M);
    const index_t begin = std::clamp<index_t>(-first, 0, M);
    const index_t end = std::clamp<index_t>(capacity - first, begin, M);
    run(inside, expected, begin, end - begin);
    CHECK(same_bits(out.view().slice(0, begin, end - begin),
                    inside.view().slice(0, begin, end - begin)));
    CHECK(same_bits(cache.elements(), expected.elements()));
    for (index_t m = 0; m < M; ++m) {
      if (m < begin || m >= end) {
        CHECK(same_bits(values(out.view().select(0, m)),
                        std::vector<double>(static_cast<std::size_t>(a.H * a.R), 0.0)));
      }
    }
    CHECK(out.intact());
  }
}

TEST_CASE("tiles of wide rows fit into a block of any device") {
  using policy = cuda_detail::latent_policy;
  CHECK(policy::positions<bf16>(576, 512) == 32);
  CHECK(policy::positions<float>(576, 512) == 32);
  CHECK(policy::positions<double>(576, 512) == 8);
  CHECK(policy::shared_bytes<double>(576, 512, 8) <= cuda_detail::common_shared_bytes);
  CHECK(policy::stride<bf16>(576) == 578);
  CHECK(policy::stride<bf16>(577) == 578);
  CHECK(policy::stride<float>(576) == 577);
  CHECK(policy::stride<float>(577) == 577);
}

TEST_CASE_TEMPLATE("rows so wide that a tile has few positions", S, float, double) {
  // Against the reference, across several tiles.
  staged_context context = testing<staged>::make_context();
  latents<S, staged> a(21, {2, 900, 800});
  REQUIRE(cuda_detail::latent_policy::positions<S>(a.W, a.R) < 32);
  const expected_rows<on<staged, S>> expected(
      array_of(a.q.view()), array_of(a.latent.view()), a.scale, a.R);
  latent_memory<S, staged> cache(a.W, 21);
  auto out = a.like_out(21);
  attend_chain(context, a, cache.view(), out, 0, 21, [](index_t) { return 4; });
  CHECK(within(out.view(), expected.out.elements, expected.bounds));
}

}  // namespace mtp::test::latent_attention
