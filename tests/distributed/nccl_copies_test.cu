// Copies of a model that GPUs have parts of, and scores by one. With threads as GPUs and a stub of
// NCCL.
#include <cuda_runtime.h>
// The emulation comes first.
#include <doctest/doctest.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "mtp/distributed/nccl_tensor_ranks.cuh"
// The backend comes before what is made for it.
#include "distributed/nccl_runs.hpp"
#include "mtp/decode/score.hpp"
#include "mtp/distributed/thread_ranks.hpp"
#include "mtp/model/divide.hpp"
#include "mtp/model/transfer.hpp"
#include "support/compare.hpp"

namespace mtp::test::distributed_nccl_copies_cases {

namespace {

/// The parameters of all ranks after two steps of two GPUs for each of `copies`.
std::vector<std::vector<double>> train_copies(int copies, optimizer_sharding sharding) {
  std::vector<std::vector<double>> all(static_cast<std::size_t>(2 * copies));
  const auto text = text_of_runs();
  run_ranks(2 * copies, [&](thread_communicator& hosts) {
    cuda_context context({.workspace_bytes = 1 << 22, .product_bytes = 1 << 16});
    nccl_communicator world(context, hosts);
    nccl_communicator of_model = world.split(world.rank() / 2, world.rank());
    nccl_communicator of_copies = world.split(world.rank() % 2, world.rank());
    nccl_tensor_ranks ranks(of_model);
    context.join(ranks);
    language_model<part_of_run, cuda> model(context, seed{5});
    auto options = options_of_run<part_of_run>();
    options.sharding = sharding;
    using trainer_type = trainer<part_of_run, cuda, float, std::uint8_t, nccl_communicator>;
    const dataset<> data(text, {}, {.window = trainer_type::window_of(options.length)});
    trainer_type run(context, model, data, options, of_copies);
    for (int step = 0; step < 2; ++step) check(!run.step().skipped, "a step was skipped");
    const auto values = mtp::detail::host_copy(std::as_const(model).values());
    all[static_cast<std::size_t>(hosts.rank())] = {values.begin(), values.end()};
  });
  return all;
}

}  // namespace

TEST_CASE("2 copies of a model on 2 GPUs train as one copy does up to rounding, and stay alike") {
  const auto one = train_copies(1, optimizer_sharding::none);
  CHECK(one[0] != one[1]);  // parts
  for (const auto sharding : {optimizer_sharding::none, optimizer_sharding::zero1}) {
    const auto two = train_copies(2, sharding);
    for (std::size_t rank = 0; rank < 2; ++rank) {
      CHECK(within(two[rank], one[rank], 1e-6));
      CHECK(same_bits(two[rank + 2], two[rank]));
    }
  }
}

TEST_CASE("2 GPUs score a text alike, and as one GPU does") {
  std::vector<token_t> text;
  for (const std::uint8_t token : text_of_runs()) text.push_back(token);
  text.resize(30);
  cuda_context context({.workspace_bytes = 1 << 22, .product_bytes = 1 << 16});
  const language_model<whole_of_run, cuda, double> whole(context, seed{1});
  // What stands in front of the first token is nothing.
  const auto scores_of = [&](auto& scorer) {
    const auto& scores = scorer.score(text, {}).log_probabilities;
    return std::vector<double>(scores.begin() + 1, scores.end());
  };
  scorer<whole_of_run, cuda, double> single(context, whole);
  const auto expected = scores_of(single);
  std::vector<std::vector<double>> all(2);
  run_ranks(2, [&](thread_communicator& hosts) {
    cuda_context own({.workspace_bytes = 1 << 22, .product_bytes = 1 << 16});
    nccl_communicator group(own, hosts);
    nccl_tensor_ranks ranks(group);
    own.join(ranks);
    language_model<part_of_run, cuda, double> model(own, seed{2});
    divide_parameters(model, whole, ranks);
    scorer<part_of_run, cuda, double> scorer(own, model);
    all[static_cast<std::size_t>(hosts.rank())] = scores_of(scorer);
  });
  CHECK(same_bits(all[1], all[0]));
  CHECK(within(all[0], expected, std::vector<double>(expected.size(), 1e-10)));
}

}  // namespace mtp::test::distributed_nccl_copies_cases
