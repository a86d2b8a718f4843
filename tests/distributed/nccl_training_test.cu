// Training with NCCL's communicator, with threads as GPUs.
#include <cuda_runtime.h>
// The emulation comes first.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "mtp/backend/cuda.cuh"
// The backend comes before what is made for it.
#include "mtp/distributed/nccl.cuh"
#include "mtp/distributed/thread_ranks.hpp"
#include "mtp/train/trainer.hpp"
#include "support/compare.hpp"
#include "support/model.hpp"

namespace mtp::test::distributed_nccl_training_cases {

namespace {

constexpr model_config config{.vocab_size = 128,
                              .hidden_size = 64,
                              .num_hidden_layers = 1,
                              .max_position_embeddings = 32,
                              .attention = {.num_attention_heads = 2},
                              .feed_forward = {.intermediate_size = 72},
                              .prediction = {.kind = head_kind::none, .depth = 0}};

/// The parameters after two steps.
template <class Communicator, class... Group>
std::vector<double> train(cuda_context& context,
                          const train_options<config>& options,
                          Group&... group) {
  std::vector<std::uint8_t> text(400);
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<std::uint8_t>((i * i / 3 + i) % config.vocab_size);
  }
  using trainer_type = trainer<config, cuda, float, std::uint8_t, Communicator>;
  language_model<config, cuda> model(context, seed{5});
  const dataset<> data(text, {}, {.window = trainer_type::window_of(options.length)});
  trainer_type training(context, model, data, options, group...);
  for (int step = 0; step < 2; ++step) {
    CHECK_FALSE(training.step().skipped);
  }
  std::vector<float> values(static_cast<std::size_t>(model.values().count()));
  backend_traits<cuda>::copy_to_host(
      values.data(), model.values().data(), values.size() * sizeof(float));
  return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("GPUs that add in NCCL's order train as one does up to rounding, and stay alike") {
  train_options<config> options{.batch = 1,
                                .length = 5,
                                .accumulation = 4,
                                .learning_rate = learning_rate_schedule::constant(1e-3)};
  options.optimizer.epsilon = 1e-3;  // so that gradients near 0 do not become steps of full length
  options.loss.normalization = loss_normalization::valid_targets;
  options.reduction = reduction_order::engine;
  cuda_context context;
  const auto expected = train<alone>(context, options);
  for (const auto sharding : {optimizer_sharding::none, optimizer_sharding::zero1}) {
    options.sharding = sharding;
    std::vector<std::vector<double>> values(2);
    run_ranks(2, [&](thread_communicator& hosts) {
      cuda_context own;
      nccl_communicator group(own, hosts);
      values[static_cast<std::size_t>(hosts.rank())] =
          train<nccl_communicator>(own, options, group);
    });
    CHECK(within(values[0], expected, 1e-6));
    CHECK(same_bits(values[1], values[0]));
  }
}

TEST_CASE("GPUs that would add in the order of ranks are refused") {
  std::vector<std::string> messages(2);
  run_ranks(2, [&](thread_communicator& hosts) {
    cuda_context own;
    nccl_communicator group(own, hosts);
    try {
      train<nccl_communicator>(own, {.batch = 1, .length = 5, .accumulation = 2}, group);
    } catch (const error& problem) {
      messages[static_cast<std::size_t>(hosts.rank())] = problem.what();
    }
  });
  for (const std::string& message : messages) {
    CHECK(message.find("ask for reduction_order::engine") != std::string::npos);
  }
}

}  // namespace mtp::test::distributed_nccl_training_cases
