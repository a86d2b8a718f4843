// How a report writes its figures.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>

#include "measured.hpp"
#include "svg.hpp"

namespace example::detail {

inline std::string count(std::size_t number, std::string_view noun) {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s");
}

inline std::string ratio_text(double ratio) {
  if (ratio >= 99.5) return fmt::format("{:.0f}×", ratio);
  return fmt::format("{:.{}f}×", ratio, ratio < 0.995 ? 2 : 1);
}

/// One ratio where the spread does not show in it, else both ends: "1.8×" or "1.6× to 1.9×".
inline std::string ratio_text(const measured& ratio) {
  const std::string low = ratio_text(ratio.lowest), high = ratio_text(ratio.highest);
  return low == high ? low : low + " to " + high;
}

/// Of a finite number of at least 0.
inline std::string rate_number(double per_second) {
  if (per_second < 99.5) return fmt::format("{:.1f}", per_second);
  if (per_second >= 1e15) return fmt::format("{:.3g}", per_second);
  return grouped(std::lround(per_second));
}

inline std::string rate_text(double per_second) {
  if (!std::isfinite(per_second) || per_second < 0) return "not measured";
  return rate_number(per_second) + " tokens/s";
}

inline std::string rate_text(const measured& rate) {
  const std::string text = rate_text(rate.median);
  if (!rate.is_known() || rate.lowest == rate.highest) return text;
  return text + " (" + rate_number(rate.lowest) + " to " + rate_number(rate.highest) + ")";
}

inline bool is_speed(const measured& speed) {
  return speed.is_known() && speed.median > 0;
}

}  // namespace example::detail
