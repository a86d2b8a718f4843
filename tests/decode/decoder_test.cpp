// Steps of a sequence: any number of rows gives the bits of one row at a time, and of training.
#include <doctest/doctest.h>

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "mtp/loss/model_loss.hpp"
#include "support/decoding.hpp"
#include "support/pieces.hpp"

namespace mtp::test::decode_decoder_cases {

namespace {

/// Draft k behind `count` tokens is what the training pass predicts at depth k and position count -
/// 2, when the text goes on with the drafts.
template <model_config Config, class S = float>
void check_drafts() {
  INFO(std::string(name_of(Config.prediction.kind)), ", flipped ", Config.tie_word_embeddings);
  constexpr index_t D = Config.prediction.depth, V = Config.vocab_size;
  cpu_context context({.threads = 2});
  language_model<Config, cpu, S> model(context, seed{3});
  add_noise(model, 0.3);
  decoder<Config, cpu, S> sequence(context, model);
  model_loss<Config, cpu, S> loss(context, 1, 80);
  auto text = random_tokens(80 + 1 + D, Config.vocab_size, 5);
  for (index_t count = 2; count <= 74; count += count < 8 ? 1 : 3) {
    INFO("behind ", count, " tokens");
    for (index_t first = sequence.length(); first < count - 1; ++first) {
      sequence.step(tokens_of(text, first, 1), hidden_states::kept);
      sequence.drafter().rewind(0, first + 2);  // no draft is accepted
    }
    auto drafted = text;
    draft_next(sequence.drafter(), context, model, text_of(drafted, count), D);
    const batch_view batch{tokens_of(drafted, 0, count + D), {}, {}, 1, count - 1};
    loss.visit_logits(context, model, batch, [&](std::size_t k, auto logits) {
      const auto row = elements(logits.select(0, count - 2));
      if (k > 0) {
        CHECK(std::max_element(row.begin(), row.end()) - row.begin() ==
              drafted[static_cast<std::size_t>(count - 1) + k]);
      }
      CHECK(static_cast<index_t>(row.size()) == V);
    });
  }
}

/// The hidden states of a piece are what the logits of single steps come from, and its caches are
/// those of prefill.
template <model_config Config, class S = float>
void check_hidden() {
  INFO(std::string(name_of(Config.prediction.kind)), ", flipped ", Config.tie_word_embeddings);
  constexpr index_t V = Config.vocab_size, C = Config.hidden_size;
  cpu_context context({.threads = 2});
  language_model<Config, cpu, S> model(context, seed{3});
  add_noise(model, 0.3);
  const auto values = model.values();
  const auto& at = model.trunk_layout();
  decoder<Config, cpu, S> pieces(context, model), steps(context, model);
  const auto text = random_tokens(70, Config.vocab_size, 5);
  for (const index_t M : {1, 2, 64, 3}) {
    const index_t first = pieces.length();
    const auto rows = pieces.hidden_of(tokens_of(text, first, M));
    tensor<accumulate_t<S>, dims<2>, cpu> logits(dims<2>{M, V});  // [M, V]
    tensor<S, dims<2>, cpu> normed(dims<2>{M, C});                // [M, C]
    tensor<accumulate_t<S>, dims<1>, cpu> inverse(dims<1>{M});    // [M]
    linear_forward(context, logits.view(), rows.normed, values.matrix(at.output));
    rms_norm_forward(context,
                     normed.view(),
                     inverse.view(),
                     rows.stream,
                     values.vector(at.norm),
                     Config.rms_norm_eps);
    CHECK(same_bits(elements(normed.view()), elements(rows.normed)));
    for (index_t m = 0; m < M; ++m) {
      CHECK(same_bits(
          elements(steps.step(tokens_of(text, first + m, 1), hidden_states::dropped).select(0, 0)),
          elements(logits.view().select(0, m))));
    }
    CHECK(same_bits(cached(pieces), cached(steps)));
  }
}

constexpr auto config = spoken_config(head_kind::sequential, 2, 96);

/// A decoder, and the logits that a fresh one gives for the next token.
struct running {
  cpu_context context{{.threads = 1}};
  language_model<config, cpu> model{context, seed{3}};
  decoder<config, cpu> sequence{context, model};
  std::vector<token_t> text = random_tokens(96, config.vocab_size, 5);

  std::vector<float> fresh(index_t length) {
    decoder<config, cpu> other(context, model);
    for (index_t at = 0; at < length - 1; at += 64) {
      other.prefill(tokens_of(text, at, std::min<index_t>(64, length - 1 - at)),
                    hidden_states::dropped);
    }
    return elements(
        other.step(tokens_of(text, length - 1, 1), hidden_states::dropped).select(0, 0));
  }
  std::vector<float> next() {
    const index_t at = sequence.length();
    const auto logits =
        elements(sequence.step(tokens_of(text, at, 1), hidden_states::dropped).select(0, 0));
    sequence.roll_back(at);
    return logits;
  }
};

}  // namespace

TEST_CASE("a step of several rows gives the bits of single steps and of the training pass") {
  check_pieces<spoken_config(head_kind::none, 0)>();
  check_pieces<spoken_config(head_kind::sequential, 4)>();
  check_pieces<flipped_spoken_config(head_kind::sequential, 2), double>();
  check_pieces<flipped_spoken_config(head_kind::recurrent, 3)>();
  check_pieces<spoken_config(head_kind::parallel, 2)>();
  check_pieces<flipped_spoken_config(head_kind::parallel, 7)>();
  check_pieces<flipped_spoken_config(head_kind::independent, 2)>();
}

TEST_CASE("hidden states of a piece are what logits of single steps come from") {
  check_hidden<spoken_config(head_kind::none, 0)>();
  check_hidden<flipped_spoken_config(head_kind::sequential, 2), double>();
  check_hidden<spoken_config(head_kind::parallel, 2)>();
}

TEST_CASE("drafts are what the training pass predicts for the same text") {
  check_drafts<spoken_config(head_kind::sequential, 4)>();
  check_drafts<flipped_spoken_config(head_kind::sequential, 2), double>();
  check_drafts<flipped_spoken_config(head_kind::recurrent, 3)>();
  check_drafts<spoken_config(head_kind::recurrent, 2)>();
  check_drafts<spoken_config(head_kind::parallel, 2)>();
  check_drafts<flipped_spoken_config(head_kind::parallel, 7)>();
  check_drafts<flipped_spoken_config(head_kind::independent, 2)>();
  check_drafts<spoken_config(head_kind::independent, 3)>();
}

TEST_CASE("a step refuses wrong numbers of tokens and changes nothing") {
  running r;
  r.sequence.prefill(tokens_of(r.text, 0, 40), hidden_states::dropped);
  const auto caches = cached(r.sequence);
  CHECK(fails_with("decoder::step: expected 1 to 3 tokens, got 4",
                   [&] { r.sequence.step(tokens_of(r.text, 40, 4), hidden_states::dropped); }));
  CHECK(fails_with("decoder::step: expected 1 to 3 tokens, got 0",
                   [&] { r.sequence.step({}, hidden_states::dropped); }));
  CHECK(fails_with("decoder::prefill: expected 1 to 64 tokens, got 65", [&] {
    r.sequence.prefill(std::vector<token_t>(65, 0), hidden_states::dropped);
  }));
  CHECK(fails_with("decoder::prefill: expected 1 to 64 tokens, got 0",
                   [&] { r.sequence.prefill({}, hidden_states::dropped); }));
  CHECK(fails_with("decoder::hidden_of: expected 1 to 64 tokens, got 65",
                   [&] { r.sequence.hidden_of(std::vector<token_t>(65, 0)); }));
  CHECK(fails_with("decoder::hidden_of: expected 1 to 64 tokens, got 0",
                   [&] { r.sequence.hidden_of({}); }));
  const std::vector<token_t> some(33, 0);
  const std::vector<std::span<const token_t>> two{some, some};  // the decoder has one slot
  CHECK(fails_with("decoder: expected 1 to 64 tokens in at most 1 slots, got 66 in 2",
                   [&] { r.sequence.hidden_of_pieces(two); }));
  CHECK(r.sequence.length() == 40);
  CHECK(same_bits(cached(r.sequence), caches));
  CHECK(same_bits(r.next(), r.fresh(41)));
}

TEST_CASE("a step refuses tokens outside the vocabulary and changes nothing") {
  running r;
  r.sequence.prefill(tokens_of(r.text, 0, 40), hidden_states::dropped);
  const auto caches = cached(r.sequence);
  for (const token_t wrong : {-1, 19, 1 << 30}) {
    const std::vector<token_t> tokens{3, wrong};
    CHECK(fails_with("token " + std::to_string(wrong),
                     [&] { r.sequence.step(tokens, hidden_states::kept); }));
    CHECK(fails_with("token " + std::to_string(wrong),
                     [&] { r.sequence.prefill(tokens, hidden_states::kept); }));
    CHECK(fails_with("token " + std::to_string(wrong), [&] { r.sequence.hidden_of(tokens); }));
  }
  CHECK(r.sequence.length() == 40);
  CHECK(same_bits(cached(r.sequence), caches));
  CHECK(same_bits(r.next(), r.fresh(41)));
}

TEST_CASE("a full context refuses further tokens and changes nothing") {
  running r;
  r.sequence.prefill(tokens_of(r.text, 0, 64), hidden_states::dropped);
  r.sequence.prefill(tokens_of(r.text, 64, 30), hidden_states::dropped);
  CHECK(fails_with("3 tokens at position 94 do not fit into max_position_embeddings 96",
                   [&] { r.sequence.step(tokens_of(r.text, 0, 3), hidden_states::dropped); }));
  CHECK(same_bits(r.next(), r.fresh(95)));
  r.sequence.step(tokens_of(r.text, 94, 2), hidden_states::dropped);
  CHECK(r.sequence.length() == 96);
  CHECK(fails_with("1 tokens at position 96 do not fit into max_position_embeddings 96",
                   [&] { r.sequence.step(tokens_of(r.text, 0, 1), hidden_states::dropped); }));
  r.sequence.roll_back(95);
  CHECK(same_bits(r.next(), r.fresh(96)));
}

TEST_CASE("roll_back refuses lengths outside the sequence and changes nothing") {
  running r;
  CHECK(fails_with("decoder::roll_back: expected a length in [0, 0], got 1",
                   [&] { r.sequence.roll_back(1); }));
  r.sequence.prefill(tokens_of(r.text, 0, 40), hidden_states::dropped);
  CHECK(fails_with("decoder::roll_back: expected a length in [0, 40], got 41",
                   [&] { r.sequence.roll_back(41); }));
  CHECK(fails_with("decoder::roll_back: expected a length in [0, 40], got -1",
                   [&] { r.sequence.roll_back(-1); }));
  CHECK(r.sequence.length() == 40);
  CHECK(same_bits(r.next(), r.fresh(41)));
  r.sequence.roll_back(40);
  r.sequence.roll_back(0);
  CHECK(r.sequence.length() == 0);
  CHECK(same_bits(r.next(), r.fresh(1)));
}

TEST_CASE("set_length refuses lengths that no sequence has and changes nothing") {
  running r;
  CHECK(fails_with("decoder::set_length: expected a length in [0, 96], got -1",
                   [&] { r.sequence.set_length(-1); }));
  CHECK(fails_with("decoder::set_length: expected a length in [0, 96], got 97",
                   [&] { r.sequence.set_length(97); }));
  CHECK(r.sequence.length() == 0);
  r.sequence.set_length(96);
  CHECK(r.sequence.length() == 96);
}

TEST_CASE("a reset sequence starts at position 0 whatever came before") {
  running r;
  r.sequence.prefill(tokens_of(r.text, 10, 64), hidden_states::kept);
  r.sequence.reset();
  CHECK(r.sequence.length() == 0);
  r.sequence.prefill(tokens_of(r.text, 0, 50), hidden_states::dropped);
  CHECK(same_bits(r.next(), r.fresh(51)));
}

TEST_CASE("the memory of a decoder is known to the compiler and grows with the context") {
  constexpr index_t bytes = decoder<config, cpu>::memory_bytes();
  constexpr index_t more =
      decoder<spoken_config(head_kind::sequential, 2, 960), cpu>::memory_bytes();
  static_assert(bytes > 0);
  static_assert(more > bytes);
  const running r;
  const auto& caches = r.sequence.caches();
  CHECK(caches.at(0).capacity == config.max_position_embeddings);
  CHECK(caches.at(0).data != caches.at(1).data);
}

}  // namespace mtp::test::decode_decoder_cases
