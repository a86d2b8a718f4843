// What a steady training step and a steady cycle of decoding ask of the runtime: no memory, one
// graph for each cycle, and no wait but those for results.
#include <cuda_runtime.h>
#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "emulation/control.hpp"
#include "mtp/backend/cuda.cuh"
// The backend comes first.
#include "mtp/decode/generate.hpp"
#include "mtp/train/trainer.hpp"
#include "support/batches.hpp"

namespace mtp::test::cuda_emulation_steady_cases {

namespace {

constexpr model_config config = test::flipped_config(head_kind::sequential, 2);

/// What `run()` adds to the counts.
template <class Run>
emulation::counters added_by(const Run& run) {
  const emulation::counters before = emulation::counts();
  run();
  emulation::counters after = emulation::counts();
  after.live_allocations -= before.live_allocations;
  after.live_objects -= before.live_objects;
  after.allocations -= before.allocations;
  after.frees -= before.frees;
  after.launches -= before.launches;
  after.products -= before.products;
  after.graph_launches -= before.graph_launches;
  after.kernels_run -= before.kernels_run;
  after.synchronizations -= before.synchronizations;
  after.pageable_copies -= before.pageable_copies;
  return after;
}

TEST_CASE("a steady training step on a GPU allocates nothing and waits for its two reports") {
  std::vector<std::uint8_t> text(400);
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<std::uint8_t>((i * i / 3 + i) % config.vocab_size);
  }
  cuda_context context;
  language_model<config, cuda, bf16> model(context, seed{5});
  using trainer_type = trainer<config, cuda, bf16>;
  const dataset<> data(text, {}, {.window = trainer_type::window_of(9)});
  trainer_type trainer(
      context,
      model,
      data,
      {.batch = 2, .length = 9, .learning_rate = learning_rate_schedule::constant(1e-2)});
  trainer.step();
  trainer.step();
  const emulation::counters step = added_by([&] { trainer.step(); });
  CHECK(step.kernels_run > 0);
  CHECK(step.allocations == 0);
  CHECK(step.frees == 0);
  CHECK(step.live_objects == 0);
  CHECK(step.synchronizations <= 2);  // the losses, then the norm that decides on the update
}

TEST_CASE("a cycle of decoding on a GPU is one graph, and the host waits only for its report") {
  cuda_context context;
  language_model<config, cuda, bf16> model(context, seed{5});
  generator<config, cuda, bf16> generator(context, model);
  const std::vector<token_t> prompt{1, 7, 3, 3, 12};
  for (const decode_mode mode : {decode_mode::plain, decode_mode::speculative}) {
    for (const bool samples : {false, true}) {
      double temperature = 0.5;
      const auto generate = [&](index_t count) {
        generate_options<bf16, cuda> options;
        options.max_new_tokens = count;
        options.mode = mode;
        if (samples) {  // with other numbers each time: what was recorded holds for all of them
          temperature += 0.25;
          options.sampling = {.temperature = temperature,
                              .top_p = 0.9,
                              .presence_penalty = temperature,
                              .logit_bias = {{3, 0.5f}},
                              .seed = seed{static_cast<std::uint64_t>(count)}};
          options.log_probabilities = true;
        }
        index_t passes = 0;
        const emulation::counters counts =
            added_by([&] { passes = generator.generate(prompt, options).forward_passes; });
        return std::pair(counts, passes);
      };
      generate(8);  // the first times are not steady: graphs are recorded
      const auto [less, few] = generate(8);
      const auto [more, many] = generate(24);
      const long cycles = static_cast<long>(many - few);
      REQUIRE(cycles > 3);
      CHECK(more.graph_launches - less.graph_launches == cycles);
      CHECK(more.synchronizations - less.synchronizations == cycles);
      CHECK(more.launches == less.launches);
      CHECK(more.products == less.products);
      CHECK(more.pageable_copies == less.pageable_copies);
      CHECK(more.allocations == 0);
      CHECK(more.frees == 0);
      CHECK(more.live_objects == 0);
      CHECK(more.kernels_run > less.kernels_run);
    }
  }
}

}  // namespace

}  // namespace mtp::test::cuda_emulation_steady_cases
