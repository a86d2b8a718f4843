#include "mtp/backend/cpu/thread_pool.hpp"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace mtp::test::cpu_thread_pool_cases {

using cpu_detail::thread_pool;

TEST_CASE("every task runs exactly once, whatever the number of tasks and threads") {
  for (int threads = 1; threads <= 5; ++threads) {
    thread_pool pool(threads);
    CHECK(pool.threads() == threads);
    for (const index_t count : {0, 1, 2, 7, 1000}) {
      CAPTURE(threads);
      CAPTURE(count);
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(count));
      std::atomic<int> strangers{0};
      pool.run(count, [&](index_t task, int thread) {
        ++runs[static_cast<std::size_t>(task)];
        strangers += thread < 0 || thread >= threads;
      });
      int wrong = 0;
      for (const auto& run : runs) {
        wrong += run != 1;
      }
      CHECK(wrong == 0);
      CHECK(strangers == 0);
    }
  }
}

TEST_CASE("what tasks write is seen when run returns, over many short runs") {
  thread_pool pool(4);
  std::vector<index_t> written(3);  // not atomic on purpose
  index_t wrong = 0;
  for (index_t round = 0; round < 20000; ++round) {
    pool.run(3, [&](index_t task, int) { written[static_cast<std::size_t>(task)] = round + task; });
    for (index_t task = 0; task < 3; ++task) {
      wrong += written[static_cast<std::size_t>(task)] != round + task;
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("workers that fell asleep wake up for the next run") {
  thread_pool pool(3);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::atomic<int> runs{0};
    pool.run(50, [&](index_t, int) { ++runs; });
    CHECK(runs == 50);
  }
}

TEST_CASE("one thread number never serves two tasks at once") {
  thread_pool pool(4);
  std::vector<std::atomic<int>> busy(4);
  std::atomic<int> collisions{0};
  pool.run(2000, [&](index_t, int thread) {
    auto& mine = busy[static_cast<std::size_t>(thread)];
    collisions += mine.fetch_add(1) != 0;
    mine.fetch_sub(1);
  });
  CHECK(collisions == 0);
}

TEST_CASE("pools work side by side, also one within a task of the other") {
  thread_pool outer(2);
  std::vector<std::unique_ptr<thread_pool>> inner;
  for (int i = 0; i < 2; ++i) {
    inner.push_back(std::make_unique<thread_pool>(2));
  }
  std::atomic<int> runs{0};
  for (int round = 0; round < 100; ++round) {
    outer.run(2, [&](index_t task, int) {
      inner[static_cast<std::size_t>(task)]->run(10, [&](index_t, int) { ++runs; });
    });
  }
  CHECK(runs == 2000);
}

TEST_CASE("a pool without a thread is refused") {
  CHECK_THROWS_AS(thread_pool(0), error);
}

// Sanitizers reserve more addresses than a limit leaves.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MTP_TEST_RESERVES_ADDRESSES
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MTP_TEST_RESERVES_ADDRESSES
#endif

#if !defined(MTP_TEST_RESERVES_ADDRESSES)
TEST_CASE("fewer threads to be had than asked for are an error, and those that came end") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {  // limits stay with the process
    rlim_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t bytes = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + (rlim_t{1} << 28);
    const rlimit limit{bytes, bytes};
    int status = ::setrlimit(RLIMIT_AS, &limit) == 0 ? 1 : 2;
    try {
      const thread_pool many(1024);
    } catch (const error& problem) {
      const std::string message = problem.what();
      status = message.rfind("thread_pool: the system gave ", 0) == 0 &&
                       message.find(" of 1024 threads (") != std::string::npos
                   ? 0
                   : 3;
    }
    std::atomic<int> runs{0};
    thread_pool few(2);
    few.run(10, [&](index_t, int) { ++runs; });
    ::_exit(runs == 10 ? status : 4);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));  // not by std::terminate
  CHECK(WEXITSTATUS(status) == 0);
}
#endif

TEST_CASE("pools come and go without having run") {
  for (int i = 0; i < 100; ++i) {
    thread_pool pool(1 + i % 4);
  }
}

}  // namespace mtp::test::cpu_thread_pool_cases
