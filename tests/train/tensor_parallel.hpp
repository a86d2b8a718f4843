// Training of models that ranks have parts of, against one process, and with copies of the model.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "model/tensor_parallel.hpp"
#include "mtp/distributed/tensor_ranks.hpp"
#include "train/ranks.hpp"

namespace mtp::test {

/// What `Ranks` x `copies` ranks leave: rank n has part n mod Ranks of copy n / Ranks.
template <model_config Config, int Ranks, class S>
struct parallel_result {
  rank_result<Config, S> whole;                           // parts joined; of copy 0
  std::vector<std::vector<std::vector<double>>> reports;  // of every rank and step

  parallel_result() : whole(language_model<Config, cpu, S>::layout.storage), reports() {}
};

/// Trains. Everything that all ranks have must have the same bits on all of them, and all copies
/// the same parameters. `spoil(model, rank)` may change parameters before the first step.
template <model_config Config, int Ranks, class S = float, class Spoil>
parallel_result<Config, Ranks, S> train_parts(
    const rank_setup<tensor_parallel(Config, Ranks)>& setup,
    int copies,
    int steps,
    const Spoil& spoil) {
  constexpr model_config divided = tensor_parallel(Config, Ranks);
  using A = accumulate_t<S>;
  const auto world = static_cast<std::size_t>(Ranks * copies);
  std::vector<rank_result<divided, S>> each(
      world, rank_result<divided, S>(language_model<divided, cpu, S>::layout.storage));
  parallel_result<Config, Ranks, S> result;
  result.reports.resize(world);
  run_ranks(Ranks * copies, [&](thread_communicator& all) {
    const auto at = static_cast<std::size_t>(all.rank());
    thread_communicator of_model = all.split(all.rank() / Ranks, all.rank());
    thread_communicator of_copies = all.split(all.rank() % Ranks, all.rank());
    tensor_ranks ranks(of_model);
    cpu_context context({.threads = 1, .workspace_bytes = 0});
    context.join(ranks);
    const dataset<> data(setup.text,
                         setup.document_starts,
                         {.window = group_trainer<divided, S>::window_of(setup.options.length),
                          .validation_share = 0.1,
                          .seed = seed{1}},
                         setup.mask);
    language_model<divided, cpu, S> model(context, seed{2});
    spoil(model, all.rank());
    group_trainer<divided, S> run(context, model, data, setup.options, of_copies);
    for (int step = 0; step < steps; ++step) {
      result.reports[at].push_back(numbers_of(run.step()));
    }
    each[at].take(run, true);
    const auto first = each[at].first;
    if (setup.options.sharding == optimizer_sharding::zero1) {  // moments of all shards
      const shards parts(
          static_cast<index_t>(first.size()), of_copies.size(), sum_of_squares_piece);
      for (auto* array : {&each[at].first, &each[at].second, &each[at].master}) {
        of_copies.all_gather(std::span<A>(*array), parts);
      }
    }
  });
  const auto of_copy_0 = [&](auto member) {
    std::vector<std::remove_cvref_t<decltype(each[0].*member)>> parts;
    for (std::size_t rank = 0; rank < Ranks; ++rank) parts.push_back(each[rank].*member);
    return parts;
  };
  using kept = rank_result<divided, S>;
  result.whole.values = joined<Config, Ranks, S>(of_copy_0(&kept::values));
  result.whole.first = joined<Config, Ranks, S>(of_copy_0(&kept::first));
  result.whole.second = joined<Config, Ranks, S>(of_copy_0(&kept::second));
  result.whole.master = joined<Config, Ranks, S>(of_copy_0(&kept::master));
  result.whole.reports = result.reports[0];
  for (std::size_t rank = 0; rank < world; ++rank) {
    CHECK(same_bits(each[rank].values, each[rank % Ranks].values));
    for (std::size_t step = 0; step < result.reports[rank].size(); ++step) {
      CHECK(same_bits(result.reports[rank][step], result.reports[0][step]));
    }
  }
  return result;
}

template <model_config Config, int Ranks, class S = float>
parallel_result<Config, Ranks, S> train_parts(
    const rank_setup<tensor_parallel(Config, Ranks)>& setup, int copies, int steps) {
  return train_parts<Config, Ranks, S>(setup, copies, steps, [](auto&, int) {});
}

/// Few passes, so that a run of both is quick.
template <class Setup>
Setup short_setup() {
  Setup setup;
  setup.options.accumulation = 3;
  setup.options.batch = 2;
  return setup;
}

/// 20 steps in f64 are those of one process: each step moves a parameter by about the learning
/// rate, and a gradient's relative error moves that by as much, unless the gradient is smaller than
/// epsilon. 10^-7 is far above the errors of sums in another order, and far below a step.
template <model_config Config, int Ranks>
void check_training() {
  constexpr int steps = 20;
  const auto expected = train_alone<Config, double>(short_setup<rank_setup<Config>>(), steps);
  const auto actual = train_parts<Config, Ranks, double>(
      short_setup<rank_setup<tensor_parallel(Config, Ranks)>>(), 1, steps);
  const std::vector<double> bounds(expected.values.size(), 1e-7);
  CHECK(within(actual.whole.values, expected.values, bounds));
  double moved = 0;
  const auto begin = train_alone<Config, double>(short_setup<rank_setup<Config>>(), 0);
  for (std::size_t i = 0; i < begin.values.size(); ++i) {
    moved = std::max(moved, std::abs(begin.values[i] - expected.values[i]));
  }
  CHECK(moved > 0.02);
  for (std::size_t step = 0; step < steps; ++step) {
    CAPTURE(step);
    CHECK(within(actual.whole.reports[step],
                 expected.reports[step],
                 std::vector<double>(expected.reports[step].size(), 1e-7)));
  }
}

}  // namespace mtp::test
