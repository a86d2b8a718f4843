#include "mtp/loss/batch.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

namespace mtp::test::loss_batch_cases {

namespace {

/// Two sequences of two positions with one further token each: D = 1.
struct small_batch {
  std::vector<token_t> tokens{0, 1, 2, 3, 4, 5, 6, 7};  // [2, 4]
  std::vector<std::int32_t> segments;                   // [2, 4], or none
  std::vector<std::uint8_t> mask;                       // [2, 4], or none

  batch_view view() const { return {tokens, segments, mask, 2, 2}; }
  void check() const { check_tokens(view(), 1, 8); }
  target_counts<1> counts() const {
    target_counts<1> counts{10, 100};
    count_targets<1>(counts, view());
    return counts;
  }
};

}  // namespace

TEST_CASE("a batch is refused unless its arrays have the sizes that it states") {
  small_batch batch;
  batch.check();
  batch.segments.resize(8);
  batch.mask.resize(8);
  batch.check();
  batch.mask.resize(7);
  CHECK_THROWS_WITH_AS(batch.check(), "model_loss: expected 8 mask values, got 7", error);
  batch.segments.resize(9);
  CHECK_THROWS_WITH_AS(batch.check(), "model_loss: expected 8 segments, got 9", error);
  batch.tokens.pop_back();
  CHECK_THROWS_WITH_AS(
      batch.check(), "model_loss: expected 8 tokens ([2, 2 + 1 + 1]), got 7", error);
}

TEST_CASE("a token outside the vocabulary is refused with its place") {
  small_batch batch;
  batch.tokens[5] = 8;
  CHECK_THROWS_WITH_AS(
      batch.check(), "model_loss: token 8 at position 5 does not lie in [0, 8)", error);
  batch.tokens[5] = -1;
  CHECK_THROWS_AS(batch.check(), error);
}

TEST_CASE("targets count unless they are masked or of another document, and are added up") {
  small_batch batch;
  CHECK(batch.counts() == target_counts<1>{14, 104});
  batch.mask = {1, 1, 0, 1, 1, 1, 1, 1};  // token 2: depth 0 at position 1, depth 1 at position 0
  CHECK(batch.counts() == target_counts<1>{13, 103});
  batch.mask.clear();
  batch.segments = {0, 0, 0, 1, 2, 3, 3, 3};
  CHECK(batch.counts() == target_counts<1>{13, 102});
  CHECK(is_target(batch.view(), 0, 2));
  CHECK(!is_target(batch.view(), 1, 3));
}

TEST_CASE("agreement is a share of the targets, and 0 without any") {
  depth_report depth{.targets = 4, .agreed = 3};
  depth.count_agreement();
  CHECK(depth.agreement == 0.75);
  depth = {};
  depth.count_agreement();
  CHECK(depth.agreement == 0);
}

}  // namespace mtp::test::loss_batch_cases
