// Scores of given sequences: those that generation reports, whatever else is scored. For any
// backend; who includes this says which.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mtp/core/random.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/decode/generate.hpp"
#include "mtp/decode/score.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "support/batches.hpp"
#include "support/compare.hpp"

namespace mtp::test::score_cases {

using token_list = std::vector<token_t>;
using sequence_list = std::vector<std::span<const token_t>>;

constexpr model_config with_positions(model_config config, int positions) {
  config.max_position_embeddings = positions;
  return config;
}

inline token_list some_tokens(index_t count, int V, std::uint64_t stream) {
  const random_stream random(seed{51}, stream);
  token_list tokens;
  for (index_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<token_t>(
        random.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(V))));
  }
  return tokens;
}

/// A model on any backend.
template <class B, class S, model_config Config>
struct subject {
  context<B> run_context;
  language_model<Config, B, S> model{run_context, seed{5}};
};

/// All that is given of a sequence from token `first` on is the same, bit for bit.
inline comparison same_scores(const scored_sequence& actual,
                              const scored_sequence& expected,
                              std::size_t first = 0,
                              std::size_t expected_first = 0) {
  const auto from = [](const auto& list, std::size_t at) {
    return std::vector(list.begin() + static_cast<std::ptrdiff_t>(at), list.end());
  };
  const auto n = [](const scored_sequence& of) {
    return of.best_tokens.size() / of.likeliest.size();
  };
  const std::size_t a = first, e = expected_first;
  for (const auto& result :
       {same_bits(from(actual.log_probabilities, a), from(expected.log_probabilities, e)),
        same_bits(from(actual.likeliest, a), from(expected.likeliest, e)),
        same_bits(from(actual.best_tokens, a * n(actual)),
                  from(expected.best_tokens, e * n(expected))),
        same_bits(from(actual.best_log_probabilities, a * n(actual)),
                  from(expected.best_log_probabilities, e * n(expected)))}) {
    if (!result) {
      return result;
    }
  }
  return same_bits(std::vector<std::size_t>{n(actual)}, std::vector<std::size_t>{n(expected)});
}

/// The sum and the numbers that follow from it.
inline void check_sum(const scored_sequence& scored) {
  double sum = 0;
  for (std::size_t i = 1; i < scored.log_probabilities.size(); ++i) {
    sum += scored.log_probabilities[i];
  }
  CHECK(std::isnan(scored.log_probabilities[0]));
  CHECK(scored.likeliest[0] == -1);
  CHECK(scored.counted == static_cast<index_t>(scored.log_probabilities.size()) - 1);
  CHECK(scored.sum == sum);
  CHECK(scored.perplexity() == std::exp(-sum / static_cast<double>(scored.counted)));
}

/// A text that generation wrote has the log-probabilities that generation reported, however the
/// prompt and what follows it were cut into passes there.
template <class B, class S, model_config Config>
void check_generation(index_t most_new_tokens) {
  CAPTURE(std::string(name_of(Config.prediction.kind)));
  constexpr int P = Config.max_position_embeddings;
  subject<B, S, Config> of;
  generator<Config, B, S> writer(of.run_context, of.model);
  scorer<Config, B, S> scorer(of.run_context, of.model);
  for (const index_t length : {1, 6, 65}) {
    for (const decode_mode mode : {decode_mode::plain, decode_mode::speculative}) {
      for (const double temperature : {0.0, 1.0}) {
        token_list text = some_tokens(length, Config.vocab_size, 1);
        const auto& written =
            writer.generate(text,
                            {.mode = mode,
                             .max_new_tokens = std::min<index_t>(most_new_tokens, P - length),
                             .sampling = {.temperature = temperature, .seed = seed{4}},
                             .log_probabilities = true});
        text.insert(text.end(), written.tokens.begin(), written.tokens.end());
        REQUIRE(written.tokens.size() >= 7);
        const scored_sequence& scored = scorer.score(text);
        const auto behind_prompt = [&](const auto& list) {
          return std::vector(list.begin() + length, list.end());
        };
        CHECK(same_bits(behind_prompt(scored.log_probabilities), written.log_probabilities));
        if (temperature == 0) {
          CHECK(same_bits(behind_prompt(scored.likeliest), written.tokens));
        }
        check_sum(scored);
      }
    }
  }
}

/// What a sequence is given does not depend on what else is scored, before, behind or beside it.
template <class B, class S, model_config Config>
void check_company() {
  constexpr int P = Config.max_position_embeddings;
  subject<B, S, Config> of;
  std::vector<token_list> texts;
  for (const index_t length : {2, 67, 5, 9, 3, 30, 30, P, 64, 65, 3}) {
    texts.push_back(some_tokens(std::min<index_t>(length, P), Config.vocab_size, texts.size() + 9));
  }
  std::vector<scored_sequence> alone;
  for (const token_list& text : texts) {
    scorer<Config, B, S> scorer(of.run_context, of.model, 3);
    alone.push_back(scorer.score(text));
  }
  scorer<Config, B, S> one_by_one(of.run_context, of.model, 3),
      together(of.run_context, of.model, 3, 4);
  sequence_list list(texts.begin(), texts.end());
  for (int round = 0; round < 4; ++round) {
    const auto& scored = (round < 2 ? one_by_one : together).score(list);
    REQUIRE(scored.size() == texts.size());
    double sum = 0, counted = 0;
    for (std::size_t n = 0; n < texts.size(); ++n) {
      CAPTURE(n);
      CHECK(same_scores(scored[n], alone[n]));
      check_sum(scored[n]);
      sum += scored[n].sum;
      counted += static_cast<double>(scored[n].counted);
      for (std::size_t i = 1; i < texts[n].size(); ++i) {
        CHECK(scored[n].best_tokens[3 * i] == scored[n].likeliest[i]);
      }
    }
    CHECK(perplexity(scored) == std::exp(-sum / counted));
    std::reverse(list.begin(), list.end());
    std::reverse(alone.begin(), alone.end());
    std::reverse(texts.begin(), texts.end());  // moves no token
  }
  // Hidden states are those of single sequences, and lie where a shared pass has them.
  const auto hidden_of = [&](auto& scorer, index_t* shared) {
    std::vector<S> all;
    const S* first = nullptr;
    scorer.score(
        list, {.on_hidden = [&](const hidden_piece<S, B>& piece) {
          first = first == nullptr ? piece.normed.data() : first;
          *shared += piece.normed.data() == first ? 0 : 1;
          for (const auto& rows : {piece.normed, piece.stream}) {
            const std::size_t at = all.size();
            all.resize(at + static_cast<std::size_t>(rows.count()));
            backend_traits<B>::download(
                of.run_context, all.data() + at, rows.data(), (all.size() - at) * sizeof(S));
          }
        }});
    return all;
  };
  index_t none_shared = 0, shared = 0;
  CHECK(same_bits(hidden_of(together, &shared), hidden_of(one_by_one, &none_shared)));
  CHECK(shared > 0);
  CHECK(none_shared == 0);
}

/// Hidden states that a scorer hands out.
template <class B, class S>
class hidden_record {
 public:
  hidden_record(context<B>& run_context, index_t C) : context_(run_context), C_(C) {}

  score_options<S, B> options(index_t stride = 0) {
    return {.stride = stride, .on_hidden = [this](const hidden_piece<S, B>& piece) {
              const index_t M = piece.normed.extent(0);
              CHECK(M >= 1);
              CHECK(piece.stream.extent(0) == M);
              CHECK(piece.first == static_cast<index_t>(normed.size()) / C_);
              CHECK(piece.sequence == sequence);
              add(normed, piece.normed);
              add(stream, piece.stream);
            }};
  }

  index_t sequence = 0;           // that is expected
  std::vector<S> normed, stream;  // [T, C]

 private:
  void add(std::vector<S>& to, matrix_view<const S, B> rows) {
    const std::size_t at = to.size(), count = static_cast<std::size_t>(rows.count());
    to.resize(at + count);
    REQUIRE(rows.is_contiguous());
    backend_traits<B>::download(context_, to.data() + at, rows.data(), count * sizeof(S));
  }

  context<B>& context_;
  index_t C_;
};

/// A sequence of more tokens than positions is scored in windows: each token as if its window were
/// all there is, in the first window that holds it. So are its hidden states.
template <class B, class S, model_config Config>
void check_windows(index_t T) {
  constexpr index_t P = Config.max_position_embeddings, C = Config.hidden_size;
  subject<B, S, Config> of;
  scorer<Config, B, S> scorer(of.run_context, of.model, 2), of_windows(of.run_context, of.model, 2);
  const token_list text = some_tokens(T, Config.vocab_size, 3);
  for (const index_t stride : {P / 3, P - 1, index_t{T < P + 10 ? 1 : 40}}) {
    CAPTURE(stride);
    hidden_record<B, S> whole(of.run_context, C);
    const scored_sequence scored = scorer.score(text, whole.options(stride));
    check_sum(scored);
    CHECK(same_scores(scorer.score(text, {.stride = stride}), scored));
    index_t known = 0;
    scored_sequence expected = scored;
    for (index_t first = 0; known < T; first += stride) {
      const index_t end = std::min(first + P, T);
      const auto window = std::span<const token_t>(text).subspan(
          static_cast<std::size_t>(first), static_cast<std::size_t>(end - first));
      hidden_record<B, S> part(of.run_context, C);
      const scored_sequence& given = of_windows.score(window, part.options());
      REQUIRE(known - first == (known > 0 ? P - stride : 0));  // what counted tokens see at least
      for (index_t i = std::max<index_t>(known, 1); i < end; ++i) {
        const auto at = static_cast<std::size_t>(i), there = static_cast<std::size_t>(i - first);
        expected.log_probabilities[at] = given.log_probabilities[there];
        expected.likeliest[at] = given.likeliest[there];
        for (std::size_t j = 0; j < 2; ++j) {
          expected.best_tokens[2 * at + j] = given.best_tokens[2 * there + j];
          expected.best_log_probabilities[2 * at + j] = given.best_log_probabilities[2 * there + j];
        }
      }
      const auto rows = [&](const std::vector<S>& list, index_t from, index_t to) {
        return std::vector<S>(list.begin() + from * C, list.begin() + to * C);
      };
      REQUIRE(static_cast<index_t>(whole.normed.size()) == T * C);
      CHECK(
          same_bits(rows(whole.normed, known, end), rows(part.normed, known - first, end - first)));
      CHECK(
          same_bits(rows(whole.stream, known, end), rows(part.stream, known - first, end - first)));
      known = end;
    }
    CHECK(same_scores(scored, expected));
  }
}

/// Hidden states are those that logits come from: the output matrix makes of them what token's
/// probabilities are made of. A sequence of one token has some, too.
template <class B, class S, model_config Config>
void check_hidden() {
  CAPTURE(std::string(name_of(Config.prediction.kind)));
  constexpr index_t C = Config.hidden_size, V = Config.vocab_size;
  subject<B, S, Config> of;
  scorer<Config, B, S> scorer(of.run_context, of.model);
  const auto values = of.model.values();
  const auto& at = of.model.trunk_layout();
  const token_list text = some_tokens(Config.max_position_embeddings, Config.vocab_size, 4);
  for (const index_t T : {index_t{1}, index_t{2}, index_t{Config.max_position_embeddings}}) {
    CAPTURE(T);
    const auto tokens = std::span<const token_t>(text).first(static_cast<std::size_t>(T));
    hidden_record<B, S> hidden(of.run_context, C);
    const scored_sequence scored = scorer.score(tokens, hidden.options());
    REQUIRE(static_cast<index_t>(hidden.normed.size()) == T * C);
    REQUIRE(static_cast<index_t>(scored.likeliest.size()) == T);
    for (index_t i = 0; i < T; ++i) {
      tensor<S, dims<2>, B> stream(dims<2>{1, C}), normed(dims<2>{1, C}), given(dims<2>{1, C});
      tensor<accumulate_t<S>, dims<1>, B> inverse(dims<1>{1});
      tensor<accumulate_t<S>, dims<2>, B> logits(dims<2>{1, V});
      tensor<token_t, dims<1>, B> token(dims<1>{1}), likeliest(dims<1>{1});
      tensor<double, dims<1>, B> log_probability(dims<1>{1});
      const auto send = [&](auto& to, const auto* from) {
        backend_traits<B>::copy_from_host(
            to.data(), from, static_cast<std::size_t>(to.view().count()) * sizeof(*from));
      };
      send(stream, hidden.stream.data() + i * C);
      send(given, hidden.normed.data() + i * C);
      rms_norm_forward(of.run_context,
                       normed.view(),
                       inverse.view(),
                       stream.view(),
                       values.vector(at.norm),
                       Config.rms_norm_eps);
      CHECK(same_bits(normed.to_host(), given.to_host()));
      if (i + 1 < T) {
        send(token, text.data() + i + 1);
        linear_forward(of.run_context, logits.view(), given.view(), values.matrix(at.output));
        token_log_probabilities(
            of.run_context, log_probability.view(), logits.view(), token.view());
        predict(of.run_context, likeliest.view(), logits.view());
        const auto next = static_cast<std::size_t>(i + 1);
        CHECK(same_bits(log_probability.to_host(),
                        std::vector<double>{scored.log_probabilities[next]}));
        CHECK(likeliest.to_host()[0] == scored.likeliest[next]);
      }
    }
  }
}

}  // namespace mtp::test::score_cases
