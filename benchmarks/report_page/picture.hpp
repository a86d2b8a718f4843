// Pictures as files of their own: a chart with a legend, on a page of its own colour, so that it
// can be read on a light and on a dark background.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include "svg.hpp"

namespace report {

inline void write_file(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file << text;
  if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
}

/// Writes the chart, or nothing where it is empty. Returns whether it was written.
inline bool write_picture(const std::filesystem::path& path, const example::line_chart& chart) {
  std::string drawn = example::draw(chart);
  if (drawn.empty()) return false;
  constexpr int margin = 16, legend = 28;
  const int width = chart.width + 2 * margin, height = chart.height + legend + 2 * margin;
  std::string picture = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\">\n<style>{2}\nsvg.chart {{ width: {3}px; height: {4}px; }}\n"
      ".legend {{ font: 600 13px system-ui, -apple-system, \"Segoe UI\", Roboto, sans-serif; }}\n"
      "</style>\n<rect width=\"{0}\" height=\"{1}\" style=\"fill:var(--page)\"/>\n"
      "<text class=\"legend\" x=\"{5}\" y=\"{6}\">",
      width,
      height,
      example::chart_style,
      chart.width,
      chart.height,
      margin,
      margin + 12);
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    picture += fmt::format("<tspan style=\"fill:{}\"{}>{}</tspan>",
                           example::colour(i),
                           i == 0 ? "" : " dx=\"22\"",
                           example::escape(chart.series[i].name));
  }
  const std::string_view opening = "<svg class=\"chart\"";
  drawn.replace(0,
                opening.size(),
                fmt::format("{} x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"",
                            opening,
                            margin,
                            margin + legend,
                            chart.width,
                            chart.height));
  write_file(path, picture + "</text>\n" + drawn + "</svg>\n");
  return true;
}

}  // namespace report
