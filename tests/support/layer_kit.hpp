// What kinds of layers owe, checked on a whole model: for those of the library and for those from
// outside. For a kind of its own a test names a configuration and calls check_layers.
#pragma once

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "io/scratch.hpp"
#include "model/gradient_check.hpp"
#include "mtp/io/checkpoint.hpp"
#include "support/company.hpp"
#include "support/decoding.hpp"
#include "support/pieces.hpp"
#include "train/small_run.hpp"

namespace mtp::test {

/// Speculative decoding gives tokens and logits of plain decoding.
template <model_config Config, class S = float>
void check_speculation() {
  cpu_context context({.threads = 2});
  language_model<Config, cpu, S> model(context, seed{1});
  generator<Config, cpu, S> generator(context, model);
  for (const index_t length : {1, 2, 9, 70}) {
    INFO("prompt of ", length);
    const auto prompt = random_tokens(length, Config.vocab_size, 1);
    const auto plain = record(generator, prompt, options_of<S>(decode_mode::plain, 60));
    const auto text = record(generator, prompt, options_of<S>(decode_mode::speculative, 60));
    CHECK(same_text(text, plain));
  }
}

/// A run goes on from its checkpoint with the same bits, whatever the model held before.
template <model_config Config>
void check_checkpoint() {
  const mtp::testing::scratch_directory scratch;
  small_setup<Config> setup;
  small_run<Config> whole(setup);
  whole.advance(3);
  io::save_checkpoint(scratch / "run", whole.training);
  setup.model_seed = {99};
  setup.threads = 3;
  small_run<Config> rest(setup);
  io::load_checkpoint(scratch / "run", rest.training);
  CHECK(same_run(rest.state(), whole.state()));
  rest.advance(5);
  whole.advance(5);
  CHECK(same_run(rest.state(), whole.state()));
}

/// What layers owe while decoding. Texts have 100 tokens and more.
template <model_config Config, class S>
void check_decoding() {
  SUBCASE("decoding in any pieces gives the bits of the whole sequence") {
    check_pieces<Config, S>();
  }
  SUBCASE("decoding again after going back gives the bits of a fresh sequence") {
    check_rolling_back<Config, S>();
  }
  SUBCASE("drafts give the text and the logits of plain decoding") {
    check_speculation<Config, S>();
    if constexpr (Config.prediction.drafts()) {
      check_drafting_histories<Config, S>();
    }
  }
}

/// All that layers owe: gradients in double, the rest in S, which is float or double.
template <model_config Config, class S = float>
void check_layers() {
  INFO(std::string(name_of(Config.attention.kind)),
       ", ",
       std::string(name_of(Config.feed_forward.kind)),
       ", ",
       std::string(name_of(Config.prediction.kind)));
  SUBCASE("gradients are those of the loss") {
    check_differences<Config>(divided_batch(Config, 2, 7, 3), loss_normalization::valid_targets);
  }
  SUBCASE("gradients add up, and reach what the scope allows") {
    check_scopes<Config>(divided_batch(Config, 2, 7, 4));
    check_accumulation<Config>(divided_batch(Config, 2, 7, 5));
  }
  SUBCASE("a sequence has the same bits in any batch") {
    check_batch<Config, S>(7);
    check_batch<Config, S>(33);
  }
  SUBCASE("a beginning has the bits of the whole") {
    check_prefix<Config, S>(7, 33);
  }
  SUBCASE("any number of threads gives the same bits") {
    check_threads<Config, S>(2, 7);
    check_threads<Config, S>(3, 33);
  }
  check_decoding<Config, S>();
  SUBCASE("a checkpoint brings everything back") {
    check_checkpoint<Config>();
  }
}

}  // namespace mtp::test
