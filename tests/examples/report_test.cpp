#include "train_and_generate/report.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <string>

#include "examples/folder.hpp"
#include "examples/tags.hpp"
#include "io/scratch.hpp"

namespace examples_report_cases {

using example::report_data;
using example::report_html;
using example::result_sentence;
using test::contains;
using test::count;
using test::markup_fault;

namespace {

constexpr double unknown_value = std::numeric_limits<double>::quiet_NaN();

report_data whole_report() {
  report_data data;
  data.title = "A <title>";
  data.head = "sequential";
  data.depth = 3;
  data.facts = {{"width", "64"}, {"a & b", "<i>\"quoted\"</i>"}};
  for (int i = 0; i < 100; ++i) {
    example::curve_point point;
    point.step = 1 + 10 * i;
    for (int d = 0; d < 4; ++d) {
      const double loss = 1.5 + 0.3 * d + 4 * std::exp(-0.1 * i);
      point.train_loss.push_back(loss);
      point.train_agreement.push_back(0.5 / (1 + d));
      if (i % 10 == 0) point.val_loss.push_back(loss + 0.1);
    }
    data.curve.push_back(point);
  }
  data.acceptance = {0.81, 0.6, 0.4};
  data.plain_tokens_per_s = {1000, 990, 1015};
  data.speculative_tokens_per_s = {1800, 1790, 1810};
  data.speedup = {1.8, 1.78, 1.82};
  data.tokens_per_forward = 2.5;
  data.identical = true;
  data.samples = {{"<prompt>", {"text & \x01\xff more", {}}}};
  return data;
}

}  // namespace

TEST_CASE("the headline states the result") {
  report_data data = whole_report();
  CHECK(result_sentence(data) == "Wrote 1.8× as fast with 3 drafts, byte for byte the same text");
  data.identical = false;
  CHECK(result_sentence(data) == "Wrote 1.8× as fast with 3 drafts, but not the same text");
  data.identical = true;
  data.acceptance = {0.5};
  data.speedup = {1.02, 1.01, 1.03};
  CHECK(result_sentence(data) ==
        "Wrote about as fast with 1 draft as without, byte for byte the same text");
  data.speedup = {0.7, 0.7, 0.7};
  CHECK(result_sentence(data) ==
        "Wrote at 0.70× the plain speed with 1 draft, byte for byte the same text");
  for (const double unknown : {unknown_value, 0.0, -1.0, std::numeric_limits<double>::infinity()}) {
    data.speedup = {unknown, unknown, unknown};
    CHECK(result_sentence(data) == "Wrote with 1 draft, byte for byte the same text");
  }
  data.acceptance.clear();
  CHECK(result_sentence(data) == "Predicts unseen text with 1.60 nats per byte");
  data.validation = 1.72;  // of all held-out text
  CHECK(result_sentence(data) == "Predicts unseen text with 1.72 nats per byte");
  data.validation = unknown_value;
  for (auto& point : data.curve) point.val_loss.clear();
  CHECK(result_sentence(data) == "Predicts its training text with 1.50 nats per byte");
  data.curve.clear();
  CHECK(result_sentence(data) == "Wrote text one token at a time");
}

TEST_CASE("the headline claims no more than the spread of the measurements carries") {
  report_data data = whole_report();
  const auto sentence_with = [&](double median, double lowest, double highest) {
    data.speedup = {median, lowest, highest};
    const std::string sentence = result_sentence(data);
    return sentence.substr(0, sentence.find(" with 3 drafts"));
  };
  CHECK(sentence_with(1.8, 1.6, 2.0) == "Wrote 1.6× to 2.0× as fast");
  CHECK(sentence_with(1.8, 0.9, 2.0) == "Wrote about as fast");
  CHECK(sentence_with(1.2, 1.04, 1.3) == "Wrote about as fast");
  CHECK(sentence_with(0.9, 0.8, 0.96) == "Wrote about as fast");
  CHECK(sentence_with(0.8, 0.7, 0.9) == "Wrote at 0.70× to 0.90× the plain speed");
}

TEST_CASE("speeds have their spread beside them, and the page says what they were measured on") {
  report_data data = whole_report();
  data.basis = "Of 5 rounds & more.";
  const std::string html = report_html(data);
  CHECK(markup_fault(html) == "");
  CHECK(contains(html, "1,000 tokens/s (990 to 1,015)"));
  CHECK(contains(html, "1,800 tokens/s (1,790 to 1,810)"));
  CHECK(contains(html, "<p class=\"note basis\">Of 5 rounds &amp; more.</p>"));
}

TEST_CASE("the page says where the curve of validation ends at another loss than it states") {
  report_data data = whole_report();
  const std::string sentence =
      "Each validation point is the loss of 16 held-out windows; the figure above, 1.720, is the "
      "loss of all of them.";
  data.validation_windows = 16;
  CHECK_FALSE(contains(report_html(data), "held-out windows"));  // there is no other figure
  data.validation = 1.72;
  const std::string html = report_html(data);
  CHECK(markup_fault(html) == "");
  CHECK(contains(html, sentence));
  data.validation_windows = 0;
  CHECK_FALSE(contains(report_html(data), "held-out windows"));
}

TEST_CASE("each byte has the colour of who wrote it") {
  report_data data = whole_report();
  data.samples = {{"p", {"ab<\xc3\xa4z", {0, 1, 1, 2, 3, 0}}}, {"q", {"none", {}}}};
  const std::string html = report_html(data);
  CHECK(markup_fault(html) == "");
  CHECK(contains(html,
                 "</span>a<span style=\"color:var(--c1)\">b&lt;</span>"
                 "<span style=\"color:var(--c2)\">\xc3\xa4</span>z</pre>"));
  CHECK(contains(html, "</span>none</pre>"));
  CHECK(count(html, ", accepted</li>") == 3);
  data.samples = {{"p", {"ab", {0, 0}}}};
  CHECK(count(report_html(data), ", accepted</li>") == 0);
}

TEST_CASE("a text that was drawn stands below the one that is most probable") {
  report_data data = whole_report();
  CHECK_FALSE(contains(report_html(data), "Drawn"));
  data.samples = {{"p<", {"ab", {0, 1}}, {"x&y", {0, 1, 2}}, 0.8}, {"q", {"cd", {0, 1}}, {}, 0.8}};
  const std::string html = report_html(data);
  CHECK(markup_fault(html) == "");
  CHECK(contains(html, "at temperature 0.8"));
  CHECK(count(html, ">Drawn</p>") == 1);
  CHECK(count(html, ">Most probable</p>") == 1);
  CHECK(contains(html,
                 "<span class=\"prompt\">p&lt;</span>x<span style=\"color:var(--c1)\">&amp;</span>"
                 "<span style=\"color:var(--c2)\">y</span></pre>"));
  CHECK(count(html, ", accepted</li>") == 2);  // the second draft wrote in the drawn text alone
}

TEST_CASE("head kinds stand side by side, models without heads first") {
  report_data data = whole_report();
  example::run_result kind;
  kind.head = "parallel";
  kind.depth = 3;
  kind.parameters = 12345678;
  kind.steps = 700;
  kind.bytes_per_step = 256;
  kind.validation = 1.625;
  kind.tokens_per_forward = 2.25;
  kind.acceptance = {0.5};
  kind.plain_tokens_per_s = {1000, 990, 1010};
  kind.speculative_tokens_per_s = {1800, 1700, 1900};
  kind.speedup = {1.8, 1.68, 1.92};
  data.kinds = {kind};
  CHECK_FALSE(contains(report_html(data), "side by side"));  // with nothing beside it
  data.kinds.push_back(kind);
  data.kinds.back().head = "a<b";
  std::string html = report_html(data);
  CHECK(markup_fault(html) == "");
  CHECK(contains(html, "the base of each row is the plain decoding of its own trunk"));
  CHECK(contains(html, "as many steps each"));
  CHECK(contains(
      html,
      "<th scope=\"row\">parallel, depth 3</th><td>12,345,678</td><td>700</td><td>1.625</td>"
      "<td>2.25</td><td>1,000<small>990 to 1,010</small></td>"));
  CHECK(contains(html, "<td>1.8×<small>1.7× to 1.9×</small></td>"));
  CHECK(contains(html, "a&lt;b"));

  example::run_result none;
  none.head = "none";
  none.steps = 800;
  none.validation = unknown_value;
  data.kinds.push_back(none);
  html = report_html(data);
  CHECK(markup_fault(html) == "");
  CHECK(contains(html, "The base is the model without heads"));
  CHECK(contains(html, "the steps are not the same"));
  CHECK(html.find("<th scope=\"row\">none</th>") < html.find("<th scope=\"row\">parallel"));
  CHECK_FALSE(contains(html, "nan"));
}

TEST_CASE("a figure that was measured several times is its median") {
  using example::summary_of;
  CHECK(summary_of({3, 1, 2}).median == 2);
  CHECK(summary_of({3, 1, 2}).lowest == 1);
  CHECK(summary_of({3, 1, 2}).highest == 3);
  CHECK(summary_of({4, 1, 2, 3}).median == 2.5);
  CHECK_FALSE(summary_of({}).is_known());
  CHECK_FALSE(summary_of({1, unknown_value}).is_known());
}

TEST_CASE("many points are drawn as means of their neighbours") {
  using example::detail::means;
  const std::vector<example::chart_point> points{
      {1, 2}, {2, 4}, {3, unknown_value}, {4, 8}, {5, 1}};
  const auto pairs = means(points, 2);
  REQUIRE(pairs.size() == 3);
  CHECK(pairs[0].x == 2);
  CHECK(pairs[0].y == 3);
  CHECK(pairs[1].x == 4);
  CHECK(pairs[1].y == 8);
  CHECK(pairs[2].y == 1);
  CHECK(std::isnan(means({{1, unknown_value}}, 1)[0].y));
  CHECK(means({}, 3).empty());
}

TEST_CASE("the page is well formed and needs nothing else") {
  const std::string html = report_html(whole_report());
  CHECK(markup_fault(html) == "");
  CHECK(html.starts_with("<!DOCTYPE html>"));
  CHECK(contains(html, "<title>A &lt;title&gt;</title>"));
  CHECK(contains(html, "prefers-color-scheme: dark"));
  CHECK_FALSE(contains(html, "<script"));
  CHECK_FALSE(contains(html, "<link"));
  CHECK_FALSE(contains(html, "src="));
  CHECK_FALSE(contains(html, "url("));
  CHECK(count(html, "<svg") == 6);  // loss and agreement, wide and narrow; acceptance; speed
  CHECK(count(html, "http") == count(html, "http://www.w3.org/2000/svg"));
}

TEST_CASE("what comes from outside is escaped") {
  const std::string html = report_html(whole_report());
  CHECK(contains(html,
                 "<th scope=\"row\">a &amp; b</th><td>&lt;i&gt;&quot;quoted&quot;&lt;/i&gt;</td>"));
  CHECK(contains(html,
                 "<span class=\"prompt\">&lt;prompt&gt;</span>text &amp; "
                 "<span class=\"byte\">\\x01\\xff</span> more</pre>"));
}

TEST_CASE("a head that does not draft has a sentence in place of pictures") {
  report_data data = whole_report();
  data.acceptance.clear();
  const std::string html = report_html(data);
  CHECK(markup_fault(html) == "");
  CHECK(contains(html, "The sequential head does not draft"));
  CHECK(count(html, "<svg") == 4);
}

TEST_CASE("a report of nothing is well formed") {
  const std::string html = report_html({});
  CHECK(markup_fault(html) == "");
  CHECK(contains(html, "No curve was recorded"));
  CHECK(count(html, "<svg") == 0);
  CHECK_FALSE(contains(html, "nan"));
}

TEST_CASE("values that are missing or not finite are gaps") {
  report_data data = whole_report();
  data.curve[40].train_loss = {unknown_value, 2.0};
  data.curve[50].train_loss.clear();  // not measured: the line goes on
  data.acceptance = {unknown_value, 0.5};
  data.tokens_per_forward = unknown_value;
  data.plain_tokens_per_s = {};
  const std::string html = report_html(data);
  CHECK(markup_fault(html) == "");
  CHECK_FALSE(contains(html, "nan"));
  CHECK(contains(html, "not measured"));
  const std::string before = report_html(whole_report());
  // Depths 0, 2 and 3 have a gap in the training loss, in both sizes of the chart.
  CHECK(count(html, "<polyline class=\"thin\"") == count(before, "<polyline class=\"thin\"") + 6);
}

TEST_CASE("a curve of one point is drawn") {
  report_data data = whole_report();
  data.curve.resize(1);
  const std::string html = report_html(data);
  CHECK(markup_fault(html) == "");
  CHECK(count(html, "<polyline") == 0);
  CHECK_FALSE(contains(html, "nan"));
}

TEST_CASE("the page is written whole or not at all") {
  const test::folder folder;
  const report_data data = whole_report();
  example::write_report(folder / "report.html", data);
  CHECK(folder.read("report.html") == report_html(data));
  example::write_report(folder / "report.html", {});
  CHECK(folder.read("report.html") == report_html({}));
  CHECK_THROWS_AS(example::write_report(folder / "missing/report.html", data), mtp::error);
  std::string message;
  {
    const mtp::testing::file_size_limit full(1000);
    message = mtp::testing::refusal([&] { write_report(folder / "report.html", data); });
  }
  CHECK_MESSAGE(contains(message, "report.html': File too large (errno 27)"), message);
  CHECK(folder.read("report.html") == report_html({}));
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path()))
    ++files;
  CHECK(files == 1);
}

}  // namespace examples_report_cases
