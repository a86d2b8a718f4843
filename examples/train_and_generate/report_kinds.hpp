// The table of a report that sets head kinds side by side.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "markup.hpp"
#include "report_text.hpp"
#include "run_result.hpp"
#include "svg.hpp"

namespace example::detail {

inline std::string number_or_dash(double value, int decimals) {
  return std::isfinite(value) ? fmt::format("{:.{}f}", value, decimals) : "–";
}

/// "1,800" and, on a line of its own, "1,790 to 1,810".
inline std::string rate_cell(const measured& rate) {
  if (!is_speed(rate)) return "–";
  return fmt::format("{}<small>{} to {}</small>",
                     rate_number(rate.median),
                     rate_number(rate.lowest),
                     rate_number(rate.highest));
}

inline std::string kind_row(const run_result& kind) {
  const bool drafts = !kind.acceptance.empty();
  std::string speedup = "–";
  if (drafts && is_speed(kind.speedup)) {
    speedup = fmt::format("{}<small>{} to {}</small>",
                          ratio_text(kind.speedup.median),
                          ratio_text(kind.speedup.lowest),
                          ratio_text(kind.speedup.highest));
  }
  return fmt::format(
      "<tr><th scope=\"row\">{}{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>"
      "<td>{}</td><td>{}</td></tr>\n",
      escape(kind.head),
      kind.depth > 0 ? fmt::format(", depth {}", kind.depth) : "",
      grouped(static_cast<long>(kind.parameters)),
      grouped(kind.steps),
      number_or_dash(kind.validation, 3),
      drafts ? number_or_dash(kind.tokens_per_forward, 2) : "1",
      rate_cell(kind.plain_tokens_per_s),
      drafts ? rate_cell(kind.speculative_tokens_per_s) : "–",
      speedup);
}

/// Nothing unless there are two kinds to compare. Models without heads, the base, come first.
inline std::string kinds_section(std::vector<run_result> kinds) {
  if (kinds.size() < 2) return {};
  const auto with_heads = std::stable_partition(
      kinds.begin(), kinds.end(), [](const run_result& kind) { return kind.depth == 0; });
  const bool has_base = with_heads != kinds.begin();
  const bool same_steps = std::all_of(kinds.begin(), kinds.end(), [&](const run_result& kind) {
    return kind.steps == kinds.front().steps && kind.bytes_per_step == kinds.front().bytes_per_step;
  });
  std::string out =
      "<section>\n<h2>Head kinds side by side</h2>\n<p class=\"note\">The same trunk, trained on "
      "the same text";
  out += same_steps ? ", as many steps each. " : "; the steps are not the same. ";
  out += has_base
             ? "The base is the model without heads: its loss is what the heads have to bear "
               "comparison with. "
             : "No model was trained without heads: the base of each row is the plain decoding "
               "of its own trunk. ";
  out +=
      "Plain and speculative decoding of one row took turns, rows came one after the other: their "
      "speed-ups compare better than their speeds do.</p>\n"
      "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Head kinds side by "
      "side\">\n<table class=\"kinds\">\n<thead>\n<tr><th scope=\"col\">head</th>"
      "<th scope=\"col\">parameters</th><th scope=\"col\">steps</th>"
      "<th scope=\"col\">loss, nats per byte</th><th scope=\"col\">tokens per pass</th>"
      "<th scope=\"col\">plain, tokens/s</th><th scope=\"col\">speculative, tokens/s</th>"
      "<th scope=\"col\">speed-up</th></tr>\n</thead>\n<tbody>\n";
  for (const run_result& kind : kinds) out += kind_row(kind);
  out +=
      "</tbody>\n</table>\n</div>\n<p class=\"note below\">The loss is that of the next byte on "
      "text that training has never seen. Small figures: the slowest and the fastest "
      "round.</p>\n";
  return out + "</section>\n";
}

}  // namespace example::detail
