#include "support/cpu_cases.hpp"
// The cases come first.
#include <array>
#include <functional>
#include <map>

#include "ops/reject_drafts_test.hpp"

// Texts of three tokens out of five, of which the first two are drafted. The model's and the head's
// distributions depend on all tokens in front. What verification writes is compared with the
// products of the model's probabilities, and so is what wrong verifications write.
namespace mtp::test::reject_drafts {

using reference::law_of;
using reference::token_law;

constexpr index_t V = 5, places = 3, prompt_length = 2;
constexpr std::size_t texts = 125;

/// Logits of whoever has this number, behind some tokens.
inline std::vector<double> logits_behind(const token_list& in_front, std::uint64_t whose) {
  std::uint64_t stream = whose;
  for (const token_t token : in_front) {
    stream = stream * 7 + static_cast<std::uint64_t>(token) + 1;
  }
  return normal(V, stream, 1);
}
constexpr std::uint64_t model = 1, head = 2;

/// The probabilities that the operations use: of weights in units of 2^-40.
inline token_law law_behind(const token_list& in_front, std::uint64_t whose, rule_of_choice rule) {
  rule.prompt_length = prompt_length;
  return law_of(reference::kept_weights(
      reference::adjusted(logits_behind(in_front, whose), in_front, rule, rounded<double>), rule));
}

/// What may be wrong with a verification.
enum class verification_kind {
  right,
  without_residual,        // a token of p stands where a draft was rejected
  weights_of_other_place,  // p / q with the q of the other draft
  shared_noise,            // the noise of the model's own token draws the draft as well
  chosen_length,           // a draft that its head finds unlikely is not verified
  block,                   // right, all drafts at once
  block_to_first_failure,  // as many drafts are kept as are one after the other
  block_of_plain_residual  // what stands behind the kept drafts is drawn from max(p - q, 0)
};
constexpr bool is_block(verification_kind kind) {
  return kind >= verification_kind::block;
}
constexpr long double unlikely = 0.2L;

inline token_list behind(token_list in_front, token_t token) {
  in_front.push_back(token);
  return in_front;
}

/// visit(text, probability) for each text of single draws.
inline std::vector<long double> plain_texts(const rule_of_choice& rule) {
  std::vector<long double> all;
  for (token_t text = 0; text < static_cast<token_t>(texts); ++text) {
    token_list in_front{1, 3};
    long double probability = 1;
    for (const token_t token : {text / 25, text / 5 % 5, text % 5}) {
      probability *= law_behind(in_front, model, rule)[static_cast<std::size_t>(token)];
      in_front.push_back(token);
    }
    all.push_back(probability);
  }
  return all;
}

/// Sums over all drafts, over which of them are accepted and over what stands behind.
class all_paths {
 public:
  all_paths(const rule_of_choice& rule, verification_kind kind)
      : rule_(rule), kind_(kind), texts_(texts, 0) {
    draft({1, 3}, {}, {}, 1);
  }
  const std::vector<long double>& probabilities() const { return texts_; }

 private:
  /// `front` is confirmed, `drafts` were drawn from `laws`.
  void draft(const token_list& front,
             const token_list& drafts,
             const std::vector<token_law>& laws,
             long double probability) {
    token_list in_front = front;
    in_front.insert(in_front.end(), drafts.begin(), drafts.end());
    if (drafts.size() == places - 1) {
      if (is_block(kind_)) {
        verify_block(front, drafts, laws, probability);
      } else {
        verify(front, drafts, laws, 0, probability);
      }
      return;
    }
    const token_law q = law_behind(in_front, head, rule_);
    for (std::size_t d = 0; d < q.size(); ++d) {
      if (q[d] > 0) {
        if (kind_ == verification_kind::chosen_length && q[d] < unlikely) {
          verify(front, drafts, laws, 0, probability * q[d]);
        } else {
          auto with = laws;
          with.push_back(q);
          draft(front, behind(drafts, static_cast<token_t>(d)), with, probability * q[d]);
        }
      }
    }
  }
  void verify(const token_list& front,
              const token_list& drafts,
              const std::vector<token_law>& laws,
              std::size_t m,
              long double probability) {
    const token_law p = law_behind(front, model, rule_);
    if (m == drafts.size()) {
      end(front, p, probability);
      return;
    }
    const bool other = kind_ == verification_kind::weights_of_other_place;
    const token_law& q = laws[other ? drafts.size() - 1 - m : m];
    const auto d = static_cast<std::size_t>(drafts[m]);
    const long double accepted = q[d] > 0 ? reference::acceptance(p, q, d) : p[d];
    if (accepted > 0) {
      verify(behind(front, drafts[m]), drafts, laws, m + 1, probability * accepted);
    }
    if (accepted < 1) {
      const bool whole = kind_ == verification_kind::without_residual || q[d] <= 0;
      end(front, whole ? p : reference::residual(p, q), probability * (1 - accepted));
    }
  }
  void verify_block(const token_list& front,
                    const token_list& drafts,
                    const std::vector<token_law>& q,
                    long double probability) {
    std::vector<token_law> p;
    token_list kept = front;
    for (const token_t draft : drafts) {
      p.push_back(law_behind(kept, model, rule_));
      kept.push_back(draft);
    }
    const reference::verified_block block(p, q, drafts);
    const auto ends_at = [&](std::size_t m, long double share) {
      token_list in_front = front;
      in_front.insert(in_front.end(), drafts.begin(), drafts.begin() + static_cast<long>(m));
      token_law law = law_behind(in_front, model, rule_);
      if (m < drafts.size()) {
        long double z = 0;
        const bool plain = kind_ == verification_kind::block_of_plain_residual;
        law = reference::block_residual(law, q[m], plain ? 1 : block.r[m], &z);
      }
      if (share > 0) {
        end(in_front, law, share);
      }
    };
    long double rest = probability;
    if (kind_ == verification_kind::block_to_first_failure) {
      for (std::size_t m = 0; m < drafts.size(); ++m) {
        ends_at(m, rest * (1 - block.keeps[m + 1]));
        rest *= block.keeps[m + 1];
      }
      ends_at(drafts.size(), rest);
      return;
    }
    for (std::size_t m = drafts.size() + 1; m-- > 0;) {
      ends_at(m, rest * block.keeps[m]);
      rest *= 1 - block.keeps[m];
    }
  }
  /// The next token is of this law, those behind it are drawn from the model.
  void end(const token_list& front, const token_law& law, long double probability) {
    if (front.size() == static_cast<std::size_t>(prompt_length + places)) {
      texts_[static_cast<std::size_t>(front[2] * 25 + front[3] * 5 + front[4])] += probability;
      return;
    }
    for (std::size_t v = 0; v < law.size(); ++v) {
      if (law[v] > 0) {
        const token_list next = behind(front, static_cast<token_t>(v));
        end(next, law_behind(next, model, rule_), probability * law[v]);
      }
    }
  }

  rule_of_choice rule_;
  verification_kind kind_;
  std::vector<long double> texts_;
};

/// Half the sum of absolute differences.
inline long double distance(const std::vector<long double>& a, const std::vector<long double>& b) {
  long double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += std::abs(a[i] - b[i]);
  }
  return sum / 2;
}

/// Options for which no text has the probability 0, and one with penalties and a cut.
inline std::vector<rule_of_choice> options() {
  return {{.seed = 5, .temperature = 0.8},
          {.seed = 6,
           .top_k = 4,
           .temperature = 1.2,
           .top_p = 0.95,
           .repetition_penalty = 1.3,
           .frequency_penalty = 0.4}};
}

TEST_CASE("over all drafts and decisions, verified texts have the probabilities of plain ones") {
  for (const rule_of_choice& rule : options()) {
    const auto plain = plain_texts(rule);
    const auto law = [&](verification_kind kind) { return all_paths(rule, kind).probabilities(); };
    CHECK(distance(law(verification_kind::right), plain) < 1e-12L);
    CHECK(distance(law(verification_kind::without_residual), plain) > 0.02L);
    CHECK(distance(law(verification_kind::weights_of_other_place), plain) > 0.02L);
    CHECK(distance(law(verification_kind::chosen_length), plain) > 0.02L);
    CHECK(distance(law(verification_kind::block), plain) < 1e-12L);
    CHECK(distance(law(verification_kind::block_to_first_failure), plain) > 0.005L);
    CHECK(distance(law(verification_kind::block_of_plain_residual), plain) > 0.002L);
  }
}

/// A cycle of the operations and, behind what it confirms, single draws.
class writer {
 public:
  writer(rule_of_choice rule, verification_kind kind)
      : rule_([&] {
          rule.prompt_length = prompt_length;
          return rule;
        }()),
        kind_(kind),
        sequence_(token_list(8, 0), 0, rule_, V) {}

  /// A text of three tokens as a number, for a sequence number.
  std::size_t write(std::uint32_t number) {
    rule_.sequence = number;
    token_list text{1, 3};
    cycle(text);
    while (text.size() < static_cast<std::size_t>(prompt_length + places)) {
      text.push_back(chosen(logits_of(text, model), text));
    }
    return static_cast<std::size_t>(text[2] * 25 + text[3] * 5 + text[4]);
  }

 private:
  const std::vector<double>& logits_of(const token_list& in_front, std::uint64_t whose) {
    auto& kept = logits_[{in_front, whose}];
    if (kept.empty()) {
      kept = logits_behind(in_front, whose);
    }
    return kept;
  }
  template <class Call>
  void with_sequence(const token_list& all, index_t count, const Call& call) {
    const auto view = sequence_.view();
    std::copy(all.begin(), all.end(), view.tokens.data());
    view.state(sequence_count) = count;
    view.rule.integers(sampling_sequence) = rule_.sequence;
    call(view);
  }
  token_t chosen(const std::vector<double>& row, const token_list& in_front) {
    token_t token = 0;
    with_sequence(in_front, static_cast<index_t>(in_front.size()), [&](sequence_view<cpu> view) {
      mtp::choose_tokens(context_,
                         vector_view<token_t, cpu>(&token, dims<1>{1}),
                         matrix_view<const double, cpu>(row.data(), {1, V}),
                         view,
                         0);
    });
    return token;
  }

  void cycle(token_list& text) {
    const auto count = static_cast<index_t>(text.size());
    std::vector<index_t> weights(static_cast<std::size_t>(2 * V));
    const auto row = [&](index_t m) {
      return matrix_view<index_t, cpu>(weights.data() + m * V, {1, V});
    };
    token_list all = text;
    for (index_t m = 0; m < places - 1; ++m) {
      token_t draft = 0;
      const auto& logits = logits_of(all, head);
      with_sequence(all, count, [&](sequence_view<cpu> view) {
        draw_drafts(context_,
                    vector_view<token_t, cpu>(&draft, dims<1>{1}),
                    row(m),
                    matrix_view<const double, cpu>(logits.data(), {1, V}),
                    view,
                    m,
                    draft_unit::token);
      });
      if (kind_ == verification_kind::shared_noise) {
        draft = chosen(logits, all);
      }
      const auto q = law_of(row_of(weights, m, V));
      if (kind_ == verification_kind::chosen_length &&
          q[static_cast<std::size_t>(draft)] < unlikely) {
        break;
      }
      all.push_back(draft);
    }
    verify(text, all, weights);
  }

  void verify(token_list& text, const token_list& all, std::vector<index_t> weights) {
    const auto count = static_cast<index_t>(text.size());
    const auto n = static_cast<index_t>(all.size()) - count;
    if (kind_ == verification_kind::weights_of_other_place) {
      std::rotate(weights.begin(), weights.begin() + V, weights.end());
    }
    std::vector<double> logits;
    for (index_t m = 0; m <= n; ++m) {
      const auto& own = logits_of(token_list(all.begin(), all.begin() + count + m), model);
      logits.insert(logits.end(), own.begin(), own.end());
    }
    token_list predicted(static_cast<std::size_t>(n + 1));
    with_sequence(all, count, [&](sequence_view<cpu> view) {
      mtp::reject_drafts(context_,
                         vector_view<token_t, cpu>(predicted.data(), dims<1>{n + 1}),
                         matrix_view<const double, cpu>(logits.data(), {n + 1, V}),
                         matrix_view<const index_t, cpu>(weights.data(), {n, V}),
                         view,
                         is_block(kind_) ? draft_unit::block : draft_unit::token);
    });
    for (index_t m = 0; m <= n; ++m) {
      token_t token = predicted[static_cast<std::size_t>(m)];
      const bool rejected = m < n && token != all[static_cast<std::size_t>(count + m)];
      if (rejected && (kind_ == verification_kind::without_residual ||
                       kind_ == verification_kind::shared_noise)) {
        token = chosen(row_of(logits, m, V), text);
      }
      text.push_back(token);
      if (rejected) {
        return;
      }
    }
  }
  cpu_context context_{{.threads = 1}};
  rule_of_choice rule_;
  verification_kind kind_;
  guarded_sequence<cpu> sequence_;
  std::map<std::pair<token_list, std::uint64_t>, std::vector<double>> logits_;
};

/// Whether the counts of texts fit probabilities: they do not once in a million times.
inline bool texts_fit(const rule_of_choice& rule, verification_kind kind, index_t trials) {
  writer write(rule, kind);
  std::vector<double> counts(texts, 0), expected;
  for (index_t i = 0; i < trials; ++i) {
    counts[write.write(static_cast<std::uint32_t>(i))] += 1;
  }
  for (const long double probability : plain_texts(rule)) {
    expected.push_back(static_cast<double>(probability));
  }
  double freedom = 0;
  const double deviation = reference::chi_square(counts, expected, &freedom);
  CAPTURE(deviation);
  CHECK(freedom > 20);
  return deviation <= reference::chi_square_bound(freedom);
}

TEST_CASE("texts verified by rejection have the probabilities of plain ones, biased ones do not") {
  const index_t trials = 20000;
  for (const rule_of_choice& rule : options()) {
    CHECK(texts_fit(rule, verification_kind::right, trials));
    CHECK(texts_fit(rule, verification_kind::block, trials));
    CHECK_FALSE(texts_fit(rule, verification_kind::without_residual, trials));
    CHECK_FALSE(texts_fit(rule, verification_kind::weights_of_other_place, trials));
    CHECK_FALSE(texts_fit(rule, verification_kind::chosen_length, trials));
    CHECK_FALSE(texts_fit(rule, verification_kind::shared_noise, trials));
  }
}

TEST_CASE("one verified token of a hundred has the probability that each option gives it") {
  const index_t width = 100, trials = 8000, count = 12;
  cpu_context context({.threads = 1});
  const std::vector<double> logits = rough_logits(2 * width, 71), drafting = near_model(width);
  const token_list front = tokens_below(width, count + 1, 5);
  for (rule_of_choice rule : rules_for(width)) {
    if (rule.temperature == 0) {
      continue;
    }
    std::vector<double> counts(static_cast<std::size_t>(width), 0), expected;
    index_t accepted = 0;
    std::vector<index_t> weights(static_cast<std::size_t>(width));
    guarded_sequence<cpu> sequence(front, count, rule, width);
    for (index_t i = 0; i < trials; ++i) {
      sequence.integers.view()(sampling_sequence) = i;
      token_t draft = 0, predicted[2];
      draw_drafts(context,
                  vector_view<token_t, cpu>(&draft, dims<1>{1}),
                  matrix_view<index_t, cpu>(weights.data(), {1, width}),
                  matrix_view<const double, cpu>(drafting.data(), {1, width}),
                  sequence.view(),
                  0,
                  draft_unit::token);
      append_drafts(context, sequence.view(), vector_view<token_t, cpu>(&draft, dims<1>{1}), 0);
      mtp::reject_drafts(context,
                         vector_view<token_t, cpu>(predicted, dims<1>{2}),
                         matrix_view<const double, cpu>(logits.data(), {2, width}),
                         matrix_view<const index_t, cpu>(weights.data(), {1, width}),
                         sequence.view(),
                         draft_unit::token);
      counts[static_cast<std::size_t>(predicted[0])] += 1;
      accepted += predicted[0] == draft ? 1 : 0;
    }
    const token_list in_front(front.begin(), front.end() - 1);
    for (const long double probability :
         law_of(expected_weights(row_of(logits, 0, width), in_front, rule))) {
      expected.push_back(static_cast<double>(probability));
    }
    double freedom = 0;
    const double deviation = reference::chi_square(counts, expected, &freedom);
    CAPTURE(deviation);
    CHECK(deviation <= reference::chi_square_bound(freedom));
    CHECK(accepted > trials / 3);
  }
}

}  // namespace mtp::test::reject_drafts
