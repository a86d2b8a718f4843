// The same texts with drafts and without, in turns: are they identical, and how much faster is one?
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/decode/generate.hpp"
#include "mtp/decode/generation_report.hpp"

namespace example {

/// Sums over texts.
template <int Depth>
struct comparison {
  bool identical = true;
  mtp::index_t texts = 0;
  mtp::index_t tokens = 0;
  mtp::index_t passes = 0;
  double plain_seconds = 0, draft_seconds = 0;
  std::array<mtp::index_t, static_cast<std::size_t>(Depth)> drafted{}, accepted{};

  double speed_up() const { return draft_seconds > 0 ? plain_seconds / draft_seconds : 0; }
  double tokens_per_pass() const {
    return passes > 0 ? static_cast<double>(tokens) / static_cast<double>(passes) : 0;
  }
};

/// A text for each prompt, by turns without drafts and with them, the order of the two changing.
template <class Generator,
          class Options,
          int Depth = Generator::model_type::config.prediction.depth>
comparison<Depth> compare(Generator& generator,
                          std::span<const std::vector<mtp::token_t>> prompts,
                          Options options) {
  comparison<Depth> sum;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::vector<mtp::token_t> first;
    for (std::size_t turn = 0; turn < 2; ++turn) {
      const bool plain = turn == i % 2;
      options.mode = plain ? mtp::decode_mode::plain : mtp::decode_mode::speculative;
      const auto& made = generator.generate(prompts[i], options);
      if (turn == 0) {
        first = made.tokens;
      } else {
        sum.identical = sum.identical && made.tokens == first;
      }
      (plain ? sum.plain_seconds : sum.draft_seconds) += made.decode_seconds;
      if (plain) continue;
      sum.tokens += static_cast<mtp::index_t>(made.tokens.size());
      sum.passes += made.forward_passes;
      for (std::size_t k = 0; k < sum.drafted.size(); ++k) {
        sum.drafted[k] += made.drafted[k];
        sum.accepted[k] += made.accepted[k];
      }
    }
    ++sum.texts;
  }
  return sum;
}

/// In a line.
template <int Depth>
std::string text_of(const comparison<Depth>& sum) {
  using mtp::detail::fixed_text;
  const auto rate = [&](double seconds) {
    return fixed_text(seconds > 0 ? static_cast<double>(sum.tokens) / seconds : 0, 1);
  };
  std::string text = std::to_string(sum.texts) + " texts, " + rate(sum.plain_seconds) +
                     " tokens/s plain, " + rate(sum.draft_seconds) + " with drafts, " +
                     fixed_text(sum.speed_up(), 2) + " times; " +
                     fixed_text(sum.tokens_per_pass(), 2) + " tokens per pass; accepted by place";
  for (std::size_t k = 0; k < sum.drafted.size(); ++k) {
    text += (k == 0 ? " " : ", ") +
            (sum.drafted[k] > 0 ? mtp::detail::percent_text(static_cast<double>(sum.accepted[k]) /
                                                            static_cast<double>(sum.drafted[k]))
                                : std::string("-"));
  }
  return text + (sum.identical ? "; identical" : "; THE TEXTS DIFFER");
}

}  // namespace example
