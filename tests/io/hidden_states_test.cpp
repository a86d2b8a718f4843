#include "mtp/io/hidden_states.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <doctest/doctest.h>
#include <filesystem>
#include <string>
#include <vector>

#include "io/scratch.hpp"

namespace mtp::test::io_hidden_states_cases {

namespace {

using namespace mtp::io;
using namespace mtp::testing;

constexpr hidden_states_shape shape{.rows = 11, .width = 3, .block = 4};  // blocks of 4, 4 and 3
constexpr hidden_states_origin origin{.model = 1, .tokens = 2, .configuration = 3};
constexpr std::size_t header_bytes = 80, table = 4096, data = 8192;

std::vector<bf16> block(index_t number) {
  std::vector<bf16> rows;
  const index_t count = (number < 2 ? 4 : 3) * shape.width;
  for (index_t i = 0; i < count; ++i) {
    rows.emplace_back(static_cast<float>(100 * number + i + 1));
  }
  return rows;
}

/// A file with the first `count` blocks.
std::filesystem::path written(const scratch_directory& scratch, index_t count) {
  hidden_states_file file(scratch / "states", shape, origin);
  while (file.written() < count) file.append(block(file.written()));
  return scratch / "states";
}

std::string refusal_of(const std::filesystem::path& path,
                       const hidden_states_shape& of = shape,
                       const hidden_states_origin& from = origin) {
  return refusal([&] { hidden_states_file file(path, of, from); });
}

bool has_all_rows(hidden_states_file& file) {
  std::vector<bf16> all;
  for (index_t number = 0; number < 3; ++number) {
    for (const bf16 value : block(number)) all.push_back(value);
  }
  const auto rows = file.rows();
  bool same = rows.size() == all.size();
  for (std::size_t i = 0; same && i < all.size(); ++i) same = rows[i].bits() == all[i].bits();
  return same;
}

}  // namespace

TEST_CASE("hidden states come back, whether one writer or three have written them") {
  const scratch_directory scratch;
  for (index_t count = 0; count < 3; ++count) {
    hidden_states_file file(written(scratch, count), shape, origin);
    CHECK(file.written() == count);
    CHECK(!file.complete());
    CHECK(contains(refusal([&] { static_cast<void>(file.rows()); }),
                   "has " + std::to_string(count) + " of 3 blocks"));
  }
  hidden_states_file file(written(scratch, 3), shape, origin);
  CHECK(file.complete());
  CHECK(has_all_rows(file));
  CHECK(contains(refusal([&] { file.append(block(0)); }), "has all of its blocks"));
  CHECK(scratch.entries() == 1);
}

TEST_CASE("a killed writer loses the block that it was writing, and nothing else") {
  const scratch_directory scratch;
  std::array<int, 2> pipe{};
  REQUIRE(::pipe(pipe.data()) == 0);
  const ::pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    hidden_states_file file(scratch / "states", shape, origin);
    file.append(block(0));
    static_cast<void>(::write(pipe[1], "x", 1));
    ::pause();
  }
  char started = 0;
  REQUIRE(::read(pipe[0], &started, 1) == 1);
  ::close(pipe[0]);
  ::close(pipe[1]);
  CHECK(contains(refusal_of(scratch / "states"), "in use by another program"));
  REQUIRE(::kill(child, SIGKILL) == 0);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);

  // What a kill leaves of a block that is not finished: data without an entry in the table.
  for (const std::size_t part : {std::size_t{1}, std::size_t{23}, std::size_t{24}}) {
    put(scratch / "states", content(scratch / "states") + std::string(part == 1 ? 1 : 0, 'x'));
    std::filesystem::resize_file(scratch / "states", data + 24 + part);
    hidden_states_file file(scratch / "states", shape, origin);
    CHECK(file.written() == 1);
  }
  hidden_states_file file(written(scratch, 3), shape, origin);
  CHECK(has_all_rows(file));
}

TEST_CASE("what a full disk did not take does not count") {
  const scratch_directory scratch;
  const auto path = written(scratch, 1);
  std::string message;
  {
    hidden_states_file file(path, shape, origin);
    const file_size_limit limit(data + 24 + 10);
    message = refusal([&] { file.append(block(1)); });
  }
  CHECK(contains(message, "cannot write"));
  hidden_states_file file(written(scratch, 3), shape, origin);
  CHECK(has_all_rows(file));
}

TEST_CASE("a file with any byte changed is refused") {
  const scratch_directory scratch;
  for (const index_t count : {index_t{1}, index_t{3}}) {
    const auto path = written(scratch, count);
    const std::string good = content(path);
    REQUIRE(refusal_of(path) == "");
    for (std::size_t at = 0; at < good.size(); at += at < 200 || at >= table ? 1 : 97) {
      if (at > table + 100 && at < data - 100) at = data - 100;  // all zeros between
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 4);
      put(path, bad);
      CAPTURE(at);
      const std::string message = refusal_of(path);
      CHECK(contains(message, "states' "));
      CHECK(content(path) == bad);
    }
    put(path, good);
  }
}

TEST_CASE("blocks in another order are refused, each with its own checksum") {
  const scratch_directory scratch;
  const auto path = written(scratch, 3);
  std::string swapped = content(path);
  std::swap_ranges(
      swapped.begin() + data, swapped.begin() + data + 24, swapped.begin() + data + 24);
  std::swap_ranges(
      swapped.begin() + table, swapped.begin() + table + 16, swapped.begin() + table + 16);
  put(path, swapped);
  CHECK(contains(refusal_of(path), "is damaged in block 0"));
}

TEST_CASE("a file that is cut or too long is refused") {
  const scratch_directory scratch;
  const auto path = written(scratch, 3);
  const std::string good = content(path);
  REQUIRE(good.size() == data + 11 * 3 * 2);
  for (const std::size_t size : {std::size_t{0},
                                 std::size_t{1},
                                 header_bytes - 1,
                                 header_bytes,
                                 table,
                                 data - 1,
                                 data,
                                 data + 24,
                                 good.size() - 1}) {
    put(path, good.substr(0, size));
    CAPTURE(size);
    CHECK(refusal_of(path) != "");
  }
  put(path, good + "x");
  CHECK(contains(refusal_of(path), "is damaged: it has"));
}

TEST_CASE("a file of another model, text, configuration, shape, version or kind is refused") {
  const scratch_directory scratch;
  const auto path = written(scratch, 3);
  CHECK(contains(refusal_of(path, shape, {9, 2, 3}), "another model"));
  CHECK(contains(refusal_of(path, shape, {1, 9, 3}), "another text"));
  CHECK(contains(refusal_of(path, shape, {1, 2, 9}), "another configuration"));
  CHECK(contains(refusal_of(path, {12, 3, 4}, origin), "number of rows: expected 12, got 11"));
  CHECK(contains(refusal_of(path, {11, 4, 4}, origin), "another width: expected 4, got 3"));
  CHECK(contains(refusal_of(path, {11, 3, 5}, origin), "rows in a block: expected 5, got 4"));
  CHECK(contains(refusal_of(path, {0, 3, 4}, origin), "expected positive rows"));
  CHECK(contains(refusal_of(path, {index_t{1} << 60, 3, 4}, origin), "do not fit into a file"));

  std::string later = content(path);
  later[16] = 2;
  put(path, later);
  CHECK(contains(refusal_of(path), "has version 2, expected 1"));
  put(path, std::string(10000, 'x'));
  CHECK(contains(refusal_of(path), "is no file of hidden states"));
  CHECK(contains(refusal_of(scratch.path()), "directory"));
  CHECK(contains(refusal_of(scratch / "no" / "states"), "No such file"));
  CHECK(refusal_of(path) != "");
}

TEST_CASE("a block of another size is refused, and the file stays usable") {
  const scratch_directory scratch;
  hidden_states_file file(scratch / "states", shape, origin);
  CHECK(contains(refusal([&] { file.append(block(2)); }), "block 0 has 12 elements, got 9"));
  CHECK(contains(refusal_of(scratch / "states"), "in use"));
  for (index_t number = 0; number < 3; ++number) file.append(block(number));
  CHECK(has_all_rows(file));
}

}  // namespace mtp::test::io_hidden_states_cases
