// Options, ends, counts and errors of generate, the same for plain and speculative decoding.
#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/decoding.hpp"

namespace mtp::test::decode_generate_cases {

namespace {

constexpr int P = 144;
constexpr auto config = spoken_config(head_kind::sequential, 3, P);
constexpr auto both_modes = {decode_mode::plain, decode_mode::speculative};

using tokens_type = std::vector<token_t>;

/// A model whose drafts are accepted now and then, and the text that it writes.
template <model_config Config = config>
struct writer {
  writer() {
    make_perfect(model);
    add_noise(model, 0.05);
    add_head_noise(model, 0.5, 50);
    expected = run(decode_mode::plain, P);
  }

  auto run(const generate_options<float, cpu>& options) {
    return record(generator, prompt, options);
  }
  auto run(decode_mode mode, index_t max_new_tokens) {
    return run(options_of<float>(mode, max_new_tokens));
  }
  /// After whatever happened, both modes still write the text.
  bool is_well() {
    return same_text(run(decode_mode::plain, P), expected) &&
           same_text(run(decode_mode::speculative, P), expected);
  }

  cpu_context context{{.threads = 1}};
  language_model<Config, cpu> model{context, seed{1}};
  mtp::generator<Config, cpu> generator{context, model};
  tokens_type prompt = random_tokens(20, Config.vocab_size, 1);
  transcript<float, Config.prediction.depth> expected;
};

/// How many tokens are written until one of `stops` stands at the end; all if none does.
std::size_t stop_after(const tokens_type& text, const std::vector<tokens_type>& stops) {
  for (std::size_t count = 1; count <= text.size(); ++count) {
    for (const auto& stop : stops) {
      if (!stop.empty() && stop.size() <= count &&
          std::equal(stop.begin(),
                     stop.end(),
                     text.begin() + static_cast<std::ptrdiff_t>(count - stop.size()))) {
        return count;
      }
    }
  }
  return text.size();
}

tokens_type part(const tokens_type& text, std::size_t first, std::size_t count) {
  const auto from = text.begin() + static_cast<std::ptrdiff_t>(first);
  return {from, from + static_cast<std::ptrdiff_t>(count)};
}

}  // namespace

TEST_CASE("a stop sequence of any length and place is the end of the text") {
  writer w;
  const auto& text = w.expected.tokens();
  const auto counted = accepted_lengths(w.run(decode_mode::speculative, P).result);
  CHECK(counted[0] > 0);  // cycles of several lengths, so that stops lie across their borders
  CHECK(counted[3] > 0);
  for (std::size_t first = 0; first < 24; ++first) {
    for (std::size_t length = 1; length <= 6; ++length) {
      const std::vector<tokens_type> stops{part(text, first, length)};
      const std::size_t count = stop_after(text, stops);
      INFO("stop of ", length, " tokens at ", first, ", text ends after ", count);
      for (const auto mode : both_modes) {
        auto options = options_of<float>(mode, P);
        options.stop = stops;
        const auto stopped = w.run(options);
        CHECK(same_text(stopped, w.expected.first(count)));
        CHECK(stopped.result.end == end_reason::stop);
      }
    }
  }
}

TEST_CASE("the first of several stop sequences ends the text, and empty ones do not count") {
  writer w;
  const auto& text = w.expected.tokens();
  const std::vector<tokens_type> stops{
      {}, part(text, 30, 5), part(text, 11, 3), tokens_type(200, 1)};
  for (const auto mode : both_modes) {
    auto options = options_of<float>(mode, P);
    options.stop = stops;
    const auto stopped = w.run(options);
    CHECK(same_text(stopped, w.expected.first(stop_after(text, stops))));
    CHECK(stopped.result.end == end_reason::stop);
    options.stop = {{}, tokens_type(200, 1)};
    CHECK(same_text(w.run(options), w.expected));
  }
}

TEST_CASE("a stop sequence does not begin in the prompt") {
  writer w;
  const tokens_type across{w.prompt.back(), w.expected.tokens().front()};
  for (const auto mode : both_modes) {
    auto options = options_of<float>(mode, 1);
    options.stop = {across};
    CHECK(w.run(options).result.end == end_reason::length);
    options.stop = {{w.expected.tokens().front()}};
    CHECK(w.run(options).result.end == end_reason::stop);  // of two reasons the more telling one
  }
}

TEST_CASE("max_new_tokens is exact") {
  writer w;
  for (const auto mode : both_modes) {
    for (index_t count = 0; count <= 20; ++count) {
      const auto text = w.run(mode, count);
      CHECK(same_text(text, w.expected.first(static_cast<std::size_t>(count))));
      CHECK(text.result.end == end_reason::length);
    }
    CHECK(w.run(mode, 0).result.forward_passes == 0);
    CHECK(w.run(mode, P - 20).result.end == end_reason::length);
    CHECK(w.run(mode, P - 19).result.end == end_reason::context);
  }
}

TEST_CASE("the text fills the context to the last position and no further") {
  writer w;
  for (index_t length = P - 10; length <= P; ++length) {
    INFO("prompt of ", length);
    const auto prompt = random_tokens(length, config.vocab_size, 2);
    const auto plain = record(w.generator, prompt, options_of<float>(decode_mode::plain, 1000));
    const auto text =
        record(w.generator, prompt, options_of<float>(decode_mode::speculative, 1000));
    CHECK(same_text(text, plain));
    CHECK(static_cast<index_t>(text.tokens().size()) == P - length);
    CHECK(text.result.end == end_reason::context);
    CHECK(plain.result.end == end_reason::context);
  }
  CHECK(w.is_well());
}

TEST_CASE("on_token sees every token in order and ends the text with false") {
  writer w;
  for (const auto mode : both_modes) {
    for (std::size_t last = 1; last <= 12; ++last) {
      tokens_type seen;
      auto options = options_of<float>(mode, P);
      options.on_token = [&](token_t token) {
        seen.push_back(token);
        return seen.size() < last;
      };
      const auto text = w.run(options);
      CHECK(text.result.end == end_reason::callback);
      CHECK(same_text(text, w.expected.first(last)));
      CHECK(seen == text.tokens());
    }
  }
  CHECK(w.is_well());
}

TEST_CASE("on_token is told where each token stands and which of them were drafts") {
  writer w;
  for (const auto mode : both_modes) {
    index_t drafts = 0, tokens = 0;
    auto options = options_of<float>(mode, P);
    options.log_probabilities = true;
    options.on_token = [&](const written_token& written) {
      const token_t alone = written;
      CHECK(alone == written.token);
      CHECK(written.position == static_cast<index_t>(w.prompt.size()) + tokens);
      CHECK(written.log_probability <= 0);
      drafts += written.drafted ? 1 : 0;
      ++tokens;
      return true;
    };
    const auto text = w.run(options);
    index_t accepted = 0;
    for (const index_t each : text.result.accepted) {
      accepted += each;
    }
    CHECK(drafts == accepted);  // no token of this text is dropped by a stop
    CHECK((drafts > 0) == (mode == decode_mode::speculative));
    CHECK(tokens == static_cast<index_t>(text.tokens().size()));
  }
  CHECK(w.is_well());
}

TEST_CASE("on_logits gives the position of each token and the logits whose maximum it is") {
  writer w;
  const std::size_t V = config.vocab_size;
  for (const auto mode : both_modes) {
    const auto text = w.run(mode, P);
    for (std::size_t i = 0; i < text.tokens().size(); ++i) {
      CHECK(text.positions[i] == static_cast<index_t>(w.prompt.size() + i));
      const auto row = text.logits.begin() + static_cast<std::ptrdiff_t>(i * V);
      CHECK(std::max_element(row, row + static_cast<std::ptrdiff_t>(V)) - row == text.tokens()[i]);
    }
  }
}

TEST_CASE("an exception from a callback passes through and leaves a usable generator") {
  writer w;
  for (const auto mode : both_modes) {
    int calls = 0;
    auto options = options_of<float>(mode, P);
    options.on_token = [&](token_t) {
      if (++calls == 6) {
        throw std::runtime_error("enough");
      }
      return true;
    };
    CHECK_THROWS_AS(w.generator.generate(w.prompt, options), std::runtime_error);
    CHECK(w.is_well());
  }
}

TEST_CASE("generate is refused from its own callbacks, and the text goes on") {
  writer w;
  for (const auto mode : both_modes) {
    int tokens = 0, logits = 0, refused = 0;
    const auto again = [&] {
      const comparison refusal =
          fails_with("generate: called from a callback of the same generator",
                     [&] { w.generator.generate(tokens_type{3}, options_of<float>(mode, 2)); });
      refused += refusal ? 1 : 0;
    };
    auto options = options_of<float>(mode, 7);
    options.on_token = [&](token_t) { return again(), ++tokens < 100; };  // ends at any rate
    options.on_logits = [&](index_t, const auto&) { again(), ++logits; };
    const tokens_type written = w.generator.generate(w.prompt, options).tokens;
    CHECK(written == part(w.expected.tokens(), 0, 7));
    CHECK(tokens == 7);
    CHECK(logits == 7);
    CHECK(refused == 14);
    CHECK(w.is_well());
  }
}

TEST_CASE("the last result may be the next prompt") {
  writer w;
  for (const auto mode : both_modes) {
    const auto& result = w.generator.generate(w.prompt, options_of<float>(mode, 40));
    const tokens_type first = result.tokens;
    const tokens_type continued =
        w.generator.generate(result.tokens, options_of<float>(mode, 30)).tokens;
    const tokens_type expected = w.generator.generate(first, options_of<float>(mode, 30)).tokens;
    CHECK(continued == expected);
    CHECK(continued.size() == 30);
    // A part of it as well.
    w.generator.generate(w.prompt, options_of<float>(mode, 40));
    const std::span<const token_t> end = std::span(result.tokens).last(11);
    const tokens_type behind = w.generator.generate(end, options_of<float>(mode, 30)).tokens;
    CHECK(behind == w.generator.generate(part(first, 29, 11), options_of<float>(mode, 30)).tokens);
  }
}

TEST_CASE("equal logits give the lowest token") {
  writer w;
  fill(w.model, 0);
  for (const auto mode : both_modes) {
    CHECK(w.run(mode, 12).tokens() == tokens_type(12, 0));
  }
  // Rows 4 and 11 of the output matrix are equal, and the largest.
  make_perfect(w.model);
  const auto output = w.model.values().matrix(w.model.layout.trunk.output);
  const auto embedding = w.model.values().matrix(w.model.layout.trunk.embedding);
  for (index_t c = 0; c < config.hidden_size; ++c) {
    for (index_t t = 0; t < config.vocab_size; ++t) {
      embedding(t, c) = 1;
    }
    output(11, c) = output(4, c) = 100;
  }
  for (const auto mode : both_modes) {
    CHECK(w.run(mode, 12).tokens() == tokens_type(12, 4));
  }
  CHECK(w.run(decode_mode::speculative, 12).result.accepted[2] == 3);
}

TEST_CASE("drafts, acceptance and tokens per forward pass are counted") {
  writer w;
  const auto plain = w.run(decode_mode::plain, 50).result;
  CHECK(plain.forward_passes == 50);
  CHECK(plain.tokens_per_forward() == 1.0);
  CHECK(plain.drafted[0] == 0);
  CHECK(plain.acceptance(0) == 0.0);
  const auto none = w.run(decode_mode::speculative, 0).result;
  CHECK(none.tokens_per_forward() == 0.0);

  index_t inside = 0;  // tokens of cycles that were not cut short
  const auto result = w.run(decode_mode::speculative, P).result;
  const auto lengths = accepted_lengths(result);
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    inside += lengths[i] * static_cast<index_t>(i + 1);
  }
  const auto count = static_cast<index_t>(result.tokens.size());
  CHECK(result.drafted[0] == result.drafted[2]);
  CHECK(result.accepted[0] > result.accepted[2]);
  CHECK(result.accepted[2] > 0);
  CHECK(count == inside + result.forward_passes - result.drafted[0]);  // the rest is plain
  CHECK(result.forward_passes - result.drafted[0] < config.prediction.depth);
  CHECK(result.tokens_per_forward() ==
        static_cast<double>(count) / static_cast<double>(result.forward_passes));
  CHECK(result.acceptance(1) ==
        static_cast<double>(result.accepted[1]) / static_cast<double>(result.drafted[1]));
  CHECK(result.prefill_seconds >= 0);
  CHECK(result.decode_seconds > 0);
}

TEST_CASE("drafts are counted by what the model says: the reference counts by hand") {
  writer w;
  const auto& text = w.expected.tokens();
  tokens_type all = w.prompt;
  all.insert(all.end(), text.begin(), text.end());
  decoder<config, cpu> sequence(w.context, w.model);
  tokens_type known(static_cast<std::size_t>(P + 4));
  index_t count = 20, passes = 0;
  std::vector<index_t> accepted(3, 0);
  while (count + 3 <= P) {
    std::copy(all.begin(), all.begin() + count, known.begin());
    sequence.reset();  // a fresh prompt for every cycle
    for (index_t first = 0; first < count - 1; first += 64) {
      const index_t rows = std::min<index_t>(64, count - 1 - first);
      sequence.prefill(std::span<const token_t>(known).subspan(static_cast<std::size_t>(first),
                                                               static_cast<std::size_t>(rows)),
                       hidden_states::kept);
      sequence.drafter().advance(
          w.context, w.model, text_of(known, count), count, sequence.length(), 3);
    }
    draft_next(sequence.drafter(), w.context, w.model, text_of(known, count), 3);
    index_t right = 0;
    while (right < 3 && count + right < P &&
           known[static_cast<std::size_t>(count + right)] ==
               all[static_cast<std::size_t>(count + right)]) {
      ++accepted[static_cast<std::size_t>(right++)];
    }
    count += right + 1;
    ++passes;
  }
  const auto result = w.run(decode_mode::speculative, P).result;
  CHECK(result.drafted[0] == passes);
  for (std::size_t k = 0; k < 3; ++k) {
    CHECK(result.accepted[k] == accepted[k]);
  }
}

TEST_CASE("generate refuses impossible requests and stays usable") {
  writer w;
  for (const auto mode : both_modes) {
    const auto call = [&](const tokens_type& prompt, index_t count) {
      return [&w, prompt, mode, count] {
        w.generator.generate(prompt, options_of<float>(mode, count));
      };
    };
    CHECK(fails_with("generate: the prompt is empty", call({}, 5)));
    CHECK(fails_with("generate: a prompt of 145 tokens exceeds max_position_embeddings 144",
                     call(tokens_type(P + 1, 0), 5)));
    CHECK(fails_with("generate: max_new_tokens must not be negative, got -1", call({1, 2}, -1)));
    CHECK(fails_with("generate: token -1 at position 1 does not lie in [0, 19)", call({1, -1}, 5)));
    CHECK(fails_with("generate: token 19 at position 2 does not lie in [0, 19)",
                     call({1, 2, 19}, 0)));
    CHECK(w.is_well());
  }
}

TEST_CASE("a refused request leaves the last result and the sequence as they were") {
  writer w;
  const auto& result = w.generator.generate(w.prompt, options_of<float>(decode_mode::plain, 9));
  const tokens_type before = result.tokens;
  const index_t length = w.generator.sequence().length();
  CHECK(fails_with("empty", [&] {
    w.generator.generate(tokens_type{}, options_of<float>(decode_mode::plain, 9));
  }));
  CHECK(result.tokens == before);
  CHECK(w.generator.sequence().length() == length);
}

TEST_CASE_TEMPLATE("a model of NaN is an error, not an endless loop",
                   Constant,
                   std::integral_constant<head_kind, head_kind::sequential>,
                   std::integral_constant<head_kind, head_kind::parallel>,
                   std::integral_constant<head_kind, head_kind::independent>) {
  writer<spoken_config(Constant::value, 2, P)> w;
  const auto values = w.model.values();
  const std::vector<float> sane(values.data(), values.data() + values.count());
  fill(w.model, std::numeric_limits<double>::quiet_NaN());
  for (const auto mode : both_modes) {
    CHECK_THROWS_AS(w.generator.generate(w.prompt, options_of<float>(mode, 5)), mtp::error);
    CHECK(w.generator.generate(w.prompt, options_of<float>(mode, 0)).tokens.empty());
  }
  CHECK(fails_with("generate: no token can be chosen at position 20: every logit is NaN", [&] {
    w.generator.generate(w.prompt, options_of<float>(decode_mode::plain, 5));
  }));
  std::copy(sane.begin(), sane.end(), values.data());
  CHECK(w.is_well());

  // NaN in the head alone: its drafts are wrong, which changes nothing.
  w.model.layout.head.visit([&](const std::string&, const parameter& p) {
    add_noise(w.model, p, std::numeric_limits<double>::quiet_NaN(), 1);
  });
  CHECK(same_text(w.run(decode_mode::plain, P), w.expected));
  CHECK(same_text(w.run(decode_mode::speculative, P), w.expected));
  std::copy(sane.begin(), sane.end(), values.data());
  CHECK(w.is_well());
}

TEST_CASE("a logit that is not a number is never the maximum") {
  writer w;
  const auto output = w.model.values().matrix(w.model.layout.trunk.output);
  for (index_t c = 0; c < config.hidden_size; ++c) {
    output(w.expected.tokens()[3], c) = std::numeric_limits<float>::quiet_NaN();
  }
  const auto plain = w.run(decode_mode::plain, P);
  CHECK(plain.tokens().size() == w.expected.tokens().size());
  CHECK(std::count(plain.tokens().begin(), plain.tokens().end(), w.expected.tokens()[3]) == 0);
  CHECK(same_bits(w.run(decode_mode::speculative, P).logits, plain.logits));
}

}  // namespace mtp::test::decode_generate_cases
