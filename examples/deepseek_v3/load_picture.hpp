// The load of each expert over the steps of a run, as a picture.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "mtp/core/error.hpp"

namespace example {

/// Collects the loads of one router's experts, step by step, and draws a line for each expert: its
/// load over the mean load, averaged over neighbouring steps.
class load_picture {
 public:
  /// Adds a step. loads [E]
  template <class Number>
  void add(const std::vector<Number>& loads) {
    const double mean = static_cast<double>(std::accumulate(loads.begin(), loads.end(), Number{})) /
                        static_cast<double>(loads.size());
    shares_.emplace_back();
    for (const Number load : loads) {
      shares_.back().push_back(mean > 0 ? static_cast<double>(load) / mean : 0);
    }
  }

  /// Writes the picture. Throws mtp::error if it cannot be written, and without any step.
  void write(const std::filesystem::path& path) const {
    mtp::check(!shares_.empty(), "load_picture: there is nothing to draw");
    const std::size_t count = (std::min<std::size_t>)(shares_.size(), points);
    std::string text =
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 300\" "
        "font-family=\"sans-serif\" font-size=\"12\">\n"
        "<title>The load of each expert over the mean, by step</title>\n"
        "<style>.page{fill:#fff}.line{stroke:#ddd}text{fill:#333}"
        "@media(prefers-color-scheme: dark){.page{fill:#111}.line{stroke:#444}text{fill:#ccc}}"
        "</style>\n<rect class=\"page\" width=\"720\" height=\"300\"/>\n";
    for (const double share : {0.0, 1.0, 2.0, 3.0, 4.0}) {
      const std::string y = number(height_of(share));
      text += "<path d=\"M50 " + y + "H700\" class=\"line\"/><text x=\"42\" y=\"" + y +
              "\" text-anchor=\"end\" dominant-baseline=\"middle\">" + number(share) + "</text>\n";
    }
    for (std::size_t e = 0; e < shares_.front().size(); ++e) {
      text += "<path fill=\"none\" stroke=\"hsl(" +
              std::to_string(360 * e / shares_.front().size()) + ",60%,45%)\" d=\"";
      for (std::size_t i = 0; i < count; ++i) {
        const std::size_t begin = i * shares_.size() / count;
        const std::size_t end = (i + 1) * shares_.size() / count;
        double sum = 0;
        for (std::size_t step = begin; step < end; ++step) sum += shares_[step][e];
        const double x = 50 + 650 * (static_cast<double>(i) + 0.5) / static_cast<double>(count);
        text += (i == 0 ? "M" : "L") + number(x) + " " +
                number(height_of((std::min)(sum / static_cast<double>(end - begin), 4.0)));
      }
      text += "\"/>\n";
    }
    text += "<text x=\"50\" y=\"294\">step 1</text><text x=\"700\" y=\"294\" text-anchor=\"end\">" +
            std::to_string(shares_.size()) + "</text></svg>\n";
    std::ofstream file(path);
    file << text;
    mtp::check(file.flush().good(), "load_picture: cannot write '", path.string(), "'");
  }

 private:
  static constexpr std::size_t points = 80;

  static double height_of(double share) { return 270 - 62 * share; }
  /// With one decimal.
  static std::string number(double value) {
    const auto tenths = static_cast<long>(value * 10 + 0.5);
    return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10);
  }

  std::vector<std::vector<double>> shares_;  // [steps][E]
};

}  // namespace example
