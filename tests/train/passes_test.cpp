// Steps of several passes and losses over many windows: what counts is targets, whichever windows
// share a pass.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/train/evaluate.hpp"
#include "mtp/train/trainer.hpp"
#include "support/compare.hpp"
#include "support/model.hpp"
#include "train/small_run.hpp"

namespace mtp::test::train_passes_cases {

namespace {

constexpr model_config usual = tiny_config(head_kind::sequential, 2);
constexpr index_t length = 7, window = length + 3;

/// What a text is beside its tokens.
struct marks {
  std::vector<std::int64_t> document_starts;
  std::vector<std::uint8_t> mask;
};

/// Stretches of 25 tokens that are no targets, and documents of 2 to 40 tokens.
marks uneven_marks() {
  marks made;
  for (std::int64_t at = 0; at < 600; at += at % 3 == 0 ? 40 : 2) {
    made.document_starts.push_back(at);
  }
  for (int i = 0; i < 600; ++i) {
    made.mask.push_back(i / 25 % 2 == 0 && i % 5 != 1 ? 7 : 0);
  }
  return made;
}

/// A run in double, so that differences are those of the arithmetic and not of its rounding.
class double_run {
 public:
  using trainer_type = trainer<usual, cpu, double>;

  double_run(const marks& given, train_options<usual> options)
      : data(small_text(),
             given.document_starts,
             {.window = window, .validation_share = 0.2, .seed = seed{1}},
             given.mask),
        model(context, seed{2}),
        training(context, model, data, options) {}

  std::vector<double> values() {
    const auto all = model.values();
    return {all.data(), all.data() + all.count()};
  }

  cpu_context context{{.threads = 1, .workspace_bytes = 0}};
  dataset<> data;
  language_model<usual, cpu, double> model;
  trainer_type training;
};

/// Targets of the samples of a pass, one by one.
index_t targets_of(const dataset<>& data, std::uint64_t sample, index_t depth) {
  std::vector<token_t> tokens(window);
  std::vector<std::int32_t> segments(window);
  std::vector<std::uint8_t> mask(window);
  data.training_sample(sample, tokens, segments, mask);
  index_t count = 0;
  for (std::size_t i = 0; i < length; ++i) {
    const std::size_t there = i + 1 + static_cast<std::size_t>(depth);
    count += mask[there] != 0 && segments[there] == segments[i] ? 1 : 0;
  }
  return count;
}

TEST_CASE(
    "one pass of 8, 8 passes of 1 and all between are one step: masks, documents, no target") {
  const marks uneven = uneven_marks();
  for (const auto normalization :
       {loss_normalization::positions, loss_normalization::valid_targets}) {
    CAPTURE(static_cast<int>(normalization));
    train_options<usual> options{
        .batch = 8, .length = length, .learning_rate = learning_rate_schedule::constant(1e-2)};
    options.loss.normalization = normalization;
    double_run whole(uneven, options);
    constexpr std::uint64_t steps = 4;
    std::vector<step_report<2>> expected;
    std::vector<std::vector<double>> values;
    std::uint64_t empty = 0;
    for (std::uint64_t step = 0; step < steps; ++step) {
      expected.push_back(whole.training.step());
      values.push_back(whole.values());
      for (index_t k = 0; k < 3; ++k) {
        CAPTURE(k);
        index_t targets = 0;
        for (std::uint64_t sample = 8 * step; sample < 8 * step + 8; ++sample) {
          const index_t own = targets_of(whole.data, sample, k);
          empty += k == 0 && own == 0 ? 1 : 0;
          targets += own;
        }
        CHECK(expected.back().loss.depths[static_cast<std::size_t>(k)].targets == targets);
      }
    }
    REQUIRE(empty > 0);
    REQUIRE(empty < 8 * steps);
    for (const index_t passes : {2, 4, 8}) {
      CAPTURE(passes);
      options.batch = 8 / passes;
      options.accumulation = passes;
      double_run parts(uneven, options);
      for (std::size_t step = 0; step < steps; ++step) {
        CAPTURE(step);
        const auto report = parts.training.step();
        const auto& same = expected[step];
        CHECK(report.loss.total == doctest::Approx(same.loss.total).epsilon(1e-12));
        CHECK(report.gradient_norm == doctest::Approx(same.gradient_norm).epsilon(1e-11));
        for (std::size_t k = 0; k < 3; ++k) {
          CAPTURE(k);
          const depth_report &depth = report.loss.depths[k], &sum = same.loss.depths[k];
          CHECK(depth.loss == doctest::Approx(sum.loss).epsilon(1e-12));
          CHECK(depth.targets == sum.targets);
          CHECK(depth.agreed == sum.agreed);
          CHECK(depth.agreement == sum.agreement);
        }
        CHECK(within(parts.values(), values[step], 1e-9));
      }
    }
  }
}

TEST_CASE("the gradient of a step is the sum of its passes, each from zero, in their order") {
  train_options<usual> options{.batch = 2, .length = length, .accumulation = 3, .clip_norm = 0};
  options.optimizer.beta1 = 0;  // the first moments are the gradients
  options.loss.normalization = loss_normalization::positions;
  double_run run({{0, 100}, {}}, options), twin({{0, 100}, {}}, options);
  model_loss<usual, cpu, double> loss(twin.context, 2, length);
  auto losses = options.loss;
  losses.lambda *= options.lambda.at(0, options.learning_rate.total_steps);
  for (double& weight : losses.weights) weight /= 3;
  const auto count = static_cast<std::size_t>(twin.model.layout.storage);
  std::vector<double> sum(count), at_once(count);
  double total = 0;
  for (std::uint64_t pass = 0; pass < 3; ++pass) {
    mtp::detail::window_batch samples(2, window);
    samples.make_room(twin.data);
    for (index_t b = 0; b < 2; ++b) {
      samples.load_training(b, twin.data, 2 * pass + static_cast<std::uint64_t>(b));
    }
    std::vector<double> own(count);
    const auto add_to = [&](std::vector<double>& all) {
      const parameter_array<double, cpu> array(all.data(), twin.model.layout.storage);
      return loss.with_gradients(twin.context, twin.model, array, samples.view(2, length), losses)
          .total;
    };
    total += add_to(own);
    add_to(at_once);
    for (std::size_t i = 0; i < count; ++i) sum[i] += own[i];
  }
  CHECK(run.training.step().loss.total == total);
  const auto first = run.training.optimizer().first();
  CHECK(same_bits(std::vector<double>(first.data(), first.data() + first.count()), sum));
  CHECK_FALSE(same_bits(at_once, sum));
}

TEST_CASE("a mask without a zero is no mask, and one of zeros leaves nothing to learn") {
  const train_options<usual> options{.batch = 2,
                                     .length = length,
                                     .learning_rate = learning_rate_schedule::constant(1e-2),
                                     .optimizer = {.weight_decay = 0}};
  double_run none({{0, 100}, {}}, options);
  double_run ones({{0, 100}, std::vector<std::uint8_t>(600, 1)}, options);
  double_run zeros({{0, 100}, std::vector<std::uint8_t>(600, 0)}, options);
  const std::vector<double> before = zeros.values();
  for (int step = 0; step < 2; ++step) {
    CHECK(ones.training.step().loss.total == none.training.step().loss.total);
    const auto nothing = zeros.training.step();
    CHECK(nothing.loss.total == 0);
    CHECK(nothing.loss.depths[0].targets == 0);
    CHECK(nothing.gradient_norm == 0);
  }
  CHECK(same_bits(ones.values(), none.values()));
  CHECK(same_bits(zeros.values(), before));
  CHECK(zeros.training.validate(100).depths[0].targets == 0);
}

// ---- evaluation ---------------------------------------------------------------------------------

TEST_CASE("evaluation takes any dataset, also of other tokens, with or without a trainer") {
  const marks uneven = uneven_marks();
  double_run run(uneven, {.batch = 3, .length = length, .learning_rate = {.total_steps = 40}});
  run.training.step();
  const std::vector<double> before = run.values();
  // The trainer's own text, told as other integers and held out by the same rule.
  const std::vector<std::uint8_t> bytes = small_text();
  const dataset<std::int32_t> wide({bytes.begin(), bytes.end()},
                                   uneven.document_starts,
                                   {.window = window, .validation_share = 0.2},
                                   uneven.mask);
  const auto expected = run.training.validate(100);
  const auto inside = run.training.evaluate(wide, 100);
  const auto outside = evaluate(run.context, run.model, wide, {.batch = 3});
  CHECK(expected.depths[0].targets > 0);
  for (const auto& report : {inside, outside}) {
    CHECK(report.total == expected.total);
    for (std::size_t k = 0; k < 3; ++k) {
      CHECK(report.depths[k].loss == expected.depths[k].loss);
      CHECK(report.depths[k].agreement == expected.depths[k].agreement);
      CHECK(report.depths[k].targets == expected.depths[k].targets);
      CHECK(report.depths[k].agreed == expected.depths[k].agreed);
    }
  }
  // How many windows share a pass does not matter beyond rounding; how many there are does.
  const auto one = evaluate(run.context, run.model, wide, {.windows = 4, .batch = 1});
  const auto four = evaluate(run.context, run.model, wide, {.windows = 4, .batch = 100});
  CHECK(one.total == doctest::Approx(four.total).epsilon(1e-13));
  CHECK(one.depths[2].targets == four.depths[2].targets);
  CHECK(one.depths[0].targets < expected.depths[0].targets);
  int asked = 0;
  const auto part = evaluate(
      run.context, run.model, wide, {.batch = 2, .keep_going = [&] { return ++asked < 3; }});
  CHECK(asked == 3);
  CHECK(part.total == doctest::Approx(four.total).epsilon(1e-13));
  // Evaluating with a mask leaves none behind, and changes nothing of the training.
  CHECK(same_bits(run.values(), before));
  double_run plain({{0}, {}}, {.batch = 3, .length = length}),
      twin({{0}, {}}, {.batch = 3, .length = length});
  CHECK(plain.training.evaluate(wide, 100).depths[0].targets == expected.depths[0].targets);
  CHECK(plain.training.step().loss.total == twin.training.step().loss.total);
  CHECK(plain.training.validate(9).total == twin.training.validate(9).total);
}

TEST_CASE("all of a text can be held out, each token a target once") {
  double_run run({{0}, {}}, {.batch = 3, .length = length});
  const dataset<> text(
      small_text(75, 4), {}, {.window = window, .validation_share = 1, .stride = length});
  CHECK(text.training_windows() == 0);
  CHECK(text.validation_windows() == 10);  // the last begins at 63 and ends at 73
  const auto report = evaluate(run.context, run.model, text);
  CHECK(report.depths[0].targets == 10 * length);
  CHECK(report.depths[0].loss > 1);
  CHECK(run.training.evaluate(text, 100).depths[0].loss ==
        doctest::Approx(report.depths[0].loss).epsilon(1e-13));
  std::vector<int> seen(75);
  for (index_t n = 0; n < text.validation_windows(); ++n) {
    for (index_t i = 1; i <= length; ++i) {
      ++seen[static_cast<std::size_t>(n * length + i)];
    }
  }
  CHECK(std::count(seen.begin() + 1, seen.begin() + 71, 1) == 70);
}

template <class Call>
std::string refusal(Call&& call) {
  try {
    call();
  } catch (const error& problem) {
    return problem.what();
  }
  return "";
}

TEST_CASE("what cannot be evaluated or trained on is refused with a message") {
  double_run run({{0}, {}}, {.batch = 3, .length = length});
  const auto text_of = [](index_t size) {
    return dataset<>(small_text(), {}, {.window = size, .validation_share = 1});
  };
  const auto message = [&](const dataset<>& data, const evaluation_options<2>& options) {
    return refusal([&] { static_cast<void>(evaluate(run.context, run.model, data, options)); });
  };
  CHECK(
      message(text_of(3), {}) ==
      "evaluate: expected a dataset with windows of at least 4 tokens (length + 1 + depth), got 3");
  CHECK(message(text_of(window), {.windows = 0}) ==
        "evaluate: expected positive windows and batch, got 0 and 16");
  CHECK(message(text_of(window), {.windows = 2, .batch = -1}) ==
        "evaluate: expected positive windows and batch, got 2 and -1");
  CHECK(message(text_of(99), {}).find("max_position_embeddings") != std::string::npos);
  CHECK(refusal([&] { static_cast<void>(run.training.evaluate(text_of(window + 1), 9)); }) ==
        "trainer::evaluate: expected a dataset with windows of 10 tokens (length + 1 + depth), got "
        "11");
  const dataset<> held_out = text_of(window);
  CHECK(refusal([&] {
          const trainer<usual, cpu, double> made(
              run.context, run.model, held_out, {.batch = 1, .length = length});
        }) ==
        "trainer: all of the dataset's text is held out (validation_share 1): there is nothing to "
        "train on; trainer::evaluate takes such a dataset");
  const dataset<> strange(
      {1, 2, 200, 3, 4, 5, 6, 7, 8, 9}, {}, {.window = window, .validation_share = 1});
  CHECK(message(strange, {}).find("token 200") != std::string::npos);
}

}  // namespace

}  // namespace mtp::test::train_passes_cases
