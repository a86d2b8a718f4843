#include "train_and_generate/training.hpp"

#include <doctest/doctest.h>

namespace examples_training_cases {

constexpr mtp::model_config config{.hidden_size = 8,
                                   .num_hidden_layers = 1,
                                   .max_position_embeddings = 8,
                                   .attention = {.num_attention_heads = 1},
                                   .feed_forward = {.intermediate_size = 8}};

TEST_CASE("the learning rate ends at a tenth of its peak, and added steps keep that") {
  example::program_options options;
  options.learning_rate = 1e-3;
  const auto rate = example::training_options<config>(options, 200, 1).learning_rate;
  CHECK(rate.at(0) == doctest::Approx(1e-3 / 20));
  CHECK(rate.at(20) == doctest::Approx(1e-3));
  CHECK(rate.at(200) == doctest::Approx(1e-4));
  CHECK(rate.at(1000) == doctest::Approx(1e-4));
}

TEST_CASE("a step has as many passes as the command line says, or one for each rank") {
  example::program_options options;
  CHECK(example::training_options<config>(options, 200, 3).accumulation == 3);
  options.passes = 4;
  CHECK(example::training_options<config>(options, 200, 3).accumulation == 4);
}

}  // namespace examples_training_cases
