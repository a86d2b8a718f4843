// What the model is asked to continue where the command line says nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mtp/core/scalar.hpp"

namespace example {

inline std::vector<mtp::token_t> to_tokens(const std::string& text) {
  std::vector<mtp::token_t> tokens;
  for (const char c : text) {
    tokens.push_back(static_cast<unsigned char>(c));
  }
  return tokens;
}

inline std::string to_text(std::span<const mtp::token_t> tokens) {
  std::string text;
  for (const mtp::token_t token : tokens) {
    text.push_back(static_cast<char>(static_cast<unsigned char>(token)));
  }
  return text;
}

/// A part of at most `bytes` bytes that a reader can follow: from the beginning of a line, if one
/// begins in the first half, to the end of a word or a line behind the middle, if one ends there.
inline std::string_view readable_part(std::string_view text, std::size_t bytes) {
  const std::size_t newline = text.substr(0, text.size() / 2).rfind('\n');
  if (newline != text.npos) text.remove_prefix(newline + 1);
  text = text.substr(0, bytes);
  const std::size_t end = text.find_last_of(" \n");
  return end != text.npos && end >= text.size() / 2 ? text.substr(0, end) : text;
}

/// Share of the bytes that are letters of ASCII or single spaces: high for prose, low for rulers
/// and tables of numbers.
inline double share_of_words(std::string_view text) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (is_letter || (c == ' ' && i > 0 && text[i - 1] != ' ')) ++count;
  }
  return text.empty() ? 0 : static_cast<double>(count) / static_cast<double>(text.size());
}

/// Beginnings from windows that training has never seen, spread over the held-out text: of a few
/// neighbouring windows the first that is made of words for the most part.
template <class Dataset>
std::vector<std::string> held_out_prompts(const Dataset& data,
                                          std::size_t count,
                                          std::size_t bytes) {
  constexpr std::size_t neighbours = 8;
  constexpr double mostly = 0.8;
  std::vector<mtp::token_t> tokens(static_cast<std::size_t>(data.window()));
  std::vector<std::int32_t> segments(tokens.size());
  const auto windows = static_cast<std::size_t>(data.validation_windows());
  std::vector<std::string> prompts;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t first = i * windows / count, next = (i + 1) * windows / count;
    std::string chosen;
    for (std::size_t at = first; at == first || (at < next && at < first + neighbours); ++at) {
      data.validation_sample(static_cast<mtp::index_t>(at), tokens, segments);
      const std::string text = to_text(tokens);
      const std::string part(readable_part(text, bytes));
      if (chosen.empty() || share_of_words(part) > share_of_words(chosen)) chosen = part;
      if (share_of_words(chosen) >= mostly) break;
    }
    prompts.push_back(chosen);
  }
  return prompts;
}

}  // namespace example
