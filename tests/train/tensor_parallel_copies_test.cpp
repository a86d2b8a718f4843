// Copies of models that ranks have parts of: the bits of one copy, whoever computes a pass.
#include <doctest/doctest.h>

#include <limits>
#include <string>

#include "support/promises.hpp"
#include "train/tensor_parallel.hpp"

namespace mtp::test::train_tensor_parallel_copies_cases {

namespace {

constexpr auto plain = rank_config(head_kind::sequential, 1);
using setup_type = rank_setup<tensor_parallel(plain, 2)>;

}  // namespace

TEST_CASE("2 copies of a model on 2 ranks have the bits of one copy, with ZeRO-1 and without") {
  auto setup = short_setup<setup_type>();
  setup.make_uneven();
  const auto one = train_parts<plain, 2>(setup, 1, 20);
  for (const auto sharding : {optimizer_sharding::none, optimizer_sharding::zero1}) {
    setup.options.sharding = sharding;
    check_same(train_parts<plain, 2>(setup, 2, 20).whole, one.whole);
  }
}

TEST_CASE("2 copies in bf16 have the bits of one copy") {
  const auto setup = short_setup<setup_type>();
  const auto one = train_parts<plain, 2, bf16>(setup, 1, 5);
  check_same(train_parts<plain, 2, bf16>(setup, 2, 5).whole, one.whole);
}

TEST_CASE("a head alone is trained, with the norm of its gradients alone") {
  auto setup = short_setup<setup_type>();
  setup.options.loss.scope = gradient_scope::heads_only;
  auto whole = short_setup<rank_setup<plain>>();
  whole.options.loss.scope = gradient_scope::heads_only;
  const auto expected = train_alone<plain, double>(whole, 5);
  const auto actual = train_parts<plain, 2, double>(setup, 1, 5);
  CHECK(within(
      actual.whole.values, expected.values, std::vector<double>(expected.values.size(), 1e-7)));
  CHECK(actual.reports[0][4][2] == doctest::Approx(expected.reports[4][2]));
}

TEST_CASE("a step with NaN in the part of one rank is skipped by all, and changes nothing") {
  auto setup = short_setup<setup_type>();
  setup.options.max_bad_steps = 5;
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  const auto result = train_parts<plain, 2>(setup, 1, 2, [&](auto& model, int rank) {
    if (rank == 1) *model.values().matrix(model.trunk_layout().output).data = nan;
  });
  for (const auto& reports : result.reports) CHECK(reports[1].at(8) == 1.0);  // skipped
  const auto before = train_parts<plain, 2>(setup, 1, 0, [&](auto& model, int rank) {
    if (rank == 1) *model.values().matrix(model.trunk_layout().output).data = nan;
  });
  CHECK(same_bits(result.whole.values, before.whole.values));
  CHECK(same_bits(result.whole.first, before.whole.first));
}

TEST_CASE("ranks of one model that were started differently are told, on all ranks") {
  run_ranks(2, [&](thread_communicator& group) {
    constexpr auto divided = tensor_parallel(plain, 2);
    tensor_ranks ranks(group);
    cpu_context context({.threads = 1, .workspace_bytes = 0});
    context.join(ranks);
    auto setup = short_setup<setup_type>();
    setup.options.clip_norm = group.rank() == 0 ? 1 : 2;
    const dataset<> data(
        setup.text, {}, {.window = trainer<divided, cpu>::window_of(setup.options.length)});
    language_model<divided, cpu> model(context, seed{2});
    const auto refused =
        rejects("agree", [&] { trainer<divided, cpu>(context, model, data, setup.options); });
    CHECK(refused);
    CHECK(refused.message.find("run.clip_norm is \"1\" on rank 0 and \"2\" on rank 1") !=
          std::string::npos);
  });
}

}  // namespace mtp::test::train_tensor_parallel_copies_cases
