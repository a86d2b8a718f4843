// The report of a run as one HTML page that needs nothing else: no script, no font, no network.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "markup.hpp"
#include "measured.hpp"
#include "mtp/io/file.hpp"
#include "report_kinds.hpp"
#include "report_samples.hpp"
#include "report_text.hpp"
#include "run_result.hpp"
#include "svg.hpp"

namespace example {

/// What one step of training measured. Index d of a list belongs to depth d, which predicts byte
/// t+1+d. A list may be empty or shorter, and a value NaN: nothing is drawn there.
struct curve_point {
  long step = 0;
  std::vector<double> train_loss;       // nats per byte
  std::vector<double> val_loss;         // nats per byte
  std::vector<double> train_agreement;  // 0..1
};

struct report_data {
  std::string title;  // the page's name; the headline is result_sentence()
  std::string head;   // the kind of head
  int depth = 0;
  std::vector<std::pair<std::string, std::string>> facts;        // name, value
  std::vector<curve_point> curve;                                // by ascending step
  double validation = std::numeric_limits<double>::quiet_NaN();  // loss of the next byte, nats,
                                                                 // over all held-out text
  long validation_windows = 0;     // windows of each validation point of the curve; 0: all
  std::vector<double> acceptance;  // 0..1 per draft position; empty: the head does not draft
  measured plain_tokens_per_s, speculative_tokens_per_s;
  measured speedup;   // speculative over plain
  std::string basis;  // what all this was measured on, in sentences
  double tokens_per_forward = std::numeric_limits<double>::quiet_NaN();
  bool identical = false;         // speculative decoding wrote the same bytes as plain decoding
  std::vector<run_result> kinds;  // this run and those that it is compared with; or none
  std::vector<sample> samples;
};

/// The result in one sentence, without a full stop.
inline std::string result_sentence(const report_data& data);

/// The whole page.
inline std::string report_html(const report_data& data);

/// Writes the page. Throws mtp::error if that fails; an older report is then still whole.
inline void write_report(const std::filesystem::path& path, const report_data& data);

// ---- implementation -----------------------------------------------------------------------------
namespace detail {

inline constexpr std::string_view page_style = R"css(
* { box-sizing: border-box; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: 4.5rem 1.25rem 5rem; }
h1, h2 { font-family: Charter, "Bitstream Charter", "Iowan Old Style", "Palatino Linotype", Georgia,
  serif; font-weight: 600; text-wrap: balance; }
h1 { font-size: clamp(1.75rem, 5.4vw, 2.6rem); line-height: 1.18; letter-spacing: -.012em;
  margin: .6rem 0 0; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 0 0 .3rem; }
h3 { font-size: .95rem; font-weight: 600; margin: 0 0 .9rem; }
section { margin-top: 3.75rem; }
p { margin: 0; }
.kicker, .note, figcaption { color: var(--soft); font-size: .9rem; }
.note { max-width: 38rem; text-wrap: pretty; }
.figures { display: flex; flex-wrap: wrap; gap: 1.1rem 2.75rem; margin: 2.1rem 0 0; padding: 1.2rem 0 0;
  border-top: 1px solid var(--rule); }
.figures div { display: flex; flex-direction: column-reverse; }
.figures dt { color: var(--soft); font-size: .84rem; line-height: 1.4; }
.figures dd { margin: 0; font-size: 1.55rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.15rem; list-style: none; margin: 1rem 0 .9rem;
  padding: 0; font-size: .84rem; }
.legend li { display: flex; align-items: center; gap: .45rem; }
.legend i { width: 1.15rem; border-top: 3px solid; border-radius: 2px; }
.legend .key { color: var(--soft); }
.legend .key i { border-top-width: 1px; }
.legend .key i.thick { border-top-width: 3px; }
figure { margin: 0; }
figure + figure { margin-top: 2.5rem; }
.narrow { display: none; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 2.5rem 3.5rem; margin-top: 1.5rem; }
.pair figure + figure { margin-top: 0; }
.pair figcaption { margin-top: .9rem; }
pre { margin: 1rem 0 0; padding: 1rem 1.15rem; border: 1px solid var(--rule); border-radius: 6px;
  background: color-mix(in srgb, var(--track) 45%, transparent); white-space: pre-wrap;
  overflow-wrap: anywhere; tab-size: 4;
  font: .84rem/1.6 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre .prompt { color: var(--soft); }
pre .byte { opacity: .7; font-size: .86em; }
.sample { margin-top: 1.75rem; }
.how { color: var(--soft); font-size: .84rem; margin: .9rem 0 .35rem; }
.how + pre { margin-top: 0; }
.basis { margin-top: 1.2rem; }
table { width: 100%; border-collapse: collapse; margin-top: .9rem; font-size: .92rem; }
th, td { text-align: left; vertical-align: baseline; font-weight: 400; padding: .5rem 0;
  border-top: 1px solid var(--rule); overflow-wrap: anywhere; }
tr:last-child > * { border-bottom: 1px solid var(--rule); }
th { color: var(--soft); width: 36%; padding-right: 1.25rem; }
td { font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; margin-top: .9rem; }
.kinds { border-collapse: separate; border-spacing: 0; margin-top: 0; min-width: 40rem; font-size: .84rem; }
.kinds th, .kinds td { width: auto; padding: .5rem .75rem .5rem 0; text-align: right;
  overflow-wrap: normal; }
.kinds th:first-child { text-align: left; position: sticky; left: 0; background: var(--page); }
.kinds th:last-child, .kinds td:last-child { padding-right: 0; }
.kinds small { display: block; color: var(--soft); font-size: .85em; white-space: nowrap; }
.below { margin-top: .8rem; }
@media (max-width: 40rem) {
  main { padding-top: 2.25rem; padding-bottom: 3rem; }
  section { margin-top: 2.75rem; }
  .wide { display: none; }
  .narrow { display: block; }
  .pair { grid-template-columns: 1fr; }
  .figures { gap: 1rem 2rem; }
  .figures dd { font-size: 1.35rem; }
  pre { padding: .8rem .85rem; font-size: .78rem; }
}
@media print { main { padding-top: 0; } section, figure { break-inside: avoid; } }
)css";

using measurement = std::vector<double> curve_point::*;

inline chart_point value_at(const curve_point& point, measurement which, std::size_t depth) {
  const std::vector<double>& values = point.*which;
  return {static_cast<double>(point.step),
          depth < values.size() ? values[depth] : std::numeric_limits<double>::quiet_NaN()};
}

// Validation is rare: steps without it are left out, so that only a NaN makes a gap.
inline std::vector<chart_point> points_of(const std::vector<curve_point>& curve,
                                          measurement which,
                                          std::size_t depth) {
  std::vector<chart_point> points;
  for (const curve_point& point : curve) {
    if (!(point.*which).empty()) points.push_back(value_at(point, which, depth));
  }
  return points;
}

inline std::size_t depths_of(const std::vector<curve_point>& curve, measurement which) {
  std::size_t depths = 0;
  for (const curve_point& point : curve) depths = (std::max)(depths, (point.*which).size());
  return depths;
}

inline bool has_values(const std::vector<chart_point>& points) {
  return std::any_of(points.begin(), points.end(), [](const chart_point& point) {
    return std::isfinite(point.y);
  });
}

// The last finite value of depth 0, or NaN.
inline double last_value(const std::vector<curve_point>& curve, measurement which) {
  for (auto point = curve.rbegin(); point != curve.rend(); ++point) {
    const double value = value_at(*point, which, 0).y;
    if (std::isfinite(value)) return value;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

// A chart twice: for wide and for narrow pages. The style shows one of them.
inline std::string draw_twice(line_chart chart, int height) {
  chart.height = height;
  const std::string wide = draw(chart);
  if (wide.empty()) return {};
  chart.width = 360;
  chart.height = 290;
  return "<div class=\"wide\">\n" + wide + "</div>\n<div class=\"narrow\">\n" + draw(chart) +
         "</div>\n";
}

inline std::string legend(const line_chart& chart, bool has_train, bool has_validation) {
  std::string out = "<ul class=\"legend\">\n";
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    out += fmt::format(
        "<li><i style=\"border-color:{}\"></i>{}</li>\n", colour(i), escape(chart.series[i].name));
  }
  if (has_train) out += "<li class=\"key\"><i></i>training</li>\n";
  if (has_validation) out += "<li class=\"key\"><i class=\"thick\"></i>validation</li>\n";
  return out + "</ul>\n";
}

/// That of all held-out text, else the last one of the curve.
inline double validation_of(const report_data& data) {
  return std::isfinite(data.validation) ? data.validation
                                        : last_value(data.curve, &curve_point::val_loss);
}

/// Means of `group` neighbouring points each, at the step of the last one. Values that are not
/// finite do not count.
inline std::vector<chart_point> means(const std::vector<chart_point>& points, std::size_t group) {
  std::vector<chart_point> fewer;
  for (std::size_t begin = 0; begin < points.size(); begin += group) {
    const std::size_t end = (std::min)(begin + group, points.size());
    double sum = 0, finite = 0;
    for (std::size_t i = begin; i < end; ++i) {
      if (!std::isfinite(points[i].y)) continue;
      sum += points[i].y;
      ++finite;
    }
    fewer.push_back({points[end - 1].x, sum / finite});
  }
  return fewer;
}

inline std::string head_figures(const report_data& data) {
  std::vector<std::pair<std::string, std::string>> figures;
  const double validation = validation_of(data);
  const double training = last_value(data.curve, &curve_point::train_loss);
  if (std::isfinite(validation)) {
    figures.emplace_back("nats per byte, validation", fmt::format("{:.3f}", validation));
  } else if (std::isfinite(training)) {
    figures.emplace_back("nats per byte, training", fmt::format("{:.3f}", training));
  }
  if (!data.acceptance.empty() && std::isfinite(data.tokens_per_forward)) {
    figures.emplace_back("tokens per forward pass", fmt::format("{:.2f}", data.tokens_per_forward));
  }
  const measured& speed =
      data.acceptance.empty() ? data.plain_tokens_per_s : data.speculative_tokens_per_s;
  if (is_speed(speed)) {
    figures.emplace_back("tokens per second", rate_number(speed.median));
  }
  if (figures.empty()) return {};
  std::string out = "<dl class=\"figures\">\n";
  for (const auto& [name, value] : figures) {
    out += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", name, value);
  }
  return out + "</dl>\n";
}

inline std::string learning_section(const report_data& data) {
  line_chart loss;
  loss.x_label = "step";
  loss.y_label = "loss, nats per byte";
  line_chart agreement = loss;
  agreement.y_label = "agreement";
  agreement.style = number_style::percent;

  bool has_train = false, has_validation = false;
  double lowest = std::numeric_limits<double>::infinity(), highest = 0;
  const std::size_t depths = (std::max)({depths_of(data.curve, &curve_point::train_loss),
                                         depths_of(data.curve, &curve_point::val_loss),
                                         depths_of(data.curve, &curve_point::train_agreement)});
  constexpr std::size_t most_points = 160;  // more is noise
  const std::size_t group = (data.curve.size() + most_points - 1) / most_points;
  for (std::size_t d = 0; d < depths; ++d) {
    const std::string name = fmt::format("byte t+{}", d + 1);
    chart_series series{name,
                        means(points_of(data.curve, &curve_point::train_loss, d), group),
                        points_of(data.curve, &curve_point::val_loss, d)};
    has_train = has_train || has_values(series.thin);
    has_validation = has_validation || has_values(series.thick);
    for (const auto* points : {&series.thin, &series.thick}) {
      for (const chart_point& point : *points) {
        if (!std::isfinite(point.y)) continue;
        lowest = (std::min)(lowest, point.y);
        highest = (std::max)(highest, point.y);
      }
    }
    loss.series.push_back(std::move(series));
    agreement.series.push_back(
        {name, means(points_of(data.curve, &curve_point::train_agreement, d), group), {}});
  }
  loss.log_y = lowest > 0 && highest > 2.5 * lowest;
  loss.description =
      fmt::format("Loss in nats per byte over the steps of training, {}", count(depths, "depth"));
  agreement.description = "Agreement over the steps of training, for each depth";

  const std::string loss_picture = draw_twice(loss, 380);
  const std::string agreement_picture = draw_twice(agreement, 260);
  std::string out = "<section>\n<h2>Learning</h2>\n";
  if (loss_picture.empty() && agreement_picture.empty()) {
    return out + "<p class=\"note\">No curve was recorded in this run.</p>\n</section>\n";
  }
  if (depths > 1) {
    out += fmt::format(
        "<p class=\"note\">Each colour is one depth of prediction: t+1 is the next byte, t+{} the "
        "one farthest ahead.{}{} The numbers on the right are the last values.</p>\n",
        depths,
        data.head == "sequential" || data.head == "recurrent"
            ? " In training each depth also sees the true bytes before its own, and builds on the "
              "depth above it, so a deeper loss may be the lower one."
            : "",
        group > 1 ? fmt::format(" Training is drawn as means of {} steps.", group) : "");
  } else {
    out += "<p class=\"note\">The number on the right is the last value.</p>\n";
  }
  if (has_validation && data.validation_windows > 0 && std::isfinite(data.validation)) {
    out += fmt::format(
        "<p class=\"note\">Each validation point is the loss of {} held-out windows; the figure "
        "above, {:.3f}, is the loss of all of them.</p>\n",
        data.validation_windows,
        data.validation);
  }
  out += legend(loss, has_train, has_validation);
  if (!loss_picture.empty()) out += "<figure>\n" + loss_picture + "</figure>\n";
  if (!agreement_picture.empty()) {
    out +=
        "<figure>\n" + agreement_picture +
        "<figcaption>How often the most probable byte is the right one, in training.</figcaption>\n"
        "</figure>\n";
  }
  return out + "</section>\n";
}

inline std::string drafts_section(const report_data& data) {
  std::string out = "<section>\n<h2>Drafts</h2>\n";
  if (data.acceptance.empty()) {
    out += fmt::format(
        "<p class=\"note\">The {}head does not draft: text is written one token per "
        "forward pass",
        data.head.empty() ? "" : escape(data.head) + " ");
    if (is_speed(data.plain_tokens_per_s)) {
      out += ", " + rate_text(data.plain_tokens_per_s);
    }
    return out + ".</p>\n</section>\n";
  }

  out += data.identical ? "<p class=\"note\">Drafts only change the speed: the text is byte for "
                          "byte the one that "
                          "plain decoding writes.</p>\n"
                        : "<p class=\"note\">The text with drafts is not the one that plain "
                          "decoding writes.</p>\n";
  std::vector<bar> accepted;
  for (std::size_t i = 0; i < data.acceptance.size(); ++i) {
    const double share = data.acceptance[i];
    accepted.push_back({fmt::format("draft {}", i + 1),
                        std::isfinite(share) ? fmt::format("{:.1f}%", 100 * share) : "not measured",
                        share,
                        colour(i + 1)});
  }
  out += "<div class=\"pair\">\n<figure>\n<h3>Accepted, by position</h3>\n" +
         draw_bars(accepted, 1, "Share of the drafts that were accepted, for each position") +
         "</figure>\n";

  const measured &plain = data.plain_tokens_per_s, &drafted = data.speculative_tokens_per_s;
  const std::vector<bar> speeds = {{"plain", rate_text(plain), plain.median, "var(--soft)"},
                                   {"with " + count(data.acceptance.size(), "draft"),
                                    rate_text(drafted),
                                    drafted.median,
                                    colour(0)}};
  double full = 0;
  for (const double speed : {plain.median, drafted.median}) {
    if (std::isfinite(speed)) full = (std::max)(full, speed);
  }
  out += fmt::format("<figure>\n<h3>Speed{}</h3>\n",
                     is_speed(data.speedup) ? ", " + ratio_text(data.speedup) : "");
  out += draw_bars(speeds, full, "Tokens per second, plain and with drafts");
  if (std::isfinite(data.tokens_per_forward)) {
    out +=
        fmt::format("<figcaption>Each forward pass wrote {:.2f} tokens on average.</figcaption>\n",
                    data.tokens_per_forward);
  }
  return out + "</figure>\n</div>\n</section>\n";
}

inline std::string facts_section(const report_data& data) {
  if (data.facts.empty()) return {};
  std::string out = "<section>\n<h2>Run</h2>\n<table>\n<tbody>\n";
  for (const auto& [name, value] : data.facts) {
    out +=
        fmt::format("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", escape(name), escape(value));
  }
  return out + "</tbody>\n</table>\n</section>\n";
}

}  // namespace detail

inline std::string result_sentence(const report_data& data) {
  if (data.acceptance.empty()) {
    const double validation = detail::validation_of(data);
    const double training = detail::last_value(data.curve, &curve_point::train_loss);
    if (std::isfinite(validation)) {
      return fmt::format("Predicts unseen text with {:.2f} nats per byte", validation);
    }
    if (std::isfinite(training)) {
      return fmt::format("Predicts its training text with {:.2f} nats per byte", training);
    }
    return "Wrote text one token at a time";
  }
  const std::string drafts = detail::count(data.acceptance.size(), "draft");
  const std::string_view same =
      data.identical ? ", byte for byte the same text" : ", but not the same text";
  const measured& ratio = data.speedup;
  if (!detail::is_speed(ratio)) return fmt::format("Wrote with {}{}", drafts, same);
  if (ratio.lowest >= 1.05) {
    return fmt::format("Wrote {} as fast with {}{}", detail::ratio_text(ratio), drafts, same);
  }
  if (ratio.highest < 0.95) {
    return fmt::format(
        "Wrote at {} the plain speed with {}{}", detail::ratio_text(ratio), drafts, same);
  }
  return fmt::format("Wrote about as fast with {} as without{}", drafts, same);
}

inline std::string report_html(const report_data& data) {
  const std::string headline = escape(result_sentence(data));
  std::string kicker = escape(data.title);
  if (!data.head.empty()) {
    kicker += fmt::format(
        "{}{} head, depth {}", kicker.empty() ? "" : " · ", escape(data.head), data.depth);
  }
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n";
  out += fmt::format("<title>{}</title>\n<style>{}{}</style>\n</head>\n<body>\n<main>\n<header>\n",
                     data.title.empty() ? headline : escape(data.title),
                     chart_style,
                     detail::page_style);
  if (!kicker.empty()) out += "<p class=\"kicker\">" + kicker + "</p>\n";
  out += "<h1>" + headline + "</h1>\n" + detail::head_figures(data);
  if (!data.basis.empty()) out += "<p class=\"note basis\">" + escape(data.basis) + "</p>\n";
  out += "</header>\n";
  out += detail::learning_section(data) + detail::drafts_section(data) +
         detail::kinds_section(data.kinds) + detail::samples_section(data.samples) +
         detail::facts_section(data);
  return out + "</main>\n</body>\n</html>\n";
}

inline void write_report(const std::filesystem::path& path, const report_data& data) {
  const std::string page = report_html(data);
  mtp::io::atomic_file file(path);
  file.write(std::as_bytes(std::span(page)));
  file.commit();
}

}  // namespace example
