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
#include "written_text.hpp"

namespace example {

struct sample {
  std::string prompt;      // any bytes
  written_text text;       // continues the prompt
  written_text drawn{};    // continues it as well, but at random; empty: not shown
  double temperature = 0;  // that it was drawn at
};

namespace detail {

/// The text with the bytes of each writer in a span of its own. A character of several bytes
/// belongs to the writer of its first one.
inline std::string coloured(const written_text& written) {
  constexpr std::string_view open = "<span class=\"byte\">", close = "</span>";
  const std::string_view text = written.bytes;
  if (written.writers.size() != text.size()) return escape(text, open, close);
  std::string out;
  for (std::size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    const int writer = written.writers[begin];
    while (end < text.size() && written.writers[end] == writer) {
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
  constexpr std::string_view open = "<span class=\"byte\">", close = "</span>";
  int drafts = 0;
  double temperature = 0;
  for (const sample& sample : samples) {
    for (const int writer : sample.text.writers) drafts = (std::max)(drafts, writer);
    for (const int writer : sample.drawn.writers) drafts = (std::max)(drafts, writer);
    if (!sample.drawn.bytes.empty()) temperature = sample.temperature;
  }
  std::string out =
      "<section>\n<h2>Text</h2>\n<p class=\"note\">The prompt is grey, and the model wrote the "
      "rest";
  out += drafts > 0 ? ": each byte has the colour of who wrote it." : ".";
  if (temperature > 0) {
    out += fmt::format(
        " “Most probable” takes the most probable byte each time: what decoding is measured on, "
        "and what sends a small model round in circles. “Drawn” takes each byte at random with the "
        "model's probabilities at temperature {:g}, with drafts as well, and shows better what it "
        "has learnt.",
        temperature);
  }
  out += "</p>\n";
  if (drafts > 0) {
    out +=
        "<ul class=\"legend\">\n"
        "<li><i style=\"border-color:var(--ink)\"></i>the trunk</li>\n";
    for (int k = 1; k <= drafts; ++k) {
      out += fmt::format("<li><i style=\"border-color:{}\"></i>draft {}, accepted</li>\n",
                         colour(static_cast<std::size_t>(k)),
                         k);
    }
    out += "</ul>\n";
  }
  for (const sample& sample : samples) {
    // The parser of HTML drops a newline right after <pre>, so there is one to drop.
    const std::string begin =
        "<pre>\n<span class=\"prompt\">" + escape(sample.prompt, open, close) + "</span>";
    const bool both = !sample.drawn.bytes.empty();
    out += "<div class=\"sample\">\n";
    if (both) out += "<p class=\"how\">Most probable</p>\n";
    out += begin + coloured(sample.text) + "</pre>\n";
    if (both) {
      out += "<p class=\"how\">Drawn</p>\n" + begin + coloured(sample.drawn) + "</pre>\n";
    }
    out += "</div>\n";
  }
  return out + "</section>\n";
}

}  // namespace detail

}  // namespace example
