// What a layer cannot take back, a decoder refuses.
#include <doctest/doctest.h>

#include <vector>

#include "support/decoding.hpp"
#include "support/pieces.hpp"

namespace mtp::test::decode_rewind_cases {

inline constexpr attention_kind forgetful{.name = "forgetful"};

/// Says that it keeps less than it does.
template <model_config Config, class Backend, scalar S>
struct forgetful_attention : grouped_query_attention<Config, Backend, S> {
  static constexpr index_t rewindable = 12;
};

}  // namespace mtp::test::decode_rewind_cases

template <>
struct mtp::attention_traits<mtp::test::decode_rewind_cases::forgetful> {
  template <mtp::model_config Config, class Backend, mtp::scalar S>
  using layer = mtp::test::decode_rewind_cases::forgetful_attention<Config, Backend, S>;
};

namespace mtp::test::decode_rewind_cases {

namespace {

constexpr model_config with_forgetful(model_config config) {
  config.attention.kind = forgetful;
  return config;
}
constexpr model_config config = with_forgetful(spoken_config(head_kind::sequential, 2));

struct running {
  cpu_context context{{.threads = 1}};
  language_model<config, cpu> model{context, seed{3}};
  decoder<config, cpu> sequence{context, model};
  std::vector<token_t> text = random_tokens(144 + 3, config.vocab_size, 5);

  /// The row that stands `offset` behind `count` confirmed tokens.
  void forward(index_t count, index_t offset) {
    text_of known(text, count);
    const sequence_rows<cpu> row{known, {offset, 1}};
    sequence.forward({&row, 1}, hidden_states::dropped, row_output::logits);
  }
};

}  // namespace

TEST_CASE("layers keep enough for verified drafts, and no more positions than there are") {
  using limits = row_limits<config, cpu>;
  static_assert(limits::verification == 3);
  static_assert(limits::step == 64);
  static_assert(limits::draft == 70);
  static_assert(limits::trunk_rows(1) == 64 && limits::trunk_rows(30) == 90);
  static_assert(limits::drafter_rows(1) == 70 && limits::drafter_rows(30) == 180);
  static_assert(limits::taken_back == 6);
  static_assert(row_limits<spoken_config(head_kind::sequential, 2, 5), cpu>::taken_back == 5);
  static_assert(decoder<config, cpu>::rewindable == 12);
  static_assert(decoder<spoken_config(head_kind::none, 0, 77), cpu>::rewindable == 77);
}

TEST_CASE("roll_back counts from the longest length since reset") {
  running r;
  r.sequence.prefill(tokens_of(r.text, 0, 40), hidden_states::dropped);
  const auto refused = [&] {
    return fails_with(
        "decoder::roll_back: the attention layer takes back at most 12 positions, and the sequence "
        "has had 40: expected a length of at least 28, or reset(), got 27",
        [&] { r.sequence.roll_back(27); });
  };
  CHECK(refused());
  CHECK(r.sequence.length() == 40);
  r.sequence.roll_back(28);
  CHECK(refused());
  r.sequence.step(tokens_of(r.text, 28, 3), hidden_states::dropped);
  r.sequence.roll_back(28);
  CHECK(refused());
  CHECK(r.sequence.length() == 28);
  r.sequence.prefill(tokens_of(r.text, 28, 13),
                     hidden_states::dropped);  // 41: one more than before
  CHECK(fails_with("expected a length of at least 29, or reset(), got 28",
                   [&] { r.sequence.roll_back(28); }));
  r.sequence.roll_back(29);
  r.sequence.reset();
  r.sequence.prefill(tokens_of(r.text, 0, 12), hidden_states::dropped);
  r.sequence.roll_back(0);
  CHECK(r.sequence.length() == 0);
}

TEST_CASE("set_length refuses what roll_back does, and lengths outside the context") {
  running r;
  r.sequence.set_length(40);
  CHECK(fails_with("decoder::set_length: the attention layer takes back at most 12 positions",
                   [&] { r.sequence.set_length(27); }));
  CHECK(fails_with("decoder::set_length: expected a length in [0, 144], got 145",
                   [&] { r.sequence.set_length(145); }));
  CHECK(fails_with("decoder::set_length: expected a length in [0, 144], got -1",
                   [&] { r.sequence.set_length(-1); }));
  CHECK(r.sequence.length() == 40);
  r.sequence.set_length(28);
  CHECK(r.sequence.length() == 28);
  r.sequence.reset();
  r.sequence.set_length(1);
  CHECK(r.sequence.length() == 1);
}

TEST_CASE("forward refuses rows further back than the layer goes, and its own rows count") {
  running r;
  for (const index_t count : {41, 30}) {
    r.forward(count, -1);
  }
  CHECK(
      fails_with("decoder::forward: the attention layer takes back at most 12 positions, and the "
                 "sequence has had 41: expected a length of at least 29, or reset(), got 28",
                 [&] { r.forward(30, -2); }));
  CHECK(fails_with("decoder::set_length: the attention layer takes back at most 12 positions",
                   [&] { r.sequence.set_length(28); }));
  r.sequence.reset();
  r.forward(1, -1);
}

TEST_CASE("a drafter refuses to be rewound further than its layers go") {
  running r;
  r.sequence.prefill(tokens_of(r.text, 0, 40), hidden_states::kept);
  auto& drafter = r.sequence.drafter();
  drafter.advance(r.context, r.model, text_of(r.text, 41), 41, 40, 2);
  drafter.rewind(0, 30);  // depth 2 goes back from 39 to 27
  CHECK(
      fails_with("drafter::rewind: expected to take back at most 12 of 40 positions, as the "
                 "attention layer can, got 13",
                 [&] { drafter.rewind(0, 29); }));
  r.sequence.reset();
  drafter.rewind(0, 2);
}

}  // namespace mtp::test::decode_rewind_cases
