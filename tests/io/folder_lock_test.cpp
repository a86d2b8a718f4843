#include "mtp/io/folder_lock.hpp"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <doctest/doctest.h>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "io/scratch.hpp"

namespace mtp::test::io_folder_lock_cases {

namespace {

using namespace mtp::io;
using namespace mtp::testing;

const std::string name(folder_lock::file_name);

std::string refusal_of(const std::filesystem::path& folder) {
  return refusal([&] { folder_lock lock(folder); });
}

}  // namespace

TEST_CASE("a folder has one lock at a time, and none is left") {
  const scratch_directory scratch;
  {
    const folder_lock lock(scratch.path());
    CHECK(content(scratch / name) == std::to_string(::getpid()) + "\n");
    const std::string message = refusal_of(scratch.path());
    CHECK(contains(message, "'" + scratch.path().string() + "' is in use by process "));
    CHECK(contains(message, " " + std::to_string(::getpid()) + ";"));
    CHECK(scratch.entries() == 1);
    std::filesystem::create_directory(scratch / "other");
    CHECK(refusal_of(scratch / "other") == "");
  }
  CHECK(scratch.entries() == 1);  // the other folder
  CHECK(refusal_of(scratch.path()) == "");
}

TEST_CASE("a lock of another process is respected until that ends, however it ends") {
  const scratch_directory scratch;
  std::array<int, 2> pipe{};
  REQUIRE(::pipe(pipe.data()) == 0);
  const ::pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const folder_lock lock(scratch.path());
    static_cast<void>(::write(pipe[1], "x", 1));
    ::pause();
  }
  char started = 0;
  REQUIRE(::read(pipe[0], &started, 1) == 1);
  ::close(pipe[0]);
  ::close(pipe[1]);
  CHECK(contains(refusal_of(scratch.path()), "process " + std::to_string(child) + ";"));
  REQUIRE(::kill(child, SIGKILL) == 0);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(content(scratch / name) == std::to_string(child) + "\n");  // stale
  {
    const folder_lock lock(scratch.path());
    CHECK(content(scratch / name) == std::to_string(::getpid()) + "\n");
  }
  CHECK(scratch.entries() == 0);
}

TEST_CASE("a stale lock is recognised, whatever is in it") {
  for (const std::string& text :
       {std::string(), std::string("no number"), std::string(1000, '9'), std::string("1\n")}) {
    const scratch_directory scratch;
    put(scratch / name, text);
    const folder_lock lock(scratch.path());
    CHECK(content(scratch / name) == std::to_string(::getpid()) + "\n");
  }
}

TEST_CASE("of many threads at once, one has the lock") {
  const scratch_directory scratch;
  std::atomic<int> inside = 0, most = 0, taken = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        try {
          const folder_lock lock(scratch.path());
          most = (std::max)(most.load(), ++inside);
          ++taken;
          --inside;
        } catch (const error&) {
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(most == 1);
  CHECK(taken > 0);
  CHECK(scratch.entries() == 0);
}

TEST_CASE("what cannot be locked is refused with the reason, and stays") {
  const scratch_directory scratch;
  CHECK(contains(refusal_of(scratch / "absent"), "No such file or directory (errno 2)"));
  put(scratch / "plain", "x");
  CHECK(contains(refusal_of(scratch / "plain"), "Not a directory (errno 20)"));
  std::filesystem::create_directory(scratch / "pipe");
  REQUIRE(::mkfifo((scratch / ("pipe/" + name)).c_str(), 0600) == 0);
  CHECK(contains(refusal_of(scratch / "pipe"), "is a pipe, not a regular file"));
  std::filesystem::create_directory(scratch / "link");
  std::filesystem::create_symlink("../plain", scratch / ("link/" + name));
  CHECK(contains(refusal_of(scratch / "link"), "cannot open"));
  CHECK(content(scratch / "plain") == "x");
  std::filesystem::create_directory(scratch / "full");
  std::string message;
  {
    const file_size_limit full(0);
    message = refusal_of(scratch / "full");
  }
  CHECK(contains(message, "File too large (errno 27)"));
  CHECK(std::filesystem::is_empty(scratch / "full"));
}

}  // namespace mtp::test::io_folder_lock_cases
