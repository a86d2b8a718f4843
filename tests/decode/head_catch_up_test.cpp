// A head that drafts now and then, and now this many tokens and now that: what it drafts is what it
// would draft behind a fresh prompt.
#include "mtp/decode/head_catch_up.hpp"

#include <doctest/doctest.h>

#include <string>

#include "support/speaker.hpp"

namespace mtp::test::head_catch_up_cases {

namespace {

template <model_config Config, class S = float>
void check_pauses() {
  INFO(std::string(name_of(Config.prediction.kind)));
  constexpr index_t D = Config.prediction.depth, P = Config.max_position_embeddings;
  cpu_context context({.threads = 1});
  language_model<Config, cpu, S> model(context, seed{3});
  add_noise(model, 0.3);
  for (std::uint64_t trial = 0; trial < 4; ++trial) {
    INFO("history ", trial);
    dice random(trial);
    speaker<Config, S> paced(context, model), fresh(context, model);
    head_catch_up<Config, cpu> heads(1);
    const index_t prompts[] = {2, 5, 66, 20};
    paced.begin(random_tokens(prompts[trial], Config.vocab_size, trial), 64);
    heads.begin(0, paced.count);
    index_t pause = 0, drafted = 0;
    while (paced.count + D <= P) {
      // Pauses of up to more than a pass of the head takes.
      if (pause == 0 && random.below(4) == 0) {
        pause = trial == 3 ? 100 : random.below(40);
      }
      const index_t n =
          pause > 0 ? 0 : (std::min)(1 + random.below(D), heads.usable(0, paced.count));
      pause = std::max<index_t>(pause - 1, 0);
      if (n > 0) {
        if (heads.missing(0, n, paced.count) > 0) {
          heads.bring(0, n, paced.count, [&](index_t seen) { paced.advance(seen, n); });
        }
        const auto drafts = paced.drafts(n);
        if (drafted++ % 3 == 0 || trial == 3) {  // behind the longest pauses always
          fresh.begin(paced.known(0, paced.count), 64);
          REQUIRE(same_bits(drafts, fresh.drafts(n)));
        }
      }
      const index_t count = paced.count;
      paced.step(n);
      paced.accept(random.below(n + 1), random.token(Config.vocab_size));
      if (n > 0) {
        paced.sequence.drafter().rewind(0, paced.count);
        heads.drafted(0, n, count);
      }
    }
    CHECK(drafted > 1);
  }
}

}  // namespace

TEST_CASE("drafts after pauses and of any number are those behind a fresh prompt") {
  check_pauses<spoken_config(head_kind::sequential, 3, 300)>();
  check_pauses<flipped_spoken_config(head_kind::recurrent, 2, 300)>();
  check_pauses<flipped_spoken_config(head_kind::parallel, 3, 300)>();
}

TEST_CASE("a depth that has fallen behind too far is not usable any more") {
  constexpr auto config = spoken_config(head_kind::sequential, 3, 2000);
  using limits = row_limits<config, cpu>;
  static_assert(limits::ring == 512);
  head_catch_up<config, cpu> heads(2);
  heads.begin(0, 10);
  heads.begin(1, 400);
  CHECK(heads.usable(0, 10) == 3);
  CHECK(heads.missing(0, 3, 14) == 0);  // as many as a cycle brings
  CHECK(heads.missing(0, 3, 15) == 3);
  const index_t most = limits::ring - limits::step - limits::verification;
  heads.drafted(0, 2, 12);
  CHECK(heads.usable(0, 10 + most) == 3);
  CHECK(heads.usable(0, 11 + most) == 2);
  CHECK(heads.usable(0, 12 + most) == 2);
  CHECK(heads.usable(0, 13 + most) == 0);
  CHECK(heads.usable(1, 13 + most) == 3);
  index_t last = 12, pieces = 0;
  heads.bring(0, 2, 300, [&](index_t seen) {
    CHECK(seen > last);
    CHECK(seen - last <= limits::step - limits::verification);
    last = seen;
    ++pieces;
  });
  CHECK(last == 299);
  CHECK(pieces == 5);
  CHECK(heads.usable(0, 300) == 3);
  CHECK(heads.missing(0, 2, 300) == 0);
}

}  // namespace mtp::test::head_catch_up_cases
