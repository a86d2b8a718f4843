// What generation did, in words and figures for people.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "mtp/core/scalar.hpp"
#include "mtp/decode/generation.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// With so many digits behind the point, whatever the locale.
inline std::string fixed_text(double value, int digits) {
  char text[400];
  const auto end =
      std::to_chars(text, text + sizeof(text), value, std::chars_format::fixed, digits).ptr;
  return {text, end};
}
inline std::string percent_text(double share) {
  return fixed_text(100 * share, 1) + " %";
}

/// Share of the token that a text has most of.
inline double most_frequent_share(const std::vector<token_t>& tokens) {
  std::map<token_t, index_t> counts;
  index_t most = 0;
  for (const token_t token : tokens) {
    most = (std::max)(most, ++counts[token]);
  }
  return tokens.empty() ? 0 : static_cast<double>(most) / static_cast<double>(tokens.size());
}

}  // namespace detail

/// Whether first drafts, of which there are enough to tell, are accepted no more often than those
/// of a head would be that always drafts the most frequent token of the text. The head is not
/// trained, then, or not for this text.
template <int Depth>
bool drafts_by_chance(const generation<Depth>& result) {
  constexpr index_t enough = 64;
  if constexpr (Depth > 0) {
    const double chance = detail::most_frequent_share(result.tokens);
    return result.drafted[0] >= enough && chance < 0.5 && result.acceptance(0) <= chance;
  }
  return false;
}

/// A few lines that say what was written, how many drafts were accepted, by place and in all, how
/// many were made, where the time went, and a warning where drafts_by_chance.
template <int Depth>
std::string report(const generation<Depth>& result) {
  using detail::fixed_text;
  using detail::percent_text;
  std::string text = std::to_string(result.tokens.size()) + " tokens in " +
                     std::to_string(result.forward_passes) + " passes";
  if (result.forward_passes > 0) {
    text += ", " + fixed_text(result.tokens_per_forward(), 2) + " per pass";
  }
  if (result.decode_seconds > 0) {
    const double speed = static_cast<double>(result.tokens.size()) / result.decode_seconds;
    text += ", " + fixed_text(speed, 1) + " per second";
  }
  text += "\n";
  index_t drafted = 0, accepted = 0;
  std::string places, lengths;
  for (std::size_t k = 0; k < static_cast<std::size_t>(Depth); ++k) {
    drafted += result.drafted[k];
    accepted += result.accepted[k];
    places += (k == 0 ? "" : ", ") + percent_text(result.acceptance(k));
  }
  for (std::size_t n = 0; n < result.cycles.size(); ++n) {
    if (result.cycles[n] > 0) {
      lengths += (lengths.empty() ? "" : ", ") + std::to_string(n) + " in " +
                 std::to_string(result.cycles[n]) + " cycles";
    }
  }
  if (drafted > 0) {
    const double share = static_cast<double>(accepted) / static_cast<double>(drafted);
    text += "drafts accepted: " + std::to_string(accepted) + " of " + std::to_string(drafted) +
            ", " + percent_text(share) + "; by place " + places + "\n";
    text += "drafts made: " + lengths + "\n";
    if (result.tree_cycles > 0) {
      text += "trees: " + std::to_string(result.tree_drafts) + " drafts in " +
              std::to_string(result.tree_cycles) + " cycles, another branch than the first in " +
              std::to_string(result.other_branches) + "\n";
    }
  }
  if (const double total = result.seconds.total(); total > 0) {
    text += "time: " + percent_text(result.seconds.draft / total) + " drafting, " +
            percent_text(result.seconds.verify / total) + " verifying, " +
            percent_text(result.seconds.accept / total) + " choosing and accepting\n";
  }
  if (drafts_by_chance(result)) {
    text += "warning: drafts are accepted no more often than chance has it; is the head trained?\n";
  }
  return text;
}

}  // namespace mtp::inline MTP_ABI
