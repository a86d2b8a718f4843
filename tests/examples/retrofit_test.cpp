// A trained model without a head gets one: from its own text to a checkpoint that drafts.
#include <algorithm>
#include <cstddef>
#include <doctest/doctest.h>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "io/pretrained/glassllm.hpp"
#include "io/pretrained/models.hpp"
#include "io/scratch.hpp"
#include "retrofit/comparison.hpp"
#include "retrofit/saving.hpp"
#include "retrofit/training.hpp"
#include "retrofit/windows.hpp"

namespace mtp::test::examples_retrofit_cases {

namespace {

using namespace example;
using mtp::testing::pretrained_data;
using mtp::testing::scratch_directory;

constexpr auto config = with_head(mtp::testing::glassllm::config, mtp::head_kind::sequential, 2);
constexpr auto small_config = mtp::heads_config(config);
using model_type = mtp::language_model<config, mtp::cpu>;
using training_type = head_training<small_config>;
using tokens_type = std::vector<mtp::token_t>;

/// Texts that the model writes, drawn.
tokens_type own_text(mtp::generator<config, mtp::cpu>& generator, std::size_t count) {
  const auto seen = mtp::testing::expected<mtp::token_t>("glassllm", "tokens");
  mtp::generate_options<float, mtp::cpu> how;
  how.max_new_tokens = 110;
  how.mode = mtp::decode_mode::plain;
  how.sampling.temperature = 1;
  tokens_type text;
  while (text.size() < count) {
    how.sampling.seed = mtp::seed{text.size()};
    const auto& made = generator.generate(tokens_type{seen[0]}, how);
    text.insert(text.end(), made.tokens.begin(), made.tokens.end());
  }
  return text;
}

double most_frequent_share(std::span<const mtp::token_t> text) {
  std::map<mtp::token_t, double> counts;
  double most = 0;
  for (const mtp::token_t token : text) most = (std::max)(most, ++counts[token]);
  return most / static_cast<double>(text.size());
}

}  // namespace

TEST_CASE("a trained model gets a head that it accepts drafts of, and writes the same text") {
  const scratch_directory scratch;
  mtp::context<mtp::cpu> context({.threads = 2});
  model_type model(context, mtp::seed{1});
  const auto weights = pretrained_data("glassllm") / "model.safetensors";
  REQUIRE_FALSE(mtp::io::load_pretrained(weights, model, mtp::testing::glassllm::names).has_head());
  mtp::generator<config, mtp::cpu> generator(context, model);
  const windows text{own_text(generator, 8000), 32, config.prediction.depth, 12};
  text.validate();

  // The second program finds what the first one has computed.
  tokens_type rows_told;
  const auto told = [&](mtp::index_t done, mtp::index_t) {
    rows_told.push_back(static_cast<mtp::token_t>(done));
  };
  const mtp::io::hidden_states_shape shape{
      text.count() * text.length, config.hidden_size, block_rows(text.length)};
  for (int program = 0; program < 2; ++program) {
    mtp::io::hidden_states_file states(scratch / "states", shape, origin_of(model, text));
    compute_states(context, model, text, states, told);
    CHECK(states.complete());
  }
  CHECK(static_cast<mtp::index_t>(rows_told.size()) == mtp::ceil_div(shape.rows, shape.block));
  CHECK(rows_told.back() == shape.rows);
  auto other_text = text;
  other_text.tokens[5] ^= 1;
  CHECK_THROWS_WITH_AS(
      mtp::io::hidden_states_file(scratch / "states", shape, origin_of(model, other_text)),
      doctest::Contains("another text"),
      mtp::error);

  start_from_trunk(context, model);
  mtp::language_model<small_config, mtp::cpu> small(context, mtp::seed{1});
  copy_for_heads(small, model);
  const auto part = mtp::frequent_tokens(text.training_text(), 400);
  training_type::vocabulary_type vocabulary(small, part, 1);
  mtp::io::hidden_states_file states(scratch / "states", shape, origin_of(model, text));
  std::vector<training_type::progress_type> seen;
  training_type training(context,
                         small,
                         text,
                         states.rows(),
                         &vocabulary,
                         {.batch = 8, .steps = 90, .rate = 6e-3, .every = 30, .patience = 10});
  const auto best =
      training.run([&](const training_type::progress_type& now) { seen.push_back(now); });
  REQUIRE(seen.size() == 4);
  const double chance = most_frequent_share(text.training_text());
  CAPTURE(chance);
  CHECK(seen.front().held_out.depths[1].agreement() < chance + 0.05);
  CHECK(best.held_out.depths[1].agreement() > 2 * chance);
  CHECK(best.held_out.tokens_per_pass() > seen.front().held_out.tokens_per_pass() + 0.1);
  CHECK(training.validate().depths[1].agreed == best.held_out.depths[1].agreed);
  copy_head(model, small);

  generator.set_draft_vocabulary(part);
  std::vector<tokens_type> prompts;
  for (mtp::index_t n = 0; n < 4; ++n) {
    const auto sequence = text.sequence(text.training() + n);
    prompts.emplace_back(sequence.begin(), sequence.begin() + 16);
  }
  for (const double temperature : {0.0, 1.0}) {
    mtp::generate_options<float, mtp::cpu> how;
    how.max_new_tokens = 60;
    how.sampling.temperature = temperature;
    const auto sum = compare(generator, std::span<const tokens_type>(prompts), how);
    CAPTURE(example::text_of(sum));
    CHECK(sum.identical);
    CHECK(sum.tokens == 4 * 60);
    CHECK(sum.tokens_per_pass() > 1.1);
  }

  // What is saved is a checkpoint in DeepSeek's names, which has the head.
  const auto out = scratch / "out";
  check_saving<config>(out);
  save(out, pretrained_data("glassllm"), model, part);
  CHECK(mtp::io::check_config(out, config).config.prediction.kind == mtp::head_kind::sequential);
  model_type again(context, mtp::seed{5});
  CHECK(mtp::io::load_pretrained(out, again, mtp::io::deepseek_names).has_head());
  CHECK(std::equal(again.values().data(),
                   again.values().data() + again.values().count(),
                   model.values().data()));
  CHECK(read_draft_tokens(out) == part);
  CHECK_THROWS_WITH_AS(
      check_saving<config>(out), doctest::Contains("holds a checkpoint already"), mtp::error);
}

}  // namespace mtp::test::examples_retrofit_cases
