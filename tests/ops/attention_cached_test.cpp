#include <cstring>
#include <string>
#include <vector>

#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/attention_cached_test.hpp"

namespace mtp::test::attention_cached {

TEST_CASE("attention_cached_forward names what is wrong with runs and positions") {
  context<cpu> context;
  sequences<float, cpu> a(1, 6, {2, 1, 8});
  test_cache<float, cpu> cache(a, 9, 3);
  auto out = a.like_queries();
  const auto message = [&](std::vector<index_t> positions, std::vector<row_run> runs) {
    try {
      attention_cached_forward(context,
                               out.view(),
                               cache.view(),
                               a.q.view(),
                               a.k.view(),
                               a.v.view(),
                               vector_view<const index_t, cpu>(positions.data(), dims<1>{6}),
                               runs);
    } catch (const error& fault) {
      return std::string(fault.what());
    }
    return std::string("nothing");
  };
  const std::vector<float> before = cache.elements();
  CHECK(message({0, 1, 2, 4, 5, 6}, {{0, 6}}) ==
        "attention_cached_forward: positions of a run must be consecutive, expected 3 in row 3, "
        "got 4");
  CHECK(message({4, 5, 6, 7, 8, 9}, {{0, 6}}) ==
        "attention_cached_forward: position 9 does not lie in a cache of 9");
  CHECK(message({-1, 0, 1, 2, 3, 4}, {{0, 6}}) ==
        "attention_cached_forward: position -1 does not lie in a cache of 9");
  CHECK(message({0, 1, 2, 3, 4, 5}, {{3, 6}}) ==
        "attention_cached_forward: expected different slots in [0, 3), got 3 in run 0");
  CHECK(message({0, 1, 2, 0, 1, 2}, {{1, 3}, {1, 3}}) ==
        "attention_cached_forward: expected different slots in [0, 3), got 1 in run 1");
  CHECK(message({0, 1, 2, 0, 1, 2}, {{1, 3}, {0, 4}}) ==
        "attention_cached_forward: expected runs of 6 rows in all, got one of 4 behind 3");
  CHECK(message({0, 1, 2, 0, 1, 2}, {{1, 3}, {0, 2}}) ==
        "attention_cached_forward: expected runs of 6 rows in all, got 5");
  CHECK(std::memcmp(cache.elements().data(), before.data(), sizeof(float) * before.size()) == 0);
  CHECK(message({0, 1, 2, 0, 1, 2}, {{1, 3}, {0, 3}}) == "nothing");
}

}  // namespace mtp::test::attention_cached
