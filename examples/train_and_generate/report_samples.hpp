// The texts of a report, coloured by who wrote each byte.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "markup.hpp"
#include "svg.hpp"

namespace example {

struct sample {
  std::string prompt, text;  // any bytes; the text continues the prompt
  std::vector<int>
      writers;  // of each byte of the text: 0 the trunk, k an accepted draft k; or none
};

namespace detail {

/// The text with the bytes of each writer in a span of its own. A character of several bytes
/// belongs to the writer of its first one.
inline std::string written_text(const sample& sample) {
  constexpr std::string_view open = "<span class=\"byte\">", close = "</span>";
  if (sample.writers.size() != sample.text.size()) return escape(sample.text, open, close);
  std::string out;
  const std::string_view text = sample.text;
  for (std::size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    const int writer = sample.writers[begin];
    while (end < text.size() && sample.writers[end] == writer) {
      std::uint32_t code = 0;
      end += (std::max)(utf8_length(text.substr(end), code), std::size_t{1});
    }
    const std::string part = escape(text.substr(begin, end - begin), open, close);
    out += writer == 0 ? part
                       : fmt::format("<span style=\"color:{}\">{}</span>",
                                     colour(static_cast<std::size_t>(writer)),
                                     part);
  }
  return out;
}

inline std::string samples_section(const std::vector<sample>& samples) {
  if (samples.empty()) return {};
  std::string out =
      "<section>\n<h2>Text</h2>\n<p class=\"note\">The prompt is grey, and the model wrote the "
      "rest";
  int drafts = 0;
  for (const sample& sample : samples) {
    for (const int writer : sample.writers) drafts = (std::max)(drafts, writer);
  }
  if (drafts == 0) {
    out += ".</p>\n";
  } else {
    out +=
        ": each byte has the colour of who wrote it.</p>\n<ul class=\"legend\">\n"
        "<li><i style=\"border-color:var(--ink)\"></i>the trunk</li>\n";
    for (int k = 1; k <= drafts; ++k) {
      out += fmt::format("<li><i style=\"border-color:{}\"></i>draft {}, accepted</li>\n",
                         colour(static_cast<std::size_t>(k)),
                         k);
    }
    out += "</ul>\n";
  }
  for (const sample& sample : samples) {
    constexpr std::string_view open = "<span class=\"byte\">", close = "</span>";
    // The parser of HTML drops a newline right after <pre>, so there is one to drop.
    out += "<pre>\n<span class=\"prompt\">" + escape(sample.prompt, open, close) + "</span>" +
           written_text(sample) + "</pre>\n";
  }
  return out + "</section>\n";
}

}  // namespace detail

}  // namespace example
