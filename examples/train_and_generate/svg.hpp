// Charts as inline SVG: curves over steps, and horizontal bars. Colours come from chart_style.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "markup.hpp"

namespace example {

/// The palette and the look of the charts, for the <style> of the page that holds them. Line
/// colours follow Okabe and Ito's, which stay apart for colour-blind eyes; they are lighter on a
/// dark page.
inline constexpr std::string_view chart_style = R"css(
:root {
  --page: #fdfcfa; --ink: #22262b; --soft: #676d75; --rule: #e4e1db; --track: #efece6;
  --c0: #0072b2; --c1: #d55e00; --c2: #008f68; --c3: #b8578c; --c4: #a87400; --c5: #4d525b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #16181b; --ink: #e6e3dd; --soft: #989ea6; --rule: #2d3136; --track: #24282c;
    --c0: #56b4e9; --c1: #f08a4b; --c2: #2fc498; --c3: #dc8fba; --c4: #e6ab2e; --c5: #c4c0b8;
  }
}
svg.chart { display: block; width: 100%; height: auto; overflow: visible; }
svg.chart text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  font-variant-numeric: tabular-nums; fill: var(--soft); }
svg.chart .grid { stroke: var(--rule); stroke-width: 1; }
svg.chart .axis { stroke: var(--soft); stroke-width: 1; opacity: .55; }
svg.chart .thin { fill: none; stroke-width: 1.1; opacity: .8; stroke-linejoin: round; }
svg.chart .thick { fill: none; stroke-width: 2.25; stroke-linejoin: round; stroke-linecap: round; }
svg.chart .dot { stroke: var(--page); stroke-width: 1.25; }
svg.chart .track { fill: var(--track); }
svg.chart text.value { fill: var(--ink); font-weight: 600; }
svg.chart text.name { fill: var(--ink); font-size: 13px; }
)css";

/// The CSS colour of a series; after six the palette starts again.
inline std::string colour(std::size_t index) {
  return fmt::format("var(--c{})", index % 6);
}

struct chart_point {
  double x, y;  // y that is not finite is a gap
};

/// One colour: a thin line of many noisy points and a thick one, with dots, of a few sure ones.
struct chart_series {
  std::string name;
  std::vector<chart_point> thin, thick;  // by ascending x; either may be empty
};

enum class number_style { plain, percent };

struct line_chart {
  std::string description;  // for those who do not see the picture
  std::string x_label, y_label;
  number_style style = number_style::plain;
  bool log_y = false;  // only where all values are positive; otherwise linear
  bool log_x = false;  // likewise; with a tick at each power of two
  int width = 720, height = 360;
  std::vector<chart_series> series;
};

struct bar {
  std::string name, value;  // as text
  double length;            // not finite or negative: no bar
  std::string colour;       // of CSS
};

/// The picture as one <svg> element; empty where no series has a point with a finite y.
inline std::string draw(const line_chart& chart);

/// One bar below the other on a track of length `full`. Empty where there is no bar.
inline std::string draw_bars(const std::vector<bar>& bars,
                             double full,
                             std::string_view description,
                             int width = 336);

/// Round values from lo to hi, about `count` of them, `least` or more apart.
inline std::vector<double> nice_ticks(double lo, double hi, int count, double least = 0);

/// Round values for a logarithmic axis, 0 < lo < hi; falls back to nice_ticks for a narrow range.
inline std::vector<double> log_ticks(double lo, double hi, int count);

/// 1234567 as "1,234,567".
inline std::string grouped(long value);

// ---- implementation -----------------------------------------------------------------------------
inline std::string grouped(long value) {
  const std::string digits = fmt::format("{}", value);
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const bool after_digit = i > 0 && digits[i - 1] != '-';
    if (after_digit && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

inline std::vector<double> nice_ticks(double lo, double hi, int count, double least) {
  std::vector<double> ticks;
  if (!(lo < hi) || !std::isfinite(hi - lo)) return {lo};
  const double rough = (std::max)((hi - lo) / (std::max)(count, 1), least);
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 2.5, 5.0}) {
    const bool whole = least < 1 || std::floor(factor * power) == factor * power;
    if (whole && factor * power >= rough * (1 - 1e-9)) {
      step = factor * power;
      break;
    }
  }
  const double slack = step * 1e-9;
  for (double i = std::ceil((lo - slack) / step); i * step <= hi + slack; ++i) {
    ticks.push_back(i == 0 ? 0 : i * step);  // not -0
  }
  return ticks;
}

inline std::vector<double> log_ticks(double lo, double hi, int count) {
  const std::vector<std::vector<double>> ladders = {
      {1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9},
      {1, 1.5, 2, 3, 4, 5, 7},
      {1, 2, 5},
      {1}};
  for (const auto& ladder : ladders) {
    std::vector<double> ticks;
    for (double k = std::floor(std::log10(lo)); k <= std::ceil(std::log10(hi)); ++k) {
      for (const double factor : ladder) {
        const double value = factor * std::pow(10.0, k);
        if (value >= lo * (1 - 1e-9) && value <= hi * (1 + 1e-9)) ticks.push_back(value);
      }
    }
    if (static_cast<int>(ticks.size()) < 3) break;
    if (static_cast<int>(ticks.size()) <= count) return ticks;
  }
  return nice_ticks(lo, hi, count);
}

namespace detail {

inline std::string attribute(double value) {
  std::string text = fmt::format("{:.1f}", value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text == "-0" ? "0" : text;
}

// At least as many digits as tell the ticks apart.
inline std::string tick_text(double value, const std::vector<double>& ticks, number_style style) {
  if (style == number_style::percent) return fmt::format("{:g}%", std::round(value * 1e4) / 100);
  int digits = 0;
  for (const double tick : ticks) {
    int needed = 0;
    for (double scale = 1;
         needed < 6 && std::abs(std::round(tick * scale) / scale - tick) > 1e-7 * std::abs(tick);
         scale *= 10) {
      ++needed;
    }
    digits = (std::max)(digits, needed);
  }
  const double magnitude = std::abs(value);
  if (magnitude >= 1e9) return fmt::format("{:g}", value);
  if (digits == 0) return grouped(std::lround(value));
  return fmt::format("{:.{}f}", value, digits);
}

inline std::string value_text(double value, number_style style) {
  if (style == number_style::percent) return fmt::format("{:.1f}%", value * 100);
  return std::abs(value) < 1000 ? fmt::format("{:.2f}", value) : fmt::format("{:.3g}", value);
}

// Keeps per column of the picture the lowest and the highest point and a gap, if it has one: what
// a line through all points would cover.
inline std::vector<chart_point> thinned(const std::vector<chart_point>& points, int columns) {
  const auto limit = static_cast<std::size_t>(columns);
  if (points.size() <= 3 * limit) return points;
  std::vector<chart_point> kept;
  for (std::size_t column = 0; column < limit; ++column) {
    const std::size_t begin = points.size() * column / limit;
    const std::size_t end = points.size() * (column + 1) / limit;
    constexpr auto none = std::numeric_limits<std::size_t>::max();
    std::size_t low = none, high = none, gap = none;
    for (std::size_t i = begin; i < end; ++i) {
      if (!std::isfinite(points[i].y)) {
        gap = i;
        continue;
      }
      if (low == none || points[i].y < points[low].y) low = i;
      if (high == none || points[i].y > points[high].y) high = i;
    }
    std::vector<std::size_t> chosen;
    for (const std::size_t i : {low, high, gap}) {
      if (i != none) chosen.push_back(i);
    }
    std::sort(chosen.begin(), chosen.end());
    chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
    for (const std::size_t i : chosen) kept.push_back(points[i]);
  }
  return kept;
}

struct range {
  double lo = std::numeric_limits<double>::infinity();
  double hi = -std::numeric_limits<double>::infinity();

  void include(double value) {
    lo = (std::min)(lo, value);
    hi = (std::max)(hi, value);
  }
};

// Moves the labels apart so that neighbours are `distance` or more apart and all are within [lo,
// hi], as far as there is room.
inline void spread(std::vector<double>& positions, double distance, double lo, double hi) {
  std::vector<std::size_t> order(positions.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return positions[a] < positions[b];
  });
  double bound = lo;
  for (const std::size_t i : order) {
    positions[i] = (std::max)(positions[i], bound);
    bound = positions[i] + distance;
  }
  bound = hi;
  for (auto i = order.rbegin(); i != order.rend(); ++i) {
    positions[*i] = (std::min)(positions[*i], bound);
    bound = positions[*i] - distance;
  }
}

// A polyline per run of finite values; a run of one point is a dot.
template <class X, class Y>
std::string polylines(const std::vector<chart_point>& points,
                      std::string_view shape,
                      std::string_view colour,
                      X&& x,
                      Y&& y) {
  std::string out, run;
  std::size_t length = 0;
  chart_point last{};
  const auto finish = [&] {
    if (length > 1) {
      out += fmt::format(
          "<polyline class=\"{}\" style=\"stroke:{}\" points=\"{}\"/>\n", shape, colour, run);
    } else if (length == 1) {
      out += fmt::format("<circle class=\"{}\" style=\"fill:{}\" cx=\"{}\" cy=\"{}\" r=\"2\"/>\n",
                         shape,
                         colour,
                         attribute(x(last.x)),
                         attribute(y(last.y)));
    }
    run.clear();
    length = 0;
  };
  for (const chart_point& point : points) {
    if (!std::isfinite(point.x) || !std::isfinite(point.y)) {
      finish();
      continue;
    }
    if (length != 0) run += ' ';
    run += attribute(x(point.x)) + ',' + attribute(y(point.y));
    last = point;
    ++length;
  }
  finish();
  return out;
}

}  // namespace detail

inline std::string draw(const line_chart& chart) {
  detail::range xs, ys;
  for (const chart_series& series : chart.series) {
    for (const auto* points : {&series.thin, &series.thick}) {
      for (const chart_point& point : *points) {
        if (!std::isfinite(point.x) || !std::isfinite(point.y)) continue;
        xs.include(point.x);
        ys.include(point.y);
      }
    }
  }
  if (!(xs.lo <= xs.hi)) return {};

  const bool log_y = chart.log_y && ys.lo > 0;
  const double room = chart.height / 60.0;
  if (chart.style == number_style::percent) {
    ys.include(0);
    ys.include(1);
  }
  const bool log_x = chart.log_x && xs.lo > 0;
  if (!log_x && xs.lo > 0 && xs.lo < 0.1 * xs.hi) xs.lo = 0;
  if (xs.lo == xs.hi) xs = {xs.lo - 1, xs.hi + 1};
  if (ys.hi - ys.lo <= 1e-9 * std::abs(ys.hi)) {
    const double margin = ys.hi == 0 ? 1 : 0.1 * std::abs(ys.hi);
    ys = {ys.lo - margin, ys.hi + margin};
  }
  const auto scaled = [log_y](double value) { return log_y ? std::log(value) : value; };
  if (chart.style == number_style::plain) {  // a little air below and above the curves
    const double air = 0.04 * (scaled(ys.hi) - scaled(ys.lo));
    ys = log_y
             ? detail::range{ys.lo * std::exp(-air), ys.hi * std::exp(air)}
             : detail::range{ys.lo >= 0 ? (std::max)(ys.lo - air, 0.0) : ys.lo - air, ys.hi + air};
  }
  const int y_count = (std::max)(3, static_cast<int>(room * 1.4));
  const std::vector<double> y_ticks =
      log_y ? log_ticks(ys.lo, ys.hi, y_count) : nice_ticks(ys.lo, ys.hi, y_count);
  std::vector<double> x_ticks;
  if (log_x) {
    for (double tick = std::exp2(std::ceil(std::log2(xs.lo))); tick <= xs.hi; tick *= 2) {
      x_ticks.push_back(tick);
    }
  } else {
    x_ticks = nice_ticks(xs.lo, xs.hi, (std::max)(4, chart.width / 100), 1);
  }
  const auto along = [log_x](double value) { return log_x ? std::log(value) : value; };

  std::size_t widest = 0;
  for (const double tick : y_ticks) {
    widest = (std::max)(widest, detail::tick_text(tick, y_ticks, chart.style).size());
  }
  const double left = 12 + 7.5 * static_cast<double>(widest);
  const double right = chart.width - 52.0, top = 30, bottom = chart.height - 42.0;
  const auto x = [&](double value) {
    return left + (along(value) - along(xs.lo)) / (along(xs.hi) - along(xs.lo)) * (right - left);
  };
  const auto y = [&](double value) {
    return bottom -
           (scaled(value) - scaled(ys.lo)) / (scaled(ys.hi) - scaled(ys.lo)) * (bottom - top);
  };
  const auto at = [](double value) { return detail::attribute(value); };

  std::string out = fmt::format(
      "<svg class=\"chart\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" "
      "role=\"img\" "
      "aria-label=\"{}\">\n",
      chart.width,
      chart.height,
      escape(chart.description));

  // The grid and its numbers.
  for (const double tick : y_ticks) {
    out += fmt::format("<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>\n",
                       at(left),
                       at(right),
                       at(y(tick)),
                       at(y(tick)));
    out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n",
                       at(left - 8),
                       at(y(tick) + 4),
                       detail::tick_text(tick, y_ticks, chart.style));
  }
  out += fmt::format("<line class=\"axis\" x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>\n",
                     at(left),
                     at(right),
                     at(bottom),
                     at(bottom));
  for (const double tick : x_ticks) {
    out += fmt::format("<line class=\"axis\" x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>\n",
                       at(x(tick)),
                       at(x(tick)),
                       at(bottom),
                       at(bottom + 4));
    out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                       at(x(tick)),
                       at(bottom + 18),
                       detail::tick_text(tick, x_ticks, number_style::plain));
  }
  out += fmt::format(
      "<text x=\"0\" y=\"12\">{}{}</text>\n", escape(chart.y_label), log_y ? " (logarithmic)" : "");
  out += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n",
                     at(right),
                     at(bottom + 36),
                     escape(chart.x_label));

  // The curves: all thin ones below all thick ones.
  const int columns = static_cast<int>(right - left);
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    out +=
        detail::polylines(detail::thinned(chart.series[i].thin, columns), "thin", colour(i), x, y);
  }
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const auto& points = chart.series[i].thick;
    out += detail::polylines(detail::thinned(points, columns), "thick", colour(i), x, y);
    if (points.size() > static_cast<std::size_t>(columns / 12)) continue;
    for (const chart_point& point : points) {
      if (!std::isfinite(point.x) || !std::isfinite(point.y)) continue;
      out += fmt::format(
          "<circle class=\"dot\" style=\"fill:{}\" cx=\"{}\" cy=\"{}\" r=\"3.5\">"
          "<title>{}, {} {}: {}</title></circle>\n",
          colour(i),
          at(x(point.x)),
          at(y(point.y)),
          escape(chart.series[i].name),
          escape(chart.x_label),
          point.x,
          detail::value_text(point.y, chart.style));
    }
  }

  // The last value of each series, right of the curves.
  std::vector<double> heights;
  std::vector<std::pair<std::size_t, double>> labels;
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const chart_series& series = chart.series[i];
    const bool has_thick = std::any_of(series.thick.begin(),
                                       series.thick.end(),
                                       [](const auto& point) { return std::isfinite(point.y); });
    const auto& points = has_thick ? series.thick : series.thin;
    const auto last = std::find_if(
        points.rbegin(), points.rend(), [](const auto& point) { return std::isfinite(point.y); });
    if (last == points.rend()) continue;
    heights.push_back(y(last->y));
    labels.emplace_back(i, last->y);
  }
  detail::spread(heights, 14, top, bottom);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    out += fmt::format("<text x=\"{}\" y=\"{}\" style=\"fill:{};font-weight:600\">{}</text>\n",
                       at(right + 8),
                       at(heights[i] + 4),
                       colour(labels[i].first),
                       detail::value_text(labels[i].second, chart.style));
  }
  return out + "</svg>\n";
}

inline std::string draw_bars(const std::vector<bar>& bars,
                             double full,
                             std::string_view description,
                             int width) {
  if (bars.empty()) return {};
  constexpr double row = 46, thickness = 12;
  const auto at = [](double value) { return detail::attribute(value); };
  std::string out = fmt::format(
      "<svg class=\"chart\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" "
      "role=\"img\" "
      "aria-label=\"{}\">\n",
      width,
      at(row * static_cast<double>(bars.size()) - 8),
      escape(description));
  for (std::size_t i = 0; i < bars.size(); ++i) {
    const double top = row * static_cast<double>(i);
    const double share = full > 0 && std::isfinite(bars[i].length) ? bars[i].length / full : 0;
    const double length = width * std::clamp(share, 0.0, 1.0);
    out += fmt::format(
        "<text class=\"name\" x=\"0\" y=\"{}\">{}</text>\n", at(top + 14), escape(bars[i].name));
    out += fmt::format("<text class=\"value\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n",
                       width,
                       at(top + 14),
                       escape(bars[i].value));
    out += fmt::format(
        "<rect class=\"track\" x=\"0\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"2\"/>\n",
        at(top + 22),
        width,
        at(thickness));
    if (length > 0) {
      out += fmt::format(
          "<rect style=\"fill:{}\" x=\"0\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"2\"/>\n",
          bars[i].colour,
          at(top + 22),
          at(length),
          at(thickness));
    }
  }
  return out + "</svg>\n";
}

}  // namespace example
