// Loads of experts and the biases that even them out.
#include "mtp/train/expert_balance.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <string>
#include <type_traits>
#include <vector>

#include "model/expert_configs.hpp"
#include "support/compare.hpp"
#include "support/model.hpp"
#include "train/small_run.hpp"

namespace mtp::test::train_expert_balance_cases {

namespace {

constexpr model_config experts = deepseek_experts(head_kind::sequential, 1, 32);
constexpr std::size_t E = 6;

/// The biases of all routers.
template <class Model, class Array>
std::vector<std::vector<double>> biases_of(const Model& model, const Array& array) {
  std::vector<std::vector<double>> all;
  model.layout.visit([&](const std::string&, const parameter& p) {
    if (p.role == parameter_role::routing_bias) {
      all.push_back(values(array.vector(p)));
    }
  });
  return all;
}

/// Sets the bias of the first expert of every router.
template <class Model>
void prefer_first(Model& model, float bias) {
  model.layout.visit([&](const std::string&, const parameter& p) {
    if (p.role == parameter_role::routing_bias) {
      auto& first = model.values().vector(p)(0);
      first = static_cast<std::remove_reference_t<decltype(first)>>(bias);
    }
  });
}

small_setup<experts> slow(double speed) {
  small_setup<experts> setup;
  setup.options.bias_update_speed = speed;
  setup.options.learning_rate = {.peak = 1e-6, .total_steps = 100};
  return setup;
}

}  // namespace

TEST_CASE("every row counts for each of its experts, in all passes of a step") {
  auto setup = slow(0);
  setup.options.accumulation = 2;
  small_run<experts> run(setup);
  run.training.step();
  const auto& loads = run.training.balance().loads();
  REQUIRE(loads.size() == 3);  // two blocks of the trunk and one of the head
  for (const auto& layer : loads) {
    CHECK(layer.size() == E);
    CHECK(std::accumulate(layer.begin(), layer.end(), 0.0f) == 2 * 3 * 7 * 3);  // k = 3
  }
  // The same rows as one large batch.
  auto whole_setup = slow(0);
  whole_setup.options.batch = 6;
  small_run<experts> whole(whole_setup);
  whole.training.step();
  CHECK(whole.training.balance().loads() == loads);
}

TEST_CASE("a bias moves by a fixed amount against the load of its expert") {
  const double speed = 0.25;
  small_run<experts> run(slow(speed));
  const auto before = biases_of(run.model, run.model.values());
  const auto report = run.training.step();
  const auto after = biases_of(run.model, run.model.values());
  const auto& loads = run.training.balance().loads();
  double largest = 0, smallest = HUGE_VAL;
  for (std::size_t i = 0; i < loads.size(); ++i) {
    const double mean = std::accumulate(loads[i].begin(), loads[i].end(), 0.0) / E;
    for (std::size_t e = 0; e < E; ++e) {
      const double load = static_cast<double>(loads[i][e]);
      const double sign = load > mean ? -1 : load < mean ? 1 : 0;
      CHECK(after[i][e] == before[i][e] + speed * sign);
      largest = std::max(largest, load / mean);
      smallest = std::min(smallest, load / mean);
    }
  }
  CHECK(report.experts.layers == 3);
  CHECK(report.experts.largest == largest);
  CHECK(report.experts.smallest == smallest);
  CHECK(largest > smallest);  // otherwise nothing moved
}

TEST_CASE("a router that prefers one expert becomes even, and stays as it is without the biases") {
  const auto largest_after = [](double speed) {
    small_run<experts> run(slow(speed));
    prefer_first(run.model, 1.0f);  // scores lie between 0 and 1
    double first = 0, last = 0;
    for (int step = 0; step < 60; ++step) {
      last = run.training.step().experts.largest;
      first = step == 0 ? last : first;
    }
    CHECK(first == 2);  // all rows go to one of six, each to three
    return last;
  };
  CHECK(largest_after(0) == 2);
  CHECK(largest_after(0.02) < 1.7);
}

TEST_CASE("the loss of sequences evens a router out as well") {
  const auto mean_largest = [](double alpha) {
    auto setup = slow(0);
    setup.options.batch = 12;
    setup.options.learning_rate = {.peak = 0.02, .total_steps = 100};
    setup.options.loss.aux_loss_alpha = alpha;
    small_run<experts> run(setup);
    prefer_first(run.model, 0.3f);
    double sum = 0;
    for (int step = 0; step < 80; ++step) {
      const double largest = run.training.step().experts.largest;
      sum += step < 40 ? 0 : largest;
    }
    return sum / 40;
  };
  const double without = mean_largest(0), with = mean_largest(10);
  CAPTURE(without);
  CAPTURE(with);
  CHECK(with < without - 0.2);
  CHECK(default_loss_options<experts>().aux_loss_alpha == 0.0001);
  CHECK(default_loss_options<tiny_config(head_kind::none, 0)>().aux_loss_alpha == 0);
}

TEST_CASE("the gradient of the balance of sequences is its factor times one, in any passes") {
  double balance = 0;
  const auto gradients = [&](double alpha, index_t batch, index_t accumulation) {
    auto setup = slow(0);
    setup.options.batch = batch;
    setup.options.accumulation = accumulation;
    setup.options.clip_norm = 0;
    setup.options.optimizer.beta1 = 0;  // first moments are gradients
    setup.options.loss.aux_loss_alpha = alpha;
    small_run<experts> run(setup);
    balance = run.training.step().loss.balance;
    std::vector<double> all;
    run.model.layout.visit([&](const std::string& name, const parameter& p) {
      if (name.find("mlp.gate.weight") != std::string::npos) {
        const auto moments = rows_of<float>(run.first(), p);
        all.insert(all.end(), moments.begin(), moments.end());
      }
    });
    return all;
  };
  const auto without = gradients(0, 6, 1);
  CHECK(balance == 0);
  const auto once = gradients(1, 6, 1);
  const double value = balance;
  // Of 3 routers, each 1 if the scores of its rows are even.
  CHECK(value > 2.5);
  CHECK(value < 3.5);
  const auto twice = gradients(2, 6, 1);
  CHECK(balance == 2 * value);
  const auto passes = gradients(1, 3, 2);
  CHECK(balance == doctest::Approx(value).epsilon(1e-12));  // the same rows, added in double
  double largest = 0;
  std::vector<double> expected;
  for (std::size_t i = 0; i < once.size(); ++i) {
    largest = std::max(largest, std::abs(once[i] - without[i]));
    expected.push_back(2 * once[i] - without[i]);
  }
  CHECK(largest > 0.01);
  CHECK(within(twice, expected, 1e-5));
  CHECK(within(passes, once, 1e-5));
}

TEST_CASE("neither AdamW nor the norm of gradients sees what stands for a router's bias") {
  auto setup = slow(0);
  setup.options.learning_rate = {.peak = 0.1, .total_steps = 100};
  setup.options.optimizer.weight_decay = 0.5;
  small_run<experts> run(setup);
  prefer_first(run.model, 0.5f);
  const auto before = biases_of(run.model, run.model.values());
  const auto first = run.training.step();
  run.training.step();
  CHECK(biases_of(run.model, run.model.values()) == before);
  for (const auto& moments : {biases_of(run.model, run.training.optimizer().first()),
                              biases_of(run.model, run.training.optimizer().second())}) {
    for (const auto& layer : moments) {
      CHECK(same_bits(layer, std::vector<double>(E, 0.0)));
    }
  }
  CHECK(first.gradient_norm < 20);  // loads of 10 for each of 18 would be 40 alone
}

TEST_CASE("the loss does not change with a router's bias as long as no choice does") {
  subject<experts, double> tested(1);
  const token_batch batch = random_batch(experts, 2, 7, 1);
  const auto options = default_loss_options<experts>();
  const double total = tested.losses(batch, options).total;
  tested.layout.visit([&](const std::string&, const parameter& p) {
    if (p.role == parameter_role::routing_bias) {
      const auto bias = tested.rows(p);
      auto moved = bias;
      for (double& each : moved) {
        each += 1e-9;
      }
      moved[1] += 1e-9;
      tested.set(p, moved);
      CHECK(tested.losses(batch, options).total == total);
      tested.set(p, bias);
    }
  });
}

TEST_CASE("where the trunk is frozen its routers are not counted and do not move") {
  auto setup = slow(0.25);
  setup.options.loss.scope = gradient_scope::heads_only;
  small_run<experts> run(setup);
  const auto before = biases_of(run.model, run.model.values());
  CHECK(run.training.step().experts.layers == 1);
  const auto after = biases_of(run.model, run.model.values());
  CHECK(after[0] == before[0]);
  CHECK(after[1] == before[1]);
  CHECK(after[2] != before[2]);
}

TEST_CASE("a model in bf16 keeps the small steps of its biases in the masters") {
  using trainer_type = trainer<experts, cpu, bf16>;
  const auto text = small_text();
  cpu_context context({.threads = 2});
  language_model<experts, cpu, bf16> model(context, seed{1});
  const dataset<> data(text, {}, {.window = trainer_type::window_of(7)});
  auto options = small_setup<experts>::defaults();
  options.bias_update_speed = 0x1p-12;
  trainer_type training(context, model, data, options);
  prefer_first(model, 1.0f);
  for (int step = 0; step < 4; ++step) {
    training.step();
  }
  const auto masters = biases_of(model, training.optimizer().master(model));
  const auto rounded = biases_of(model, model.values());
  for (std::size_t i = 0; i < masters.size(); ++i) {
    for (std::size_t e = 0; e < E; ++e) {
      CHECK(static_cast<double>(bf16(static_cast<float>(masters[i][e]))) == rounded[i][e]);
    }
    CHECK(masters[i][0] == 1 - 0x1p-10);  // all rows went there, four times
    CHECK(rounded[i][0] == 1);
  }
}

}  // namespace mtp::test::train_expert_balance_cases
