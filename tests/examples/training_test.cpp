#include "train_and_generate/training.hpp"

#include <doctest/doctest.h>

namespace examples_training_cases {

TEST_CASE("the learning rate ends at a tenth of its peak, and added steps keep that") {
  constexpr mtp::model_config config{.hidden_size = 8,
                                     .num_hidden_layers = 1,
                                     .max_position_embeddings = 8,
                                     .attention = {.num_attention_heads = 1},
                                     .feed_forward = {.intermediate_size = 8}};
  example::program_options options;
  options.learning_rate = 1e-3;
  const auto rate = example::training_options<config>(options, 200).learning_rate;
  CHECK(rate.at(0) == doctest::Approx(1e-3 / 20));
  CHECK(rate.at(20) == doctest::Approx(1e-3));
  CHECK(rate.at(200) == doctest::Approx(1e-4));
  CHECK(rate.at(1000) == doctest::Approx(1e-4));
}

}  // namespace examples_training_cases
