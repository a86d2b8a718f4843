// Training step by step: what falls, what repeats bit for bit, and what a bad step leaves alone.
#include "mtp/train/trainer.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "support/compare.hpp"
#include "support/model.hpp"
#include "train/small_run.hpp"

namespace mtp::test::train_trainer_cases {

namespace {

// The one that most tests look at.
constexpr model_config usual = tiny_config(head_kind::sequential, 2);
using usual_run = small_run<usual>;
using usual_setup = small_setup<usual>;

std::vector<float> copy(std::span<const float> all) {
  return {all.begin(), all.end()};
}

template <model_config Config>
run_state trained(const small_setup<Config>& setup, std::int64_t steps) {
  small_run<Config> run(setup);
  run.advance(steps);
  return run.state();
}

// ---- every head kind ----------------------------------------------------------------------------

template <model_config Config>
void check_learns() {
  small_setup<Config> setup;
  setup.options.batch = 4;
  setup.options.length = 8;
  setup.options.learning_rate.total_steps = 80;
  small_run<Config> run(setup);
  const auto before = run.training.validate(100);
  double early = 0, late = 0;
  for (int step = 0; step < 80; ++step) {
    const auto report = run.training.step();
    CHECK_FALSE(report.skipped);
    CHECK(report.gradient_norm > 0);
    early += step < 5 ? report.loss.total : 0;
    late += step >= 75 ? report.loss.total : 0;
  }
  CHECK(late < 0.8 * early);
  const auto after = run.training.validate(100);
  // Logits that all depths share go to the next token.
  const std::size_t depths =
      Config.prediction.kind == head_kind::shared_logit ? 1 : after.depths.size();
  for (std::size_t k = 0; k < depths; ++k) {
    CAPTURE(k);
    CHECK(before.depths[k].loss > 2);  // nats; ln 19 = 2.9
    CHECK(after.depths[k].loss < 0.9 * before.depths[k].loss);
    CHECK(after.depths[k].agreement > before.depths[k].agreement + 0.1);
    CHECK(after.depths[k].targets == before.depths[k].targets);
  }
}

template <model_config Config>
void check_repeats() {
  small_setup<Config> setup;
  const run_state expected = trained(setup, 5);
  CHECK(same_run(trained(setup, 5), expected));
  for (const int threads : {1, 3, 4}) {
    CAPTURE(threads);
    setup.threads = threads;
    CHECK(same_run(trained(setup, 5), expected));
  }
  CHECK_FALSE(same_run(trained(setup, 6), expected));
}

template <model_config Config>
void check_heads_only() {
  small_setup<Config> setup;
  setup.options.loss.scope = gradient_scope::heads_only;
  small_run<Config> run(setup);
  const auto begin = static_cast<std::ptrdiff_t>(run.layout.head_begin);
  const auto trunk_of = [&](std::span<const float> all) {
    return std::vector<float>(all.begin(), all.begin() + begin);
  };
  const std::vector<float> before = copy(run.values());
  run.advance(4);
  CHECK(run.training.optimizer().updates() == 4);
  CHECK(same_bits(trunk_of(run.values()), trunk_of(before)));
  const std::vector<float> nothing(static_cast<std::size_t>(begin));
  CHECK(same_bits(trunk_of(run.first()), nothing));
  CHECK(same_bits(trunk_of(run.second()), nothing));
  run.layout.head.visit([&](const std::string& name, const parameter& p) {
    CAPTURE(name);
    CHECK_FALSE(same_bits(rows_of<float>(std::span<const float>(run.values()), p),
                          rows_of<float>(std::span<const float>(before), p)));
  });
}

template <head_kind Kind, int Depth>
void check_kind() {
  constexpr model_config config = tiny_config(Kind, Depth);
  INFO(std::string(name_of(Kind)));
  check_learns<config>();
  check_repeats<config>();
  if constexpr (config.prediction.drafts()) {
    check_heads_only<config>();
  }
}

TEST_CASE("a plain model learns, repeats its bits with any number of threads") {
  check_kind<head_kind::none, 0>();
}
TEST_CASE("a sequential head learns, repeats its bits, and can be trained alone") {
  check_kind<head_kind::sequential, 2>();
}
TEST_CASE("a parallel head learns, repeats its bits, and can be trained alone") {
  check_kind<head_kind::parallel, 2>();
}
TEST_CASE("an independent head learns, repeats its bits, and can be trained alone") {
  check_kind<head_kind::independent, 2>();
}
TEST_CASE("a recurrent head learns, repeats its bits, and can be trained alone") {
  check_kind<head_kind::recurrent, 2>();
}
TEST_CASE("shared logits learn and repeat their bits") {
  check_kind<head_kind::shared_logit, 2>();
}

// ---- what a step computes -----------------------------------------------------------------------

/// The samples of a pass, as the documentation of the dataset numbers them.
token_batch batch_of(usual_run& run, index_t first, index_t count) {
  token_batch made;
  made.batch = count;
  made.length = run.training.options().length;
  for (index_t n = first; n < first + count; ++n) {
    std::vector<token_t> tokens(static_cast<std::size_t>(run.data.window()));
    std::vector<std::int32_t> segments(tokens.size());
    run.data.training_sample(static_cast<std::uint64_t>(n), tokens, segments);
    made.tokens.insert(made.tokens.end(), tokens.begin(), tokens.end());
    made.segments.insert(made.segments.end(), segments.begin(), segments.end());
  }
  return made;
}

TEST_CASE("the report of a step holds losses, agreement and gradient norm of its own samples") {
  usual_setup setup;
  setup.options.accumulation = 2;
  usual_run run(setup);
  model_loss<usual, cpu> loss(run.context, 3, 7);
  auto options = setup.options.loss;
  for (index_t step = 0; step < 3; ++step) {
    CAPTURE(step);
    options.lambda = setup.options.lambda.at(step, 40);
    std::vector<float> gradients(static_cast<std::size_t>(run.layout.storage));
    loss_report<2> expected;
    for (index_t pass = 0; pass < 2; ++pass) {
      const auto report =
          loss.with_gradients(run.context,
                              run.model,
                              parameter_array<float, cpu>(gradients.data(), run.layout.storage),
                              batch_of(run, 6 * step + 3 * pass, 3).view(),
                              options);
      expected.total += report.total / 2;
      for (std::size_t k = 0; k < 3; ++k) {
        expected.depths[k].loss += report.depths[k].loss / 2;
        expected.depths[k].agreement += report.depths[k].agreement / 2;
        expected.depths[k].targets += report.depths[k].targets;
      }
    }
    double squares = 0;
    for (const float g : gradients) {
      squares += static_cast<double>(g) * static_cast<double>(g) / 4;
    }
    const auto report = run.training.step();
    CHECK(report.step == step + 1);
    CHECK(report.lambda == options.lambda);
    CHECK(report.learning_rate == setup.options.learning_rate.at(step));
    CHECK(report.loss.total == doctest::Approx(expected.total).epsilon(1e-6));
    CHECK(report.gradient_norm == doctest::Approx(std::sqrt(squares)).epsilon(1e-5));
    for (std::size_t k = 0; k < 3; ++k) {
      CAPTURE(k);
      CHECK(report.loss.depths[k].loss == doctest::Approx(expected.depths[k].loss).epsilon(1e-6));
      CHECK(report.loss.depths[k].agreement ==
            doctest::Approx(expected.depths[k].agreement).epsilon(1e-12));
      CHECK(report.loss.depths[k].targets == expected.depths[k].targets);
    }
    // Deeper targets leave the document earlier.
    CHECK(report.loss.depths[2].targets <= report.loss.depths[0].targets);
  }
}

TEST_CASE("two passes of B sequences make the step of one pass of 2 B") {
  usual_setup setup;
  setup.options.clip_norm = 0;
  setup.options.batch = 2;
  setup.options.accumulation = 2;
  usual_run parts(setup);
  setup.options.batch = 4;
  setup.options.accumulation = 1;
  usual_run whole(setup);
  CHECK(parts.training.tokens_per_step() == whole.training.tokens_per_step());
  CHECK(parts.training.tokens_per_step() == 28);
  const auto a = parts.training.step(), b = whole.training.step();
  CHECK(a.loss.total == doctest::Approx(b.loss.total).epsilon(1e-6));
  CHECK(a.gradient_norm == doctest::Approx(b.gradient_norm).epsilon(1e-5));
  CHECK(a.loss.depths[1].targets == b.loss.depths[1].targets);
  // Moments, since the values of a first step keep little but the gradients' signs.
  CHECK(within(to_double(copy(parts.first())), to_double(copy(whole.first())), 1e-6));
  CHECK(within(to_double(copy(parts.second())), to_double(copy(whole.second())), 1e-6));
  CHECK(*std::max_element(whole.first().begin(), whole.first().end()) > 1e-3f);
}

/// A step of `whole` samples, as one pass or in as many passes, is the same up to rounding.
void check_passes(const usual_setup& given) {
  for (const auto normalization :
       {loss_normalization::positions, loss_normalization::valid_targets}) {
    CAPTURE(static_cast<int>(normalization));
    usual_setup setup = given;
    setup.options.clip_norm = 0;
    setup.options.loss.normalization = normalization;
    setup.options.batch = 6;
    setup.options.accumulation = 1;
    usual_run whole(setup);
    const auto expected = whole.training.step();
    for (const index_t passes : {2, 3, 6}) {
      CAPTURE(passes);
      setup.options.batch = 6 / passes;
      setup.options.accumulation = passes;
      usual_run parts(setup);
      const auto report = parts.training.step();
      CHECK(report.loss.total == doctest::Approx(expected.loss.total).epsilon(1e-6));
      CHECK(report.gradient_norm == doctest::Approx(expected.gradient_norm).epsilon(1e-5));
      for (std::size_t k = 0; k < report.loss.depths.size(); ++k) {
        CAPTURE(k);
        const depth_report &depth = report.loss.depths[k], &sum = expected.loss.depths[k];
        CHECK(depth.loss == doctest::Approx(sum.loss).epsilon(1e-6));
        CHECK(depth.targets == sum.targets);
        CHECK(depth.agreed == sum.agreed);
        CHECK(depth.agreement == sum.agreement);
      }
      CHECK(within(to_double(copy(parts.first())), to_double(copy(whole.first())), 1e-6));
    }
  }
}

TEST_CASE("a step of several passes is that of one large batch, however uneven the passes are") {
  usual_setup setup;
  check_passes(setup);
  // Documents of very different lengths: some passes have few targets at depth, or none.
  setup.document_starts.clear();
  for (index_t at = 0; at < 600; at += at / 60 % 2 == 1 ? 2 : 25) {
    setup.document_starts.push_back(at);
  }
  check_passes(setup);
  setup.document_starts.clear();
  for (index_t at = 0; at < 600; ++at) {
    setup.document_starts.push_back(at);  // no target at all
  }
  setup.options.learning_rate.peak = 0;
  check_passes(setup);
}

TEST_CASE("clipping scales all gradients to the norm that is allowed, and leaves smaller ones") {
  usual_setup setup;
  setup.options.clip_norm = 0;
  usual_run free(setup);
  const double norm = free.training.step().gradient_norm;
  setup.options.clip_norm = 2 * norm;
  usual_run loose(setup);
  CHECK(loose.training.step().gradient_norm == norm);
  CHECK(same_run(loose.state(), free.state()));
  setup.options.clip_norm = norm / 4;
  usual_run tight(setup);
  CHECK(tight.training.step().gradient_norm == norm);
  std::vector<double> expected = to_double(copy(free.first()));
  double squares = 0;
  for (double& moment : expected) {
    moment /= 4;
  }
  for (const float moment : tight.first()) {
    squares += static_cast<double>(moment) * static_cast<double>(moment);
  }
  CHECK(within(to_double(copy(tight.first())), expected, 1e-6 * norm));
  // 1 - beta1 of the gradients is in the first moment.
  CHECK(std::sqrt(squares) / 0.1 == doctest::Approx(norm / 4).epsilon(1e-4));
}

TEST_CASE("the schedule of lambda reaches the loss and its gradients") {
  usual_setup setup;
  setup.options.learning_rate.total_steps = 4;
  setup.options.learning_rate.warmup_steps = 0;
  setup.options.lambda = {.first = 0, .second = 0.4, .switch_at = 0.5};
  setup.options.loss.lambda = 0.5;
  setup.options.loss.weights = {0.9, 0.6, 0.3};
  usual_run run(setup);
  const auto head_moments = [&] {
    std::vector<float> all(run.first().begin() + run.layout.head_begin, run.first().end());
    return all;
  };
  for (int step = 0; step < 4; ++step) {
    CAPTURE(step);
    const auto report = run.training.step();
    const double lambda = step < 2 ? 0 : 0.4;
    CHECK(report.lambda == lambda);
    const auto& depths = report.loss.depths;
    CHECK(report.loss.total ==
          doctest::Approx(0.9 * depths[0].loss +
                          0.5 * lambda * (0.6 * depths[1].loss + 0.3 * depths[2].loss)));
    const std::vector<float> nothing(head_moments().size());
    const auto values_equal = [](float a, float b) { return a == b; };  // also 0 and -0
    CHECK(std::ranges::equal(head_moments(), nothing, values_equal) == (lambda == 0));
  }
}

// ---- own schedules ------------------------------------------------------------------------------

using usual_weights = depth_weights<2>;

TEST_CASE("own schedules that compute what the library's do give its bits") {
  usual_setup setup;
  const usual_setup given;
  setup.options.learning_rate = {.total_steps = 40,
                                 .own = own_schedule("the usual rate", [=](index_t step) {
                                   return given.options.learning_rate.at(step);
                                 })};
  setup.options.lambda = own_schedule(
      "the usual lambda", [=](index_t step) { return given.options.lambda.at(step, 40); });
  setup.options.weights =
      own_schedule("the usual weights", [=](index_t) { return given.options.loss.weights; });
  usual_run own(setup), usual_one(given);
  for (int step = 0; step < 6; ++step) {
    const auto report = own.training.step(), expected = usual_one.training.step();
    CHECK(report.learning_rate == expected.learning_rate);
    CHECK(report.lambda == expected.lambda);
    CHECK(report.weights == given.options.loss.weights);
    CHECK(expected.weights == given.options.loss.weights);
    CHECK(report.loss.total == expected.loss.total);
  }
  CHECK(same_run(own.state(), usual_one.state()));
}

TEST_CASE("weights of the depths by step reach loss and gradients, not validation") {
  usual_setup setup;
  setup.options.lambda = own_schedule("quarter", [](index_t) { return 0.25; });
  setup.options.weights = own_schedule("depths one by one", [](index_t step) {
    return usual_weights{1, step > 0 ? 0.5 : 0.0, step > 1 ? 2.0 : 0.0};
  });
  setup.options.learning_rate =
      own_schedule("0 at first", [](index_t step) { return 1e-3 * static_cast<double>(step); });
  usual_run run(setup);
  const std::vector<float> before = copy(run.values());
  for (int step = 0; step < 4; ++step) {
    CAPTURE(step);
    const auto report = run.training.step();
    const usual_weights expected{1, step > 0 ? 0.5 : 0.0, step > 1 ? 2.0 : 0.0};
    CHECK(report.weights == expected);
    CHECK(report.learning_rate == 1e-3 * step);
    const auto& depths = report.loss.depths;
    CHECK(report.loss.total ==
          doctest::Approx(depths[0].loss +
                          0.25 * (expected[1] * depths[1].loss + expected[2] * depths[2].loss)));
    // The head has no gradient before a depth has a weight; with a rate of 0 nothing has moved.
    const auto head = run.first().subspan(static_cast<std::size_t>(run.layout.head_begin));
    CHECK(std::ranges::all_of(head, [](float moment) { return moment == 0; }) == (step == 0));
    CHECK(static_cast<bool>(same_bits(copy(run.values()), before)) == (step == 0));
  }
  const auto held_out = run.training.validate(3);
  const auto& weights = setup.options.loss.weights;
  CHECK(held_out.total == doctest::Approx(weights[0] * held_out.depths[0].loss +
                                          weights[1] * held_out.depths[1].loss +
                                          weights[2] * held_out.depths[2].loss));
}

TEST_CASE("a wrong value of an own schedule is refused at its step, with nothing changed") {
  const auto falls = [](index_t step) { return 2 - static_cast<double>(step); };
  const std::vector<std::pair<std::string, std::function<void(train_options<usual>&)>>> changes{
      {"rate", [=](auto& o) { o.learning_rate = own_schedule("rate", falls); }},
      {"lambda", [=](auto& o) { o.lambda = own_schedule("lambda", falls); }},
      {"weights", [=](auto& o) {
         o.weights = own_schedule("weights", [=](index_t step) {
           return usual_weights{1, 1, falls(step)};
         });
       }}};
  for (const auto& [name, change] : changes) {
    CAPTURE(name);
    usual_setup setup;
    change(setup.options);
    usual_run run(setup);
    run.advance(3);
    const run_state before = run.state();
    for (int again = 0; again < 2; ++again) {
      std::string message;
      try {
        run.training.step();
      } catch (const error& problem) {
        message = problem.what();
      }
      CAPTURE(message);
      CHECK(message.find("own_schedule \"" + name + "\"") == 0);
      CHECK(message.find("got -1 at step 3") != std::string::npos);
      CHECK(same_run(run.state(), before));
    }
  }
}

// ---- validation ---------------------------------------------------------------------------------

TEST_CASE("validation changes no bit of the training") {
  usual_run quiet, watched;
  for (int step = 0; step < 4; ++step) {
    const auto expected = quiet.training.step();
    static_cast<void>(watched.training.validate(step + 1));
    const run_state before = watched.state();
    static_cast<void>(watched.training.validate(100));
    CHECK(same_run(watched.state(), before));
    const auto report = watched.training.step();
    CHECK(report.loss.total == expected.loss.total);
    CHECK(report.gradient_norm == expected.gradient_norm);
  }
  CHECK(same_run(watched.state(), quiet.state()));
}

TEST_CASE("validation is the mean over the targets of the first windows, all if there are fewer") {
  usual_setup setup;
  setup.options.lambda = lambda_schedule::constant(0.25);
  setup.options.loss.weights = {1, 0.5, 0.25};
  usual_run run(setup);
  run.advance(3);
  model_loss<usual, cpu> loss(run.context, 1, 7);
  const index_t all = run.data.validation_windows();
  REQUIRE(all > 4);  // and not a multiple of the batch of 3 in every case below
  for (const index_t windows : {index_t{1}, index_t{3}, index_t{4}, all, all + 1, all + 100}) {
    CAPTURE(windows);
    loss_report<2> expected;
    for (index_t n = 0; n < std::min(windows, all); ++n) {
      token_batch window;
      window.batch = 1;
      window.length = 7;
      window.tokens.resize(static_cast<std::size_t>(run.data.window()));
      window.segments.resize(window.tokens.size());
      run.data.validation_sample(n, window.tokens, window.segments);
      auto options = setup.options.loss;
      options.normalization = loss_normalization::valid_targets;
      const auto report = loss.without_gradients(run.context, run.model, window.view(), options);
      for (std::size_t k = 0; k < 3; ++k) {
        const auto targets = static_cast<double>(report.depths[k].targets);
        expected.depths[k].loss += report.depths[k].loss * targets;
        expected.depths[k].agreement += report.depths[k].agreement * targets;
        expected.depths[k].targets += report.depths[k].targets;
      }
    }
    const auto report = run.training.validate(windows);
    double total = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      const auto targets = static_cast<double>(expected.depths[k].targets);
      CHECK(report.depths[k].targets == expected.depths[k].targets);
      CHECK(report.depths[k].loss ==
            doctest::Approx(expected.depths[k].loss / targets).epsilon(1e-6));
      CHECK(report.depths[k].agreement ==
            doctest::Approx(expected.depths[k].agreement / targets).epsilon(1e-9));
      total += setup.options.loss.weights[k] * report.depths[k].loss;
    }
    CHECK(report.total == doctest::Approx(total).epsilon(1e-9));
  }
  CHECK(run.training.validate(0).depths[0].targets == 0);
}

TEST_CASE("validation ends where it is told to, and reports what it has seen") {
  usual_run run;
  const index_t batch = run.training.options().batch;
  REQUIRE(run.data.validation_windows() > batch);
  int asked = 0;
  const auto report = run.training.validate(100, [&] { return ++asked <= 1; });
  CHECK(asked == 2);
  const auto expected = run.training.validate(batch);
  CHECK(report.total == expected.total);
  CHECK(report.depths[0].targets == expected.depths[0].targets);
  CHECK(run.training.validate(100, [] { return false; }).depths[0].targets == 0);
}

TEST_CASE("without held-out text validation has no targets and no loss") {
  usual_setup setup;
  setup.validation_share = 0;
  usual_run run(setup);
  const auto report = run.training.validate(10);
  CHECK(report.total == 0);
  CHECK(report.depths[0].targets == 0);
}

// ---- bad steps ----------------------------------------------------------------------------------

TEST_CASE("a step with NaN or infinity changes nothing but counters, and training recovers") {
  for (const float poison :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 3e38f}) {
    CAPTURE(poison);
    usual_run run;
    run.advance(2);
    const run_state before = run.state();
    const auto report = run.poisoned_step(poison);
    CHECK(report.skipped);
    CHECK(report.step == 3);
    run_state expected = before;
    expected.counters = {3, 1, 1, 2};
    CHECK(same_run(run.state(), expected));

    // The next step is that of a run which is there without the bad one.
    usual_run other;
    other.advance(2);
    other.training.set_state({3, 1, 0});
    const auto next = run.training.step();
    CHECK_FALSE(next.skipped);
    CHECK(next.loss.total == other.training.step().loss.total);
    CHECK(run.state().counters == std::vector<std::int64_t>{4, 1, 0, 3});
    CHECK(same_run(run.state(), other.state()));
  }
}

TEST_CASE("gradients whose squares do not fit leave all parameters finite") {
  usual_setup setup;
  setup.options.clip_norm = 0;
  setup.options.loss.weights[0] = 1e24;
  usual_run run(setup);
  for (int step = 0; step < 3; ++step) {
    const auto report = run.training.step();
    CHECK(report.gradient_norm > 1e20);
    CHECK_FALSE(report.skipped);
  }
  CHECK(std::all_of(
      run.values().begin(), run.values().end(), [](float value) { return std::isfinite(value); }));
  // Clipped, they are gradients like others.
  setup.options.clip_norm = 1;
  usual_run clipped(setup);
  clipped.training.step();
  for (const float moment : clipped.second()) {
    CHECK(std::isfinite(moment));
  }
}

template <model_config Config, class S>
void check_without_invalid_operations() {
  cpu_context context({.threads = 1});  // flags belong to a thread
  using trainer_type = trainer<Config, cpu, S>;
  const dataset<> data(small_text(), {0, 150, 400}, {.window = trainer_type::window_of(7)});
  std::feclearexcept(FE_ALL_EXCEPT);
  typename trainer_type::model_type model(context, seed{2});
  trainer_type training(
      context, model, data, {.batch = 3, .length = 7, .learning_rate = {.total_steps = 40}});
  for (int step = 0; step < 3; ++step) {
    training.step();
  }
  CHECK(std::fetestexcept(FE_INVALID) == 0);
  CHECK(std::fetestexcept(FE_DIVBYZERO) == 0);
  CHECK(std::fetestexcept(FE_OVERFLOW) == 0);
}

TEST_CASE("an ordinary step is without invalid operations, divisions by zero and overflows") {
  check_without_invalid_operations<tiny_config(head_kind::none, 0), float>();
  check_without_invalid_operations<tiny_config(head_kind::none, 0), double>();
  check_without_invalid_operations<tiny_config(head_kind::none, 0), bf16>();
  check_without_invalid_operations<flipped_config(head_kind::sequential, 2), float>();
  check_without_invalid_operations<tiny_config(head_kind::parallel, 2), bf16>();
  check_without_invalid_operations<tiny_config(head_kind::independent, 2), float>();
  check_without_invalid_operations<tiny_config(head_kind::shared_logit, 2), float>();
}

TEST_CASE("bad steps that are not in a row never end the training") {
  usual_setup setup;
  setup.options.max_bad_steps = 2;
  usual_run run(setup);
  run.advance(12, {0, 2, 4, 6, 8, 10});
  CHECK(run.state().counters == std::vector<std::int64_t>{12, 6, 0, 6});
}

TEST_CASE("several bad steps in a row end the training with the parameters from before them") {
  for (const int allowed : {1, 2, 5}) {
    CAPTURE(allowed);
    usual_setup setup;
    setup.options.max_bad_steps = allowed;
    usual_run run(setup);
    run.advance(2);
    const run_state before = run.state();
    for (int bad = 1; bad < allowed; ++bad) {
      CHECK(run.poisoned_step().skipped);
    }
    std::string message;
    try {
      run.poisoned_step();
    } catch (const error& problem) {
      message = problem.what();
    }
    CHECK(message.find(std::to_string(allowed) + " steps in a row") != std::string::npos);
    CHECK(message.find("step " + std::to_string(2 + allowed)) != std::string::npos);
    run_state expected = before;
    expected.counters = {2 + allowed, allowed, allowed, 2};
    CHECK(same_run(run.state(), expected));
    CHECK_FALSE(run.training.step().skipped);
    CHECK(run.training.state().skipped_in_a_row == 0);
  }
}

// ---- options ------------------------------------------------------------------------------------

TEST_CASE("options that make no training are refused by name") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  using options_type = train_options<usual>;
  using change = std::function<void(options_type&)>;
  usual_run run;
  const auto refusal = [&](const change& apply) -> std::string {
    options_type options = usual_setup::defaults();
    apply(options);
    try {
      const usual_run::trainer_type made(run.context, run.model, run.data, options);
    } catch (const error& problem) {
      return problem.what();
    }
    return "";
  };
  CHECK(refusal([](auto&) {}).empty());
  const std::vector<std::pair<std::string, change>> changes{
      {"batch", [](auto& o) { o.batch = 0; }},
      {"batch", [](auto& o) { o.batch = -1; }},
      {"length", [](auto& o) { o.length = 0; }},
      {"max_position_embeddings", [](auto& o) { o.length = 49; }},
      {"windows", [](auto& o) { o.length = 6; }},
      {"accumulation", [](auto& o) { o.accumulation = 0; }},
      {"accumulation", [](auto& o) { o.accumulation = std::numeric_limits<index_t>::max() / 2; }},
      {"batch", [](auto& o) { o.batch = std::numeric_limits<index_t>::max() / 2; }},
      {"length", [](auto& o) { o.length = std::numeric_limits<index_t>::max(); }},
      {"learning rate", [](auto& o) { o.learning_rate.peak = -1e-3; }},
      {"learning rate", [=](auto& o) { o.learning_rate.peak = nan; }},
      {"learning rate", [=](auto& o) { o.learning_rate.peak = infinity; }},
      {"learning rate", [](auto& o) { o.learning_rate.floor = -1e-3; }},
      {"learning rate", [=](auto& o) { o.learning_rate.floor = nan; }},
      {"warmup_steps", [](auto& o) { o.learning_rate.warmup_steps = -1; }},
      {"total_steps", [](auto& o) { o.learning_rate.total_steps = 0; }},
      {"floor", [](auto& o) { o.learning_rate.floor = 1.01; }},
      {"lambda", [](auto& o) { o.lambda.first = -0.1; }},
      {"lambda", [=](auto& o) { o.lambda.second = nan; }},
      {"lambda", [=](auto& o) { o.lambda.switch_at = nan; }},
      {"at step 0",
       [](auto& o) { o.learning_rate = own_schedule("wrong", [](index_t) { return -1.0; }); }},
      {"at step 0",
       [=](auto& o) { o.lambda = own_schedule("wrong", [=](index_t) { return nan; }); }},
      {"depth 2, got inf at step 0",
       [=](auto& o) {
         o.weights = own_schedule("wrong", [=](index_t) { return usual_weights{1, 1, infinity}; });
       }},
      {"no effect",
       [](auto& o) { o.learning_rate.own = own_schedule("own", [](index_t) { return 1e-3; }); }},
      {"no effect",
       [](auto& o) {
         o.lambda = lambda_schedule::constant(0.5);
         o.lambda.own = own_schedule("own", [](index_t) { return 1; });
       }},
      {"lambda", [](auto& o) { o.loss.lambda = -1; }},
      {"weight", [](auto& o) { o.loss.weights[0] = -1; }},
      {"weight", [=](auto& o) { o.loss.weights[1] = nan; }},
      {"weight", [=](auto& o) { o.loss.weights[2] = infinity; }},
      {"clip_norm", [](auto& o) { o.clip_norm = -1; }},
      {"clip_norm", [=](auto& o) { o.clip_norm = nan; }},
      {"max_bad_steps", [](auto& o) { o.max_bad_steps = 0; }},
      {"aux_loss_alpha", [](auto& o) { o.loss.aux_loss_alpha = -1; }},
      {"bias_update_speed", [](auto& o) { o.bias_update_speed = -1; }},
      {"bias_update_speed", [=](auto& o) { o.bias_update_speed = infinity; }},
      {"betas", [](auto& o) { o.optimizer.beta1 = 1; }},
      {"epsilon", [](auto& o) { o.optimizer.epsilon = 0; }},
      {"weight_decay", [](auto& o) { o.optimizer.weight_decay = -1; }},
  };
  for (const auto& each : changes) {
    const std::string& name = each.first;
    CAPTURE(name);
    const std::string message = refusal(each.second);
    CAPTURE(message);
    CHECK(message.find(name) != std::string::npos);
  }
}

template <model_config Config>
void check_heads_only_is_refused() {
  small_setup<Config> setup;
  setup.options.loss.scope = gradient_scope::heads_only;
  std::string message;
  try {
    const small_run<Config> run(setup);
  } catch (const error& problem) {
    message = problem.what();
  }
  CHECK(message == "trainer: gradient_scope::heads_only trains nothing with the head kind " +
                       std::string(name_of(Config.prediction.kind)) + ", which has no parameters");
}

TEST_CASE("training heads only is refused where the head has nothing to train") {
  check_heads_only_is_refused<tiny_config(head_kind::none, 0)>();
  check_heads_only_is_refused<tiny_config(head_kind::shared_logit, 2)>();
}

TEST_CASE("without a schedule a run has the rate of its width, and learns") {
  usual_setup setup;
  setup.options.learning_rate = train_options<usual>{}.learning_rate;
  usual_run run(setup);
  const double before = run.training.validate(100).depths[0].loss;
  for (index_t step = 0; step < 100; ++step) {
    const auto report = run.training.step();
    CHECK_FALSE(report.skipped);
    CHECK(report.learning_rate == learning_rate_schedule::of_width(usual.hidden_size).at(step));
  }
  CHECK(run.training.validate(100).depths[0].loss < 0.8 * before);
}

/// g++ 12 once stopped with an internal error here: designated options of a trainer that is a
/// default member initializer of a class template.
template <class S>
struct own_run {
  cpu_context context{{.threads = 1}};
  language_model<usual, cpu, S> model{context, seed{1}};
  dataset<> data{small_text(), {}, {.window = trainer<usual, cpu, S>::window_of(7)}};
  trainer<usual, cpu, S> training{context, model, data, {.batch = 2, .length = 7}};
};

TEST_CASE("a class template holds a trainer with designated options, and has the default weights") {
  own_run<float> run;
  CHECK(run.training.options().loss.weights == default_loss_options<usual>().weights);
  CHECK_FALSE(run.training.step().skipped);
}

}  // namespace

}  // namespace mtp::test::train_trainer_cases
