#include "support/cpu_cases.hpp"
// The cases come first.
#include "ops/choose_tokens_test.hpp"

namespace mtp::test::choose_tokens {

/// How often each token is chosen for the same logits at many positions.
template <class B, class S>
std::vector<double> counts_of(context<B>& context,
                              const std::vector<double>& row,
                              const rule_of_choice& rule,
                              index_t trials) {
  const auto V = static_cast<index_t>(row.size());
  std::vector<double> all;
  for (index_t m = 0; m < trials; ++m) {
    all.insert(all.end(), row.begin(), row.end());
  }
  guarded_sequence<B> sequence(token_list(1, 0), 0, rule, V);
  guarded<S, 2, B> logits(dims<2>{trials, V}, all);
  guarded<token_t, 1, B> chosen(dims<1>{trials});
  mtp::choose_tokens(context, chosen.view(), logits.view(), sequence.view(), 0);
  std::vector<double> counts(row.size(), 0);
  for (const token_t token : elements(chosen.view())) {
    counts[static_cast<std::size_t>(token)] += 1;
  }
  return counts;
}

inline bool fits(const std::vector<double>& counts, const std::vector<double>& probabilities) {
  double freedom = 0;
  const double deviation = reference::chi_square(counts, probabilities, &freedom);
  return deviation <= reference::chi_square_bound(freedom);
}

TEST_CASE("tokens are chosen with the probabilities that the rule gives them") {
  using B = cpu;
  using S = float;
  cpu_context context;
  const std::vector<double> row{0.5, -1, 1.5, 0, 0.25};
  const index_t trials = 20000;
  std::vector<rule_of_choice> rules = rules_for(5);
  for (const double temperature : {0.7, 1.5}) {
    rules.push_back({.temperature = temperature});
  }
  for (rule_of_choice rule : rules) {
    if (rule.temperature == 0 || rule.min_new_tokens > 0) {
      continue;
    }
    rule.prompt_length = 0;
    rule.repetition_penalty = 1;
    rule.frequency_penalty = rule.presence_penalty = 0;
    rule.seed = 11;
    const auto probabilities_at = [&](double temperature) {
      rule_of_choice other = rule;
      other.temperature = temperature;
      const auto weights =
          reference::kept_weights(reference::adjusted(row, {}, other, rounded<S>), other);
      const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
      std::vector<double> shares;
      for (const auto weight : weights) {
        shares.push_back(static_cast<double>(weight) / sum);
      }
      return shares;
    };
    const auto counts = counts_of<B, S>(context, row, rule, trials);
    const auto right = probabilities_at(rule.temperature);
    CAPTURE(rule.top_k);
    CAPTURE(rule.top_p);
    CAPTURE(rule.min_p);
    CHECK(fits(counts, right));
    for (std::size_t v = 0; v < counts.size(); ++v) {
      CHECK((counts[v] > 0) == (right[v] > 0));
    }
    // What is biased does not pass: the test would see a temperature that is a fifth off.
    if (std::count(right.begin(), right.end(), 0.0) < 3) {
      CHECK_FALSE(fits(counts, probabilities_at(rule.temperature * 1.25)));
    }
  }
}

}  // namespace mtp::test::choose_tokens
