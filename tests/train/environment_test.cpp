// Results are the same in every floating-point environment of the caller, and leave it as it was.
#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "mtp/core/tensor.hpp"
#include "mtp/decode/generate.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/ops/create.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/functions.hpp"
#include "mtp/ops/linear_cross_entropy.hpp"
#include "mtp/ops/matmul.hpp"
#include "mtp/ops/operators.hpp"
#include "mtp/ops/optimizer.hpp"
#include "mtp/ops/reduce.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "mtp/ops/softmax.hpp"
#include "mtp/ops/swiglu.hpp"
#include "support/compare.hpp"
#include "support/environment.hpp"
#include "support/random.hpp"
#include "support/weights.hpp"
#include "train/small_run.hpp"

namespace mtp::test::train_environment_cases {

namespace {

/// run(context), which returns numbers, in every environment and on 1 and 3 threads, is what it is
/// in the default one. Contexts are made in the environment, so that their threads inherit it.
template <class Run>
void check_everywhere(const Run& run) {
  const auto alone = [&](int threads) {
    cpu_context context({.threads = threads});
    return run(context);
  };
  const std::vector<float> expected = alone(1);
  for (const int threads : {1, 3}) {
    CAPTURE(threads);
    CHECK(same_bits(alone(threads), expected));
    for (const auto& setting : odd_environment::all()) {
      CAPTURE(std::string(setting.name));
      std::vector<float> actual;
      environment_state before, after;
      {
        const odd_environment odd(setting);
        before = environment_state::now();
        actual = alone(threads);
        after = environment_state::now();
      }
      CHECK(same_bits(actual, expected));
      CHECK(after == before);
    }
  }
}

template <class Shape>
void append(std::vector<float>& all, const tensor<float, Shape, cpu>& x) {
  all.insert(all.end(), x.begin(), x.end());
}

constexpr index_t N = 67, C = 301;  // several tasks

/// Ordinary numbers, with magnitudes times `scale`.
std::vector<float> ordinary(index_t count, float scale, std::uint64_t stream) {
  const random_stream random(seed{17}, stream);
  std::vector<float> all;
  for (index_t i = 0; i < count; ++i) {
    all.push_back(scale * static_cast<float>(random.normal(static_cast<std::uint64_t>(i))));
  }
  return all;
}

}  // namespace

TEST_CASE("operations give the same bits in every floating-point environment") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> plain = ordinary(N * C, 1, 1), other = ordinary(N * C, 1, 2);
  const std::vector<float> tiny = ordinary(N * C, 1e-39F, 3);  // subnormal
  const std::vector<float> wild = [&] {                        // sums and products overflow
    auto all = ordinary(N * C, 1e38F, 4);
    all[0] = infinity;
    all[1] = -infinity;
    return all;
  }();
  const auto matrix = [](const std::vector<float>& elements) {
    return tensor<float, dims<2>, cpu>(dims<2>(N, C), std::span<const float>(elements));
  };

  SUBCASE("by elements and reductions") {
    check_everywhere([&](cpu_context& context) {
      std::vector<float> all;
      tensor<float, dims<2>, cpu> y(dims<2>{N, C});  // [N, C]
      tensor<float, dims<1>, cpu> row(dims<1>{N});   // [N]
      for (const auto* elements : {&plain, &tiny, &wild}) {
        const auto x = matrix(*elements);
        const auto z = matrix(other);
        add(context, y, x, z);
        append(all, y);
        divide(context, y, z, x);
        append(all, y);
        scale(context, y, x, 0.1);
        append(all, y);
        axpy(context, y, 1.0 / 3, z);
        append(all, y);
        mtp::exp(context, y, x);
        append(all, y);
        sum(context, row, x);
        append(all, row);
        mean(context, row, x);
        append(all, row);
        append(all, x * z + z);  // operators, which make a context of their own
      }
      append(all, arange<float, cpu>(0, 1, 0.1));
      return all;
    });
  }

  SUBCASE("softmax, norms and activations") {
    check_everywhere([&](cpu_context& context) {
      std::vector<float> all;
      tensor<float, dims<2>, cpu> y(dims<2>{N, C}), dx(dims<2>{N, C});      // [N, C]
      tensor<float, dims<1>, cpu> inv_rms(dims<1>{N});                      // [N]
      tensor<float, dims<1>, cpu> weight(dims<1>{C}), dweight(dims<1>{C});  // [C]
      fill(context, weight, 0.7F);
      for (const auto* elements : {&plain, &tiny, &wild}) {
        const auto x = matrix(*elements);
        const auto dy = matrix(other);
        softmax_forward(context, y, x);
        append(all, y);
        softmax_backward(context, dx, dy, y);
        append(all, dx);
        rms_norm_forward(context, y.view(), inv_rms.view(), x.view(), weight.view(), 1e-30);
        append(all, y);
        append(all, inv_rms);
        rms_norm_backward(context,
                          dx.view(),
                          dweight.view(),
                          dy.view(),
                          x.view(),
                          inv_rms.view(),
                          weight.view(),
                          matrix_view<const float, cpu>(nullptr, dims<2>{0, 0}));
        append(all, dx);
        append(all, dweight);
        silu_residual_forward(context, y.view(), x.view(), dy.view());
        append(all, y);
      }
      return all;
    });
  }

  SUBCASE("products") {
    check_everywhere([&](cpu_context& context) {
      std::vector<float> all;
      tensor<float, dims<2>, cpu> y(dims<2>{N, N});  // [N, N]
      for (const auto* elements : {&plain, &tiny, &wild}) {
        const auto x = matrix(*elements);
        const auto z = matrix(other);
        matmul(context, y.view(), x.view(), z.view().transpose());
        append(all, y);
      }
      return all;
    });
  }

  SUBCASE("updates") {
    check_everywhere([&](cpu_context& context) {
      std::vector<float> all;
      tensor<double, dims<1>, cpu> squares(dims<1>{1});  // [1]
      for (const auto* elements : {&plain, &tiny, &wild}) {
        const tensor<float, dims<1>, cpu> gradient(dims<1>{N * C},
                                                   std::span<const float>(*elements));     // [N C]
        tensor<float, dims<1>, cpu> value(dims<1>{N * C}, std::span<const float>(other));  // [N C]
        tensor<float, dims<1>, cpu> first(dims<1>{N * C}), second(dims<1>{N * C});         // [N C]
        const tensor<adamw_range, dims<1>, cpu> ranges(
            dims<1>{2},  // [2]
            {{.begin = 0, .count = 10000, .decays = 1},
             {.begin = 10000, .count = static_cast<std::int32_t>(N * C - 10000), .decays = 0}});
        for (int step = 0; step < 3; ++step) {
          adamw_update(context,
                       value.view(),
                       value.view(),
                       first.view(),
                       second.view(),
                       gradient.view(),
                       ranges.view(),
                       {.learning_rate = 1e-3,
                        .beta1 = 0.9,
                        .beta2 = 0.95,
                        .epsilon = 1e-8,
                        .weight_decay = 0.1,
                        .gradient_scale = 0.3,
                        .correction1 = 0.1,
                        .correction2 = 0.05});
        }
        append(all, value);
        append(all, first);
        append(all, second);
        sum_of_squares(context, squares.view(), gradient.view());
        // The halves of its bits, which no environment rounds.
        for (const float half : std::bit_cast<std::array<float, 2>>(squares(0))) {
          all.push_back(half);
        }
      }
      return all;
    });
  }
}

TEST_CASE(
    "models, steps, losses and texts have the same bits in every floating-point environment") {
  constexpr model_config config = tiny_config(head_kind::sequential, 2);
  for (const int threads : {1, 3}) {
    CAPTURE(threads);
    struct outcome {
      run_state state;
      std::vector<double> reports;
      std::vector<float> rope;
      std::vector<token_t> text;
    };
    const auto result_of = [&] {
      small_setup<config> setup;
      setup.threads = threads;
      setup.validation_share = 0.1;
      setup.options.clip_norm = 0.3;
      outcome result;
      small_run<config> run(setup);
      for (const double weight : run.training.options().loss.weights) {
        result.reports.push_back(weight);
      }
      for (int step = 0; step < 3; ++step) {
        const auto report = run.training.step();
        for (const double number : {report.loss.total,
                                    report.loss.depths[1].loss,
                                    report.gradient_norm,
                                    report.learning_rate,
                                    report.lambda}) {
          result.reports.push_back(number);
        }
      }
      // A bad step is reported, and traps do not see it.
      run.poisoned_step();
      run.poisoned_step(std::numeric_limits<float>::infinity());
      const auto losses = run.training.validate(3);
      result.reports.push_back(losses.total);
      result.reports.push_back(losses.depths[2].agreement);
      result.state = run.state();
      const auto rope = run.model.rope();
      result.rope.assign(rope.data(), rope.data() + rope.count());
      generator<config, cpu> writer(run.context, run.model);
      const std::vector<token_t> prompt{1, 5, 17};
      for (const auto mode : {decode_mode::plain, decode_mode::speculative}) {
        const auto& text = writer.generate(prompt, {.mode = mode, .max_new_tokens = 20});
        result.text.insert(result.text.end(), text.tokens.begin(), text.tokens.end());
      }
      return result;
    };
    const outcome expected = result_of();
    for (const auto& setting : odd_environment::all()) {
      CAPTURE(std::string(setting.name));
      outcome actual;
      environment_state before, after;
      {
        const odd_environment odd(setting);
        before = environment_state::now();
        actual = result_of();
        after = environment_state::now();
      }
      CHECK(same_run(actual.state, expected.state));
      CHECK(same_bits(actual.reports, expected.reports));
      CHECK(same_bits(actual.rope, expected.rope));
      CHECK(same_bits(actual.text, expected.text));
      CHECK(after == before);
    }
  }
}

}  // namespace mtp::test::train_environment_cases
