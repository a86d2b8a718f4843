// How depths are weighed: defaults by head kind, and the total that they make.
#include "mtp/loss/loss_options.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

#include "support/compare.hpp"
#include "support/model.hpp"

namespace mtp::test::loss_loss_options_cases {

namespace {

template <head_kind Kind, int Depth>
std::vector<double> default_weights() {
  const auto options = default_loss_options<tiny_config(Kind, Depth)>();
  CHECK(options.normalization == loss_normalization::positions);
  CHECK(options.scope == gradient_scope::joint);
  CHECK(options.lambda == 1);
  return {options.weights.begin(), options.weights.end()};
}

TEST_CASE("default weights of every head kind are those of its paper") {
  CHECK(default_weights<head_kind::none, 0>() == std::vector<double>{1});
  // The mean over depths: DeepSeek-V3, equation 25.
  CHECK(within(default_weights<head_kind::sequential, 4>(), {1, 0.25, 0.25, 0.25, 0.25}, 1e-15));
  CHECK(within(default_weights<head_kind::sequential, 1>(), {1, 1}, 1e-15));
  // The plain sum: Gloeckle et al., equation 2.
  CHECK(default_weights<head_kind::parallel, 3>() == std::vector<double>{1, 1, 1, 1});
  // Medusa.
  CHECK(within(default_weights<head_kind::independent, 3>(), {1, 0.8, 0.64, 0.512}, 1e-15));
  CHECK(within(default_weights<head_kind::shared_logit, 3>(), {1, 0.5, 0.25, 0.125}, 1e-15));
  // FastMTP gives 0.51, 0.31, 0.18.
  CHECK(within(default_weights<head_kind::recurrent, 3>(), {1, 0.51, 0.31, 0.18}, 0.005));
  CHECK(within(default_weights<head_kind::recurrent, 3>(),
               {1, 0.6 / 1.176, 0.36 / 1.176, 0.216 / 1.176},
               1e-15));
}

TEST_CASE("lambda multiplies the weights of all depths but the next token") {
  loss_options<2> options;
  options.lambda = 0.3;
  options.weights = {0.9, 0.5, 0.25};
  CHECK(options.weight(0) == 0.9);
  CHECK(options.weight(1) == 0.3 * 0.5);
  CHECK(options.weight(2) == 0.3 * 0.25);
}

template <head_kind Kind>
void check_total() {
  constexpr model_config config = tiny_config(Kind, 2);
  subject<config, double> tested;
  loss_options<2> options;
  options.lambda = 0.3;
  options.weights = {0.9, 0.5, 0.25};
  const auto report = tested.losses(divided_batch(config, 2, 7, 31), options);
  CHECK(report.depths[0].loss > 0.1);  // nats
  CHECK(report.depths[1].loss != report.depths[2].loss);
  const double expected = 0.9 * report.depths[0].loss +
                          0.3 * (0.5 * report.depths[1].loss + 0.25 * report.depths[2].loss);
  CHECK(within({report.total}, {expected}, 1e-14 * expected));

  // Losses of depths are not weighted.
  auto others = options;
  others.lambda = 2;
  others.weights = {1, 2, 3};
  const auto again = tested.losses(divided_batch(config, 2, 7, 31), others);
  for (std::size_t k = 0; k < 3; ++k) {
    CHECK(again.depths[k].loss == report.depths[k].loss);
  }
}

TEST_CASE("the total is the next-token loss plus lambda times the weighted sum over depths") {
  check_total<head_kind::sequential>();
  check_total<head_kind::independent>();
  check_total<head_kind::shared_logit>();
}

TEST_CASE("the normalizations differ by the share of targets that count") {
  constexpr model_config config = tiny_config(head_kind::sequential, 2);
  subject<config, double> tested;
  const auto batch = divided_batch(config, 2, 7, 32);
  auto options = default_loss_options<config>();
  const auto positions = tested.losses(batch, options);
  options.normalization = loss_normalization::valid_targets;
  const auto valid = tested.losses(batch, options);
  for (std::size_t k = 0; k < 3; ++k) {
    CAPTURE(k);
    const auto targets = static_cast<double>(positions.depths[k].targets);
    CHECK(targets > 0);
    CHECK(targets < 14);
    CHECK(within({positions.depths[k].loss * 14}, {valid.depths[k].loss * targets}, 1e-12));
  }
}

}  // namespace

}  // namespace mtp::test::loss_loss_options_cases
