// Head kinds from outside the library: that of the example, and twins of the library's own kinds
// under other names, which must not be told from them.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "mtp/mtp.hpp"
#include "own_head/linear_head.hpp"
#include "support/cpu_cases.hpp"
#include "support/decoding.hpp"
// What a model's gradients are checked with.
#include "model/gradient_check.hpp"

namespace mtp::test::examples_own_head_cases {

constexpr head_kind twin_of(const head_kind& kind) {
  head_kind twin = kind;
  twin.name[0] = 'T';
  return twin;
}
inline constexpr head_kind parallel_twin = twin_of(head_kind::parallel);
inline constexpr head_kind shared_logit_twin = twin_of(head_kind::shared_logit);
inline constexpr head_kind recurrent_twin = twin_of(head_kind::recurrent);

}  // namespace mtp::test::examples_own_head_cases

template <>
struct mtp::head_traits<mtp::test::examples_own_head_cases::parallel_twin>
    : head_traits<mtp::head_kind::parallel> {};
template <>
struct mtp::head_traits<mtp::test::examples_own_head_cases::shared_logit_twin>
    : head_traits<mtp::head_kind::shared_logit> {};
template <>
struct mtp::head_traits<mtp::test::examples_own_head_cases::recurrent_twin>
    : head_traits<mtp::head_kind::recurrent> {};

namespace mtp::test::examples_own_head_cases {

/// Parameters, gradients, losses and speculative text of a model have the same bits under both
/// kinds.
template <model_config Config, model_config Twin>
void check_twins() {
  CHECK(name_of(Twin.prediction.kind) != name_of(Config.prediction.kind));
  subject<Config, float> original;
  subject<Twin, float> twin;
  const auto copy_of = [](const auto& all) { return std::vector<float>(all.begin(), all.end()); };
  REQUIRE(same_bits(copy_of(original.values()), copy_of(twin.values())));
  const token_batch batch = divided_batch(Config, 2, 7, 3);
  const auto options = default_loss_options<Config>();
  CHECK(same_bits(original.gradients(batch, options),
                  twin.gradients(batch, default_loss_options<Twin>())));
  CHECK(original.losses(batch, options).total == twin.losses(batch, options).total);
  generator<Config, cpu> original_generator(original.context, original.model);
  generator<Twin, cpu> twin_generator(twin.context, twin.model);
  const auto prompt = random_tokens(5, Config.vocab_size, 1);
  const auto speculative = options_of<float>(decode_mode::speculative, 20);
  const auto expected = record(original_generator, prompt, speculative);
  const auto actual = record(twin_generator, prompt, speculative);
  CHECK(same_text(actual, expected));
  CHECK(actual.result.drafted == expected.result.drafted);
  CHECK(actual.result.accepted == expected.result.accepted);
  CHECK((actual.result.drafted[0] > 0) == Config.prediction.drafts());
}

TEST_CASE("gradients of the example's head are those of the loss, under every scope") {
  check_gradients<tiny_config(linear_heads, 2)>();
}

TEST_CASE("a kind from outside that owns the last block is as the library's own") {
  check_twins<tiny_config(head_kind::parallel, 2), tiny_config(parallel_twin, 2)>();
}

TEST_CASE("a kind from outside whose rows have all targets is as the library's own") {
  check_twins<tiny_config(head_kind::shared_logit, 2), tiny_config(shared_logit_twin, 2)>();
}

TEST_CASE("a kind from outside with one set of parameters is as the library's own") {
  check_twins<tiny_config(head_kind::recurrent, 2), tiny_config(recurrent_twin, 2)>();
}

}  // namespace mtp::test::examples_own_head_cases
