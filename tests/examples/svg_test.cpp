#include "train_and_generate/svg.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "examples/tags.hpp"

namespace examples_svg_cases {

using test::contains;
using test::count;
using test::markup_fault;
using ticks = std::vector<double>;

namespace {

constexpr double unknown_value = std::numeric_limits<double>::quiet_NaN();

example::line_chart falling_curve(int points) {
  example::line_chart chart;
  chart.description = "a <curve>";
  chart.x_label = "step";
  chart.y_label = "nats & more";
  example::chart_series series{"first", {}, {}};
  for (int i = 0; i < points; ++i) series.thin.push_back({10.0 * i, 1 + 4 * std::exp(-0.1 * i)});
  chart.series.push_back(series);
  return chart;
}

void check_ticks(const ticks& found, const ticks& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) CHECK(found[i] == doctest::Approx(expected[i]));
}

}  // namespace

TEST_CASE("escape shows unsafe bytes and keeps the rest") {
  using example::escape;
  CHECK(escape("") == "");
  CHECK(escape("a<b>&\"'") == "a&lt;b&gt;&amp;&quot;&#39;");
  CHECK(escape("x\n\ty") == "x\n\ty");
  CHECK(escape("\r\x1b[0m\x7f") == "\\x0d\\x1b[0m\\x7f");
  CHECK(escape(std::string("a\0b", 3)) == "a\\x00b");
  CHECK(escape("na\xc3\xafve \xe2\x82\xac \xf0\x9f\x99\x82") ==
        "na\xc3\xafve \xe2\x82\xac \xf0\x9f\x99\x82");
}

TEST_CASE("escape refuses what only looks like UTF-8") {
  using example::escape;
  CHECK(escape("\xff") == "\\xff");
  CHECK(escape("\xc3") == "\\xc3");                             // cut off
  CHECK(escape("\xc3(") == "\\xc3(");                           // not a continuation
  CHECK(escape("\x80") == "\\x80");                             // a continuation alone
  CHECK(escape("\xc0\xbc") == "\\xc0\\xbc");                    // overlong <
  CHECK(escape("\xe0\x80\xbc") == "\\xe0\\x80\\xbc");           // overlong <
  CHECK(escape("\xed\xa0\x80") == "\\xed\\xa0\\x80");           // surrogate
  CHECK(escape("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");  // above 10ffff
  CHECK(escape("\xc2\x85") == "\\xc2\\x85");                    // control character
  CHECK(escape("\xe2\x80\xae") == "\\xe2\\x80\\xae");           // right to left override
  CHECK(escape("\xef\xbf\xbf") == "\\xef\\xbf\\xbf");           // noncharacter
}

TEST_CASE("escape puts markup around runs of bytes") {
  CHECK(example::escape("a\x01\x02<\x03", "[", "]") == "a[\\x01\\x02]&lt;[\\x03]");
}

TEST_CASE("ticks are round") {
  check_ticks(example::nice_ticks(0, 4000, 4), {0, 1000, 2000, 3000, 4000});
  check_ticks(example::nice_ticks(0.13, 0.71, 6), {0.2, 0.3, 0.4, 0.5, 0.6, 0.7});
  check_ticks(example::nice_ticks(-1, 1, 4), {-1, -0.5, 0, 0.5, 1});
  check_ticks(example::nice_ticks(0, 2, 8, 1), {0, 1, 2});  // steps are whole
  check_ticks(example::nice_ticks(3, 3, 5), {3});
  check_ticks(example::log_ticks(1.2, 5.6, 8), {1.5, 2, 3, 4, 5});
  check_ticks(example::log_ticks(0.9, 120, 8), {1, 2, 5, 10, 20, 50, 100});
}

TEST_CASE("numbers are grouped by thousands") {
  CHECK(example::grouped(0) == "0");
  CHECK(example::grouped(999) == "999");
  CHECK(example::grouped(1000) == "1,000");
  CHECK(example::grouped(-1234567) == "-1,234,567");
  CHECK(example::grouped(-123) == "-123");
}

TEST_CASE("a chart is well formed and names its axes") {
  for (const bool log_y : {false, true}) {
    for (const int width : {720, 360}) {
      example::line_chart chart = falling_curve(50);
      chart.log_y = log_y;
      chart.width = width;
      const std::string svg = draw(chart);
      CHECK(markup_fault(svg) == "");
      CHECK(contains(svg, "a &lt;curve&gt;"));
      CHECK(contains(svg, "nats &amp; more"));
      CHECK(contains(svg, ">step<"));
      CHECK(contains(svg, "(logarithmic)") == log_y);
      CHECK(count(svg, "<polyline") == 1);
      CHECK(count(svg, "class=\"grid\"") >= 3);
      CHECK(contains(svg, ">1.03<"));  // the last value
    }
  }
}

TEST_CASE("a chart without a finite value is empty") {
  CHECK(draw(example::line_chart{}) == "");
  example::line_chart chart = falling_curve(0);
  chart.series[0].thin = {{1, unknown_value}, {2, std::numeric_limits<double>::infinity()}};
  CHECK(draw(chart) == "");
}

TEST_CASE("a chart of one point shows it as a dot") {
  for (const double value : {0.0, 2.5, -3.0}) {
    example::line_chart chart = falling_curve(0);
    chart.series[0].thin = {{100, value}};
    const std::string svg = draw(chart);
    CHECK(markup_fault(svg) == "");
    CHECK(count(svg, "<polyline") == 0);
    CHECK(count(svg, "<circle") == 1);
    CHECK_FALSE(contains(svg, "nan"));
    CHECK_FALSE(contains(svg, "inf"));
  }
}

TEST_CASE("NaN is a gap") {
  example::line_chart chart = falling_curve(20);
  chart.series[0].thin[10].y = unknown_value;
  const std::string svg = draw(chart);
  CHECK(markup_fault(svg) == "");
  CHECK(count(svg, "<polyline") == 2);
  CHECK_FALSE(contains(svg, "nan"));
}

TEST_CASE("a logarithmic chart of values that are not positive is linear") {
  example::line_chart chart = falling_curve(5);
  chart.log_y = true;
  chart.series[0].thin[2].y = 0;
  const std::string svg = draw(chart);
  CHECK_FALSE(contains(svg, "(logarithmic)"));
  CHECK_FALSE(contains(svg, "nan"));
}

TEST_CASE("a chart over powers of two has a tick at each, equally far apart") {
  example::line_chart chart = falling_curve(0);
  for (const double x : {32.0, 64.0, 128.0, 256.0}) chart.series[0].thick.push_back({x, x});
  for (const bool log_x : {false, true}) {
    chart.log_x = log_x;
    const std::string svg = draw(chart);
    CHECK(markup_fault(svg) == "");
    CHECK(contains(svg, ">32<") == log_x);
    std::vector<double> at;
    const std::string before = "cx=\"";
    for (std::size_t i = svg.find(before); i != std::string::npos; i = svg.find(before, i + 1)) {
      at.push_back(std::stod(svg.substr(i + before.size())));
    }
    REQUIRE(at.size() == 4);
    CHECK((std::abs((at[1] - at[0]) - (at[3] - at[2])) < 0.2) == log_x);
  }
}

TEST_CASE("many points are thinned to what is visible") {
  std::vector<example::chart_point> points;
  for (int i = 0; i < 100000; ++i) points.push_back({1.0 * i, std::sin(i * 0.7)});
  points[54321].y = 9;
  points[12345].y = unknown_value;
  const auto thin = example::detail::thinned(points, 500);
  CHECK(thin.size() <= 1500);
  double highest = 0, before = -1;
  int gaps = 0;
  for (const auto& point : thin) {
    CHECK(point.x > before);
    before = point.x;
    if (std::isnan(point.y)) ++gaps;
    if (point.y > highest) highest = point.y;
  }
  CHECK(gaps == 1);
  CHECK(highest == 9);
}

TEST_CASE("labels move apart and stay inside") {
  std::vector<double> heights = {50, 52, 10, 51, 99};
  example::detail::spread(heights, 14, 0, 100);
  CHECK(heights == std::vector<double>{50, 78, 10, 64, 99});
  heights = {100, 100, 100};
  example::detail::spread(heights, 14, 0, 100);
  CHECK(heights == std::vector<double>{72, 86, 100});
}

TEST_CASE("bars are well formed and within the track") {
  const std::string svg = example::draw_bars({{"a<", "50%", 0.5, "red"},
                                              {"b", "200%", 2, "red"},
                                              {"c", "none", unknown_value, "red"},
                                              {"d", "less", -1, "red"}},
                                             1,
                                             "bars & more",
                                             300);
  CHECK(markup_fault(svg) == "");
  CHECK(contains(svg, "a&lt;"));
  CHECK(count(svg, "class=\"track\"") == 4);
  CHECK(count(svg, "fill:red") == 2);
  CHECK(contains(svg, "width=\"150\""));
  CHECK_FALSE(contains(svg, "width=\"600\""));
  CHECK(example::draw_bars({}, 1, "none") == "");
  CHECK(markup_fault(example::draw_bars({{"a", "0", 0, "red"}}, 0, "nothing")) == "");
}

}  // namespace examples_svg_cases
