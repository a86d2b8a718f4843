// Losses of models: targets, empty depths, memory, and what is refused.
#include "mtp/loss/model_loss.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/cpu_cases.hpp"
#include "support/model.hpp"
#include "support/promises.hpp"

namespace mtp::test::loss_model_loss_cases {

namespace {

struct expected_depth {
  double loss = 0;
  double agreement = 0;
  index_t targets = 0;
};

/// Loss of depth k from its logits [N, V], as defined: the target of position i is t_{i+1+k}, if it
/// is not masked and of the document of t_i. Divided by the number of targets.
expected_depth expected_loss(const std::vector<double>& logits,
                             const token_batch& batch,
                             index_t k,
                             index_t V) {
  expected_depth result;
  index_t agreed = 0;
  for (index_t b = 0; b < batch.batch; ++b) {
    for (index_t i = 0; i < batch.length; ++i) {
      const auto here = static_cast<std::size_t>(b * batch.row() + i);
      const auto there = here + 1 + static_cast<std::size_t>(k);
      if (!batch.mask.empty() && batch.mask[there] == 0) continue;
      if (!batch.segments.empty() && batch.segments[there] != batch.segments[here]) continue;
      const double* const row = logits.data() + (b * batch.length + i) * V;
      double sum = 0;
      for (index_t v = 0; v < V; ++v) {
        sum += std::exp(row[v]);
      }
      const token_t target = batch.tokens[there];
      result.loss += std::log(sum) - row[target];
      agreed += std::max_element(row, row + V) - row == target ? 1 : 0;
      ++result.targets;
    }
  }
  const auto count = static_cast<double>(std::max<index_t>(result.targets, 1));
  result.loss /= count;
  result.agreement = static_cast<double>(agreed) / count;
  return result;
}

template <model_config Config>
void check_losses(subject<Config, double>& tested, const token_batch& batch) {
  auto options = default_loss_options<Config>();
  options.normalization = loss_normalization::valid_targets;
  const auto logits = tested.logits(batch);
  const auto report = tested.losses(batch, options);
  for (std::size_t k = 0; k < report.depths.size(); ++k) {
    CAPTURE(k);
    const auto& own = logits.size() == 1 ? logits[0] : logits[k];
    const auto expected = expected_loss(own, batch, static_cast<index_t>(k), Config.vocab_size);
    CHECK(report.depths[k].targets == expected.targets);
    CHECK(within({report.depths[k].loss}, {expected.loss}, 1e-12));
    CHECK(report.depths[k].agreement == expected.agreement);
  }
}

TEST_CASE("the target of depth k at position i is token i + 1 + k") {
  subject<tiny_config(head_kind::sequential, 3), double> sequential;
  check_losses(sequential, random_batch(sequential.model.config, 2, 7, 41));
  check_losses(sequential, divided_batch(sequential.model.config, 2, 7, 42));
  subject<tiny_config(head_kind::parallel, 3), double> parallel;
  check_losses(parallel, divided_batch(parallel.model.config, 2, 7, 43));
  subject<tiny_config(head_kind::independent, 2), double> independent;
  check_losses(independent, divided_batch(independent.model.config, 2, 7, 44));
  subject<tiny_config(head_kind::shared_logit, 3), double> shared;
  check_losses(shared, divided_batch(shared.model.config, 2, 7, 45));
  subject<tiny_config(head_kind::none, 0), double> none;
  check_losses(none, divided_batch(none.model.config, 2, 7, 46));
}

TEST_CASE("a document shorter than the depth has no targets in the next document") {
  subject<tiny_config(head_kind::sequential, 3), double> tested(2, 1, 6);
  token_batch batch = random_batch(tested.model.config, 1, 6, 47);
  batch.segments = {0, 0, 1, 2, 2, 2, 2, 3, 3, 3};  // lengths 2, 1, 4, 3
  const auto report = tested.losses(batch, default_loss_options<tested.model.config>());
  // Of positions 0..5: 0 1 | 2 | 3 4 5. Pairs (i, i + 1 + k) within one document.
  CHECK(report.depths[0].targets == 1 + 0 + 3);
  CHECK(report.depths[1].targets == 0 + 0 + 2);
  CHECK(report.depths[2].targets == 0 + 0 + 1);
  CHECK(report.depths[3].targets == 0);
  CHECK(report.depths[3].loss == 0);
  check_losses(tested, batch);
}

TEST_CASE("one position with four depths has one target each") {
  subject<tiny_config(head_kind::sequential, 4), double> tested(2, 1, 1);
  const token_batch batch = random_batch(tested.model.config, 1, 1, 48);
  REQUIRE(batch.tokens.size() == 6);
  check_losses(tested, batch);
  const auto report = tested.losses(batch, default_loss_options<tested.model.config>());
  for (const depth_report& depth : report.depths) {
    CHECK(depth.targets == 1);
    CHECK(depth.loss > 0);
  }
  bool finite = true, any = false;
  for (const double g : tested.gradients(batch, default_loss_options<tested.model.config>())) {
    finite = finite && std::isfinite(g);
    any = any || g != 0;
  }
  CHECK(finite);
  CHECK(any);
}

template <model_config Config>
void check_all_masked() {
  subject<Config, float> tested;
  token_batch batch = random_batch(Config, 2, 7, 49);
  batch.mask.assign(batch.tokens.size(), std::uint8_t{0});
  for (const auto normalization :
       {loss_normalization::positions, loss_normalization::valid_targets}) {
    auto options = default_loss_options<Config>();
    options.normalization = normalization;
    std::vector<float> gradients(static_cast<std::size_t>(tested.layout.storage), 0.f);
    const auto report = tested.add_gradients(gradients, batch, options);
    CHECK(report.total == 0);
    for (const depth_report& depth : report.depths) {
      CHECK(depth.loss == 0);
      CHECK(depth.agreement == 0);
      CHECK(depth.targets == 0);
    }
    CHECK(within(to_double(gradients), std::vector<double>(gradients.size(), 0.0), 0.0));
  }
}

TEST_CASE("without targets, losses and gradients are zero") {
  check_all_masked<tiny_config(head_kind::none, 0)>();
  check_all_masked<tiny_config(head_kind::sequential, 2)>();
  check_all_masked<tiny_config(head_kind::recurrent, 2)>();
  check_all_masked<tiny_config(head_kind::parallel, 2)>();
  check_all_masked<tiny_config(head_kind::independent, 2)>();
  check_all_masked<tiny_config(head_kind::shared_logit, 2)>();
}

TEST_CASE("no segments and no mask are one document without gaps") {
  subject<tiny_config(head_kind::sequential, 2), double> tested;
  const auto options = default_loss_options<tested.model.config>();
  const token_batch empty = random_batch(tested.model.config, 2, 7, 50);
  token_batch full = empty;
  full.segments.assign(full.tokens.size(), 3);
  full.mask.assign(full.tokens.size(), std::uint8_t{1});
  CHECK(same_bits(tested.gradients(full, options), tested.gradients(empty, options)));
}

// ---- Memory -------------------------------------------------------------------------------------

template <model_config Config, class S>
constexpr index_t bytes(index_t B, index_t T) {
  return model_loss<Config, cpu, S>::activation_bytes(B, T);
}

// What every training step has to keep at least: each block's streams and products, in floats.
constexpr index_t least_bytes(const model_config& config, index_t N) {
  return 4 * N * config.num_hidden_layers *
         (2 * config.hidden_size + 3 * config.feed_forward.intermediate_size);
}

static_assert(bytes<tiny_config(head_kind::none, 0), float>(2, 7) >
              least_bytes(tiny_config(head_kind::none, 0), 14));
static_assert(bytes<tiny_config(head_kind::sequential, 2), float>(2, 7) <
              bytes<tiny_config(head_kind::sequential, 2), float>(3, 7));
static_assert(bytes<tiny_config(head_kind::sequential, 2), float>(2, 7) <
              bytes<tiny_config(head_kind::sequential, 3), float>(2, 7));
static_assert(bytes<tiny_config(head_kind::sequential, 2), float>(2, 7) <
              bytes<tiny_config(head_kind::sequential, 2), double>(2, 7));
static_assert(bytes<tiny_config(head_kind::sequential, 2), float>(2, 7) ==
              bytes<tiny_config(head_kind::sequential, 2), float>(7, 2));

// One head at a time is in memory: the depth of parallel heads costs rows of targets and losses
// alone.
static_assert(bytes<tiny_config(head_kind::parallel, 3), float>(4, 16) -
                  bytes<tiny_config(head_kind::parallel, 2), float>(4, 16) <=
              64 * (4 + 4 + 4 + 4 + 4));

template <model_config Config>
void check_memory() {
  for (const index_t B : {1, 3}) {
    for (const index_t T : {1, 7, 33}) {
      CAPTURE(B);
      CAPTURE(T);
      subject<Config, float> tested(3, B, T);
      const auto options = default_loss_options<Config>();
      const auto gradients = tested.gradients(random_batch(Config, B, T, 51), options);
      bool finite = true;
      for (const float g : gradients) {
        finite = finite && std::isfinite(g);
      }
      CHECK(finite);
      // The same rows in another shape fit as well.
      const auto report = tested.losses(random_batch(Config, B * T, 1, 52), options);
      CHECK(report.depths[0].targets == B * T);
    }
  }
}

TEST_CASE("the planned memory suffices for every head kind") {
  check_memory<flipped_config(head_kind::none, 0)>();
  check_memory<flipped_config(head_kind::sequential, 2)>();
  check_memory<flipped_config(head_kind::recurrent, 3)>();
  check_memory<flipped_config(head_kind::parallel, 2)>();
  check_memory<flipped_config(head_kind::independent, 2)>();
  check_memory<flipped_config(head_kind::shared_logit, 2)>();
}

TEST_CASE("memory of an earlier batch does not reach the next one") {
  subject<tiny_config(head_kind::sequential, 2), float> used, fresh;
  const auto options = default_loss_options<used.model.config>();
  used.gradients(divided_batch(used.model.config, 2, 7, 53), options);
  used.losses(random_batch(used.model.config, 14, 1, 54), options);
  const token_batch batch = divided_batch(used.model.config, 1, 5, 55);
  CHECK(same_bits(used.gradients(batch, options), fresh.gradients(batch, options)));
}

// ---- Refusals -----------------------------------------------------------------------------------

constexpr model_config refusing_config = tiny_config(head_kind::sequential, 2);

/// A call with `batch` and `count` gradients throws an error of model_loss and changes nothing.
void check_refused(const token_batch& batch, index_t surplus = 0) {
  subject<refusing_config, float> tested;
  const auto options = default_loss_options<refusing_config>();
  std::vector<float> gradients(static_cast<std::size_t>(tested.layout.storage + surplus), 0.25f);
  const auto before = gradients;
  const std::vector<float> values(tested.values().begin(), tested.values().end());
  CHECK(rejects("model_loss", [&] { tested.add_gradients(gradients, batch, options); }));
  if (surplus == 0) {
    CHECK(rejects("model_loss", [&] { tested.losses(batch, options); }));
    CHECK(rejects("model_loss", [&] { tested.logits(batch); }));
  }
  CHECK(same_bits(gradients, before));
  CHECK(same_bits(std::vector<float>(tested.values().begin(), tested.values().end()), values));
}

TEST_CASE("batches and gradients that do not fit are refused before anything is changed") {
  const token_batch good = divided_batch(refusing_config, 2, 7, 56);
  token_batch bad = good;
  SUBCASE("too many sequences") {
    bad = divided_batch(refusing_config, 3, 7, 56);
  }
  SUBCASE("too long sequences") {
    bad = divided_batch(refusing_config, 1, 8, 56);
  }
  SUBCASE("no sequence") {
    bad.batch = 0;
  }
  SUBCASE("no position") {
    bad.length = 0;
  }
  SUBCASE("a negative number of sequences") {
    bad.batch = -2;
  }
  SUBCASE("both negative") {
    bad.batch = -2;
    bad.length = -7;
  }
  SUBCASE("so many sequences that their product with the length fits again") {
    bad.batch = (index_t{1} << 62) + 2;
    bad.length = 4;
  }
  SUBCASE("a length that no index behind it has") {
    bad.batch = 1;
    bad.length = std::numeric_limits<index_t>::max();
  }
  SUBCASE("a token too few") {
    bad.tokens.pop_back();
  }
  SUBCASE("a token too many") {
    bad.tokens.push_back(0);
  }
  SUBCASE("no token") {
    bad.tokens.clear();
  }
  SUBCASE("a segment too few") {
    bad.segments.pop_back();
  }
  SUBCASE("a mask value too many") {
    bad.mask.push_back(1);
  }
  SUBCASE("a token behind the vocabulary") {
    bad.tokens[3] = 19;
  }
  SUBCASE("a negative token") {
    bad.tokens[3] = -1;
  }
  SUBCASE("a last token outside, which is a target only") {
    bad.tokens.back() = 19;
  }
  check_refused(bad);
}

TEST_CASE("gradient arrays of another size are refused") {
  const token_batch good = divided_batch(refusing_config, 2, 7, 57);
  check_refused(good, 1);
  check_refused(good, -1);
}

TEST_CASE("weights that are negative or no numbers are refused") {
  subject<refusing_config, float> tested;
  const token_batch good = divided_batch(refusing_config, 2, 7, 58);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double wrong : {-1e-9, nan, std::numeric_limits<double>::infinity()}) {
    auto options = default_loss_options<refusing_config>();
    options.weights[2] = wrong;
    CHECK(rejects("model_loss", [&] { tested.gradients(good, options); }));
    CHECK(rejects("model_loss", [&] { tested.losses(good, options); }));
    options = default_loss_options<refusing_config>();
    options.lambda = wrong;
    CHECK(rejects("model_loss", [&] { tested.gradients(good, options); }));
  }
}

TEST_CASE("a batch that is refused does not change the next result") {
  subject<refusing_config, float> tested;
  const auto options = default_loss_options<refusing_config>();
  const token_batch good = divided_batch(refusing_config, 2, 7, 58);
  const auto expected = tested.gradients(good, options);
  token_batch bad = good;
  bad.tokens.back() = 19;
  CHECK(rejects("model_loss", [&] { tested.gradients(bad, options); }));
  CHECK(same_bits(tested.gradients(good, options), expected));
}

TEST_CASE("a visitor of logits that calls its own loss is refused, and changes no logits") {
  subject<refusing_config, float> tested;
  const auto options = default_loss_options<refusing_config>();
  const token_batch batch = divided_batch(refusing_config, 2, 7, 59);
  const auto expected = tested.logits(batch);
  std::vector<std::vector<float>> seen;
  int refused = 0;
  tested.loss.visit_logits(
      tested.context, tested.model, batch.view(), [&](std::size_t, const auto& logits) {
        refused += rejects("model_loss", [&] { tested.losses(batch, options); }) ? 1 : 0;
        refused += rejects("model_loss", [&] { tested.logits(batch); }) ? 1 : 0;
        seen.push_back(elements(logits));
      });
  CHECK(refused == 6);
  CHECK(seen == expected);
  CHECK_NOTHROW(tested.losses(batch, options));
}

TEST_CASE("losses of impossible sizes are refused when they are made") {
  cpu_context context({.threads = 1});
  using loss = model_loss<refusing_config, cpu, float>;
  CHECK(rejects("model_loss", [&] { loss(context, 0, 7); }));
  CHECK(rejects("model_loss", [&] { loss(context, 2, 0); }));
  CHECK(rejects("model_loss", [&] { loss(context, 1, -3); }));
  CHECK(rejects("model_loss", [&] { loss(context, 1, 49); }));
  const index_t most = std::numeric_limits<index_t>::max();
  CHECK(rejects("model_loss", [&] { loss(context, most, 48); }));
  CHECK(rejects("model_loss", [&] { loss(context, (index_t{1} << 62) + 1, 4); }));
  CHECK(rejects("model_loss", [&] { loss(context, 1, most); }));
  CHECK(rejects("model_loss", [&] { loss::activation_bytes(most / 4, 8); }));
  CHECK(rejects("model_loss", [&] { loss::workspace_bytes(most / 4, 8, 1); }));
  // The largest number of sequences that may be planned has all sizes without an overflow.
  index_t planned = most;
  while (rejects("model_loss", [&] { loss::activation_bytes(planned, 1); })) {
    planned /= 2;
  }
  CHECK(loss::activation_bytes(planned, 1) > index_t{1} << 46);
  CHECK(loss::workspace_bytes(planned, 1, 1024) > 0);
  const loss longest(context, 2, 48);
  CHECK(longest.batch() == 2);
  CHECK(longest.length() == 48);
}

}  // namespace

}  // namespace mtp::test::loss_model_loss_cases
