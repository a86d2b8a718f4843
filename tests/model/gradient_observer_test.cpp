// What the observer of a backward pass is told: gradients that it hears of do not change any more.
#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "model/expert_configs.hpp"
#include "mtp/loss/model_loss.hpp"
#include "support/batches.hpp"
#include "support/compare.hpp"
#include "support/model.hpp"

namespace mtp::test::model_gradient_observer_cases {

namespace {

/// Copies what is said to be complete.
class copier : public gradient_observer {
 public:
  explicit copier(const std::vector<float>& gradients) : gradients_(gradients) {}

  void finished(index_t begin) override {
    seen.emplace_back(begin, std::vector<float>(gradients_.begin() + begin, gradients_.end()));
  }

  std::vector<std::pair<index_t, std::vector<float>>> seen;

 private:
  const std::vector<float>& gradients_;
};

template <model_config Config>
void check_observer(gradient_scope scope, std::size_t calls) {
  INFO(std::string(name_of(Config.prediction.kind)), ", scope ", static_cast<int>(scope));
  subject<Config, float> tested;
  auto options = default_loss_options<Config>();
  options.scope = scope;
  options.aux_loss_alpha = 0.01;
  const token_batch batch = divided_batch(Config, 2, 7, 3);
  const std::vector<float> expected = tested.gradients(batch, options);
  std::vector<float> gradients(expected.size());
  copier watch(gradients);
  const parameter_array<float, cpu> array(gradients.data(), tested.layout.storage);
  tested.loss.with_gradients(
      tested.context, tested.model, array, batch.view(), options, nullptr, &watch);
  CHECK(same_bits(gradients, expected));
  CHECK(watch.seen.size() == calls);
  index_t last = tested.layout.storage;
  for (const auto& each : watch.seen) {
    const index_t begin = each.first;
    const std::vector<float>& copy = each.second;
    CAPTURE(begin);
    CHECK(begin <= last);
    CHECK(same_bits(copy, std::vector<float>(gradients.begin() + begin, gradients.end())));
    last = begin;
  }
  CHECK(last == 0);
}

/// `head` calls of a head that reports its parts; the trunk's calls are one for the head as a whole
/// with the output matrix, one for the norm, one for each block, and the end.
template <model_config Config>
void check_scopes(std::size_t head) {
  constexpr bool owns = Config.prediction.kind.owns_last_block;
  constexpr std::size_t trunk = static_cast<std::size_t>(Config.num_hidden_layers) + (owns ? 1 : 3);
  check_observer<Config>(gradient_scope::joint, head + trunk);
  if constexpr (Config.prediction.kind.parameters != head_parameters::none) {
    check_observer<Config>(gradient_scope::detached, head + trunk);
    check_observer<Config>(gradient_scope::heads_only, head + 1);
  }
}

}  // namespace

TEST_CASE("an observer hears of complete gradients: no head and shared logits") {
  check_scopes<tiny_config(head_kind::none, 0)>(0);
  check_scopes<flipped_config(head_kind::none, 0)>(0);
  check_scopes<flipped_config(head_kind::shared_logit, 2)>(0);
}
TEST_CASE("an observer hears of complete gradients: sequential and recurrent heads") {
  check_scopes<tiny_config(head_kind::sequential, 2)>(2);
  check_scopes<flipped_config(head_kind::sequential, 3)>(3);
  check_scopes<tiny_config(head_kind::recurrent, 2)>(1);
  check_scopes<flipped_config(head_kind::recurrent, 3)>(1);
}
TEST_CASE("an observer hears of complete gradients: parallel and independent heads") {
  check_scopes<tiny_config(head_kind::parallel, 2)>(0);
  check_scopes<flipped_config(head_kind::parallel, 3)>(0);
  check_scopes<tiny_config(head_kind::independent, 2)>(0);
  check_scopes<flipped_config(head_kind::independent, 3)>(0);
}
TEST_CASE("an observer hears of complete gradients: mixtures of experts behind a dense block") {
  check_scopes<deepseek_experts(head_kind::sequential, 2)>(2);
  check_scopes<qwen_experts(head_kind::parallel, 1)>(0);
}

}  // namespace mtp::test::model_gradient_observer_cases
