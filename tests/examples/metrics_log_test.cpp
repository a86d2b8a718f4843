#include "train_and_generate/metrics_log.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "examples/folder.hpp"
#include "io/scratch.hpp"

namespace examples_metrics_log_cases {

using example::metrics_log;
using example::metrics_row;

namespace {

const std::string header =
    "step,tokens,learning_rate,lambda,grad_norm,tokens_per_s,train_loss_0,train_loss_1,"
    "train_agreement_0,train_agreement_1,val_loss_0,val_loss_1\n";

metrics_row row_of(long step) {
  return {step, 100 * step, 0.001, 0.3, 1.5, 2000, {2.5, 3}, {0.5, 0.25}, {}};
}

std::string line_of(long step) {
  return std::to_string(step) + "," + std::to_string(100 * step) +
         ",0.001,0.3,1.5,2000,2.5,3,0.5,0.25,,\n";
}

}  // namespace

TEST_CASE("rows are on disk as soon as they are appended") {
  const test::folder folder;
  metrics_log log(folder / "metrics.csv", 1);
  CHECK(folder.read("metrics.csv") == header);
  log.append(row_of(1));
  CHECK(folder.read("metrics.csv") == header + line_of(1));
  metrics_row row = row_of(2);
  row.train_loss = {std::numeric_limits<double>::quiet_NaN(), 1.0 / 3};
  row.train_agreement.clear();
  row.val_loss = {2, 4};
  log.append(row);
  CHECK(folder.read("metrics.csv") ==
        header + line_of(1) + "2,200,0.001,0.3,1.5,2000,nan,0.3333333,,,2,4\n");
}

TEST_CASE("a log that is opened again goes on") {
  const test::folder folder;
  metrics_log(folder / "metrics.csv", 1).append(row_of(1));
  metrics_log(folder / "metrics.csv", 1).append(row_of(2));
  CHECK(folder.read("metrics.csv") == header + line_of(1) + line_of(2));
}

TEST_CASE("truncate_after keeps the rows up to the step") {
  const test::folder folder;
  metrics_log log(folder / "metrics.csv", 1);
  for (const long step : {1, 10, 20, 100}) log.append(row_of(step));
  log.truncate_after(20);
  CHECK(folder.read("metrics.csv") == header + line_of(1) + line_of(10) + line_of(20));
  log.append(row_of(30));
  log.truncate_after(30);
  CHECK(folder.read("metrics.csv") ==
        header + line_of(1) + line_of(10) + line_of(20) + line_of(30));
  log.truncate_after(-1);
  CHECK(folder.read("metrics.csv") == header);
  log.append(row_of(1));
  CHECK(folder.read("metrics.csv") == header + line_of(1));
}

TEST_CASE("the rest of an interrupted line is removed") {
  const test::folder folder;
  folder.write("metrics.csv", header + line_of(1) + "2,20");
  metrics_log log(folder / "metrics.csv", 1);
  log.append(row_of(2));
  CHECK(folder.read("metrics.csv") == header + line_of(1) + line_of(2));

  folder.write("short.csv", "step,tok");
  metrics_log(folder / "short.csv", 1).append(row_of(1));
  CHECK(folder.read("short.csv") == header + line_of(1));
}

TEST_CASE("a file of something else is refused and not changed") {
  const test::folder folder;
  metrics_log(folder / "metrics.csv", 1).append(row_of(1));
  CHECK_THROWS_AS(metrics_log(folder / "metrics.csv", 2), mtp::error);
  CHECK(folder.read("metrics.csv") == header + line_of(1));

  const std::string odd = header + line_of(1) + "two,200\n" + line_of(3);
  folder.write("odd.csv", odd);
  CHECK_THROWS_WITH_AS(
      metrics_log(folder / "odd.csv", 1), doctest::Contains("line 3 of"), mtp::error);
  CHECK(folder.read("odd.csv") == odd);
}

TEST_CASE("rows are read as they were written") {
  const test::folder folder;
  metrics_log log(folder / "metrics.csv", 1);
  CHECK(log.rows().empty());
  log.append(row_of(1));
  metrics_row row = row_of(2);
  row.train_loss = {std::numeric_limits<double>::quiet_NaN(), 1e-7};
  row.train_agreement.clear();
  row.val_loss = {2, 4};
  log.append(row);
  const auto rows = log.rows();
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].step == 1);
  CHECK(rows[0].tokens == 100);
  CHECK(rows[0].learning_rate == 0.001);
  CHECK(rows[0].lambda == 0.3);
  CHECK(rows[0].grad_norm == 1.5);
  CHECK(rows[0].tokens_per_s == 2000);
  CHECK(rows[0].train_loss == std::vector<double>{2.5, 3});
  CHECK(rows[0].train_agreement == std::vector<double>{0.5, 0.25});
  CHECK(rows[0].val_loss.empty());
  CHECK(std::isnan(rows[1].train_loss.at(0)));
  CHECK(rows[1].train_loss.at(1) == 1e-7);
  CHECK(rows[1].train_agreement.empty());
  CHECK(rows[1].val_loss == std::vector<double>{2, 4});

  for (const char* line : {"3,300,0.001\n", "3,300,x,0.3,1.5,2000,2.5,3,0.5,0.25,,\n"}) {
    folder.write("odd.csv", header + line_of(1) + line);
    const metrics_log odd(folder / "odd.csv", 1);
    CHECK_THROWS_WITH_AS(odd.rows(), doctest::Contains("line 3 of"), mtp::error);
  }
}

TEST_CASE("a row that the disk does not take is an error with its reason, and leaves nothing") {
  const test::folder folder;
  metrics_log log(folder / "metrics.csv", 1);
  log.append(row_of(1));
  const std::string before = header + line_of(1);
  std::string message;
  {
    const mtp::testing::file_size_limit full(before.size() + 5);
    message = mtp::testing::refusal([&] { log.append(row_of(2)); });
  }
  CHECK_MESSAGE(message.find("File too large (errno 27)") != message.npos, message);
  CHECK_MESSAGE(message.find((folder / "metrics.csv").string()) != message.npos, message);
  CHECK(folder.read("metrics.csv") == before);
  log.append(row_of(2));
  CHECK(folder.read("metrics.csv") == before + line_of(2));
  {
    const mtp::testing::file_size_limit full(5);
    message = mtp::testing::refusal([&] { log.truncate_after(1); });
  }
  CHECK_MESSAGE(message.find("File too large (errno 27)") != message.npos, message);
  CHECK(folder.read("metrics.csv") == before + line_of(2));
}

TEST_CASE("a log onto a pipe is refused, without waiting for a reader") {
  const test::folder folder;
  REQUIRE(::mkfifo((folder / "metrics.csv").c_str(), 0600) == 0);
  CHECK_THROWS_WITH_AS(
      metrics_log(folder / "metrics.csv", 1), doctest::Contains("not a regular file"), mtp::error);
  CHECK(std::filesystem::is_fifo(folder / "metrics.csv"));
}

TEST_CASE("errors of the log") {
  const test::folder folder;
  CHECK_THROWS_AS(metrics_log(folder / "missing/metrics.csv", 1), mtp::error);
  CHECK_THROWS_AS(metrics_log(folder.path(), 1), mtp::error);
  CHECK_THROWS_AS(metrics_log(folder / "metrics.csv", -1), mtp::error);

  metrics_log log(folder / "metrics.csv", 1);
  metrics_row row = row_of(1);
  row.val_loss = {1, 2, 3};
  CHECK_THROWS_WITH_AS(
      log.append(row), doctest::Contains("val_loss needs 2 values or none, but has 3"), mtp::error);
  CHECK(folder.read("metrics.csv") == header);
}

}  // namespace examples_metrics_log_cases
