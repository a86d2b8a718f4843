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

namespace {

/// Counts the bytes that this rank sends.
class counting_group final : public host_tensor_group {
 public:
  explicit counting_group(host_tensor_group& ranks)
      : host_tensor_group(ranks.rank(), ranks.size()), ranks_(&ranks) {}
  void all_gather(std::byte* whole, index_t total, index_t unit) override {
    bytes += (size() - 1) * shards(total, size(), unit).size(rank());
    ranks_->all_gather(whole, total, unit);
  }
  void exchange(const std::byte* whole, std::byte* received, index_t total, index_t unit) override {
    bytes += total - shards(total, size(), unit).size(rank());
    ranks_->exchange(whole, received, total, unit);
  }

  index_t bytes = 0;

 private:
  host_tensor_group* ranks_;
};

}  // namespace

TEST_CASE("what a pass sends is what the page says") {
  constexpr int R = 4, D = 2;
  constexpr auto config = tensor_parallel(for_ranks(tiny_config(head_kind::sequential, D), R), R);
  const token_batch batch = random_batch(config, 2, 8, 5);
  const auto sent = from_ranks<index_t>(R, [&](cpu_context& context, int) {
    counting_group counted(*context.ranks());
    language_model<config, cpu> model(context, seed{1});
    model_loss<config, cpu> loss(context, 2, 8);
    std::vector<float> gradients(static_cast<std::size_t>(model.layout.storage));
    context.join(counted);
    static_cast<void>(
        loss.with_gradients(context,
                            model,
                            parameter_array<float, cpu>(gradients.data(), model.layout.storage),
                            batch.view(),
                            {}));
    return counted.bytes;
  });
  constexpr index_t N = 16, C = config.hidden_size, L = config.num_hidden_layers;
  constexpr index_t sums = 1 + 4 * (L + D) + 2 * D + (D + 1);
  constexpr index_t rows = (D + 1) * N;  // that are scored, each with one target
  for (const index_t bytes : sent) {
    CHECK(bytes == sums * 2 * (R - 1) * N * C / R * 4 + rows * (R - 1) * (16 + 4));
  }
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
