// Tensor parallel models on more ranks, and what they refuse.
#include <doctest/doctest.h>

#include "model/tensor_parallel.hpp"

namespace mtp::test::model_tensor_parallel_ranks_cases {

TEST_CASE("no head on 4 ranks, each with one head of keys: losses and gradients of one process") {
  check_ranks_of_one_pass<for_ranks(flipped_config(head_kind::none, 0), 4), 4>(
      loss_normalization::positions);
}

TEST_CASE("recurrent heads on 4 ranks: losses, logits and gradients of one process") {
  check_ranks_of_one_pass<for_ranks(tiny_config(head_kind::recurrent, 2), 4), 4>(
      loss_normalization::valid_targets);
}

TEST_CASE("a tensor parallel model needs a context that has joined as many ranks") {
  constexpr auto config = tensor_parallel(for_ranks(tiny_config(head_kind::none, 0), 2), 2);
  using model_type = language_model<config, cpu>;
  cpu_context alone({.threads = 1});
  CHECK(rejects("language_model", [&] { model_type(alone, seed{1}); }));
  CHECK(rejects("model_loss", [&] { model_loss<config, cpu>(alone, 1, 4); }));
  on_ranks(3, [&](cpu_context& context, int) {
    CHECK(rejects("language_model", [&] { model_type(context, seed{1}); }));
  });
}

TEST_CASE("ranks that make a tensor parallel model with different seeds are told") {
  constexpr auto config = tensor_parallel(for_ranks(tiny_config(head_kind::none, 0), 2), 2);
  on_ranks(2, [&](cpu_context& context, int rank) {
    const auto own = static_cast<std::uint64_t>(rank);
    CHECK(rejects("language_model", [&] { language_model<config, cpu>(context, seed{own}); }));
  });
}

TEST_CASE("an error on one rank ends the pass of all") {
  constexpr auto config = tensor_parallel(for_ranks(tiny_config(head_kind::none, 0), 2), 2);
  const token_batch batch = random_batch(config, 2, 7, 5);
  std::string message;
  try {
    on_ranks(2, [&](cpu_context& context, int rank) {
      language_model<config, cpu> model(context, seed{1});
      model_loss<config, cpu> loss(context, 2, 7);
      if (rank == 1) throw mtp::error("out of memory");
      static_cast<void>(loss.without_gradients(context, model, batch.view(), {}));
    });
  } catch (const mtp::error& e) {
    message = e.what();
  }
  CHECK(message == "out of memory");
}

}  // namespace mtp::test::model_tensor_parallel_ranks_cases
