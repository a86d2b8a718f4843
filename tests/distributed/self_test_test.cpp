#include <doctest/doctest.h>

#include <span>
#include <string>
#include <utility>

#include "mtp/distributed/alone.hpp"
#include "mtp/distributed/self_test.hpp"
#include "mtp/distributed/thread_ranks.hpp"

namespace mtp::test::distributed_self_test_cases {

/// An engine that gets one thing wrong.
class faulty : public thread_communicator {
 public:
  faulty(thread_communicator&& whole, std::string wrong)
      : thread_communicator(std::move(whole)), wrong_(std::move(wrong)) {}

  template <class T, std::size_t E>
  void all_reduce(std::span<T, E> values, reduction kind) {
    thread_communicator::all_reduce(values, kind);
    if (wrong_ == "last sum" && values.size() > 1000) values.back() += 1;
  }
  template <class T, std::size_t E>
  void reduce_scatter(std::span<T, E> whole, const shards& parts) {
    thread_communicator::reduce_scatter(whole, parts);
    if (wrong_ == "own sum" && parts.size(rank()) > 0) {
      whole[static_cast<std::size_t>(parts.begin(rank()))] = 0.5f;
    }
  }
  template <class T, std::size_t E>
  void all_gather(std::span<T, E> whole, const shards& parts) {
    thread_communicator::all_gather(whole, parts);
    if (wrong_ == "gather") std::swap(whole.front(), whole.back());
  }
  template <class T, std::size_t E>
  void send(std::span<T, E> values, int to, int tag) {
    if (wrong_ == "exchange") values[7] = 42;
    thread_communicator::send(values, to, tag);
  }
  faulty split(int color, int key) { return {thread_communicator::split(color, key), wrong_}; }

 private:
  std::string wrong_;
};

/// What the self-test throws on the ranks that notice.
std::string message(const std::string& wrong) {
  try {
    run_ranks(3, [&](thread_communicator& group) {
      faulty own(group.split(0, 0), wrong);
      detail::self_test(own, "this engine");
    });
  } catch (const error& problem) {
    return problem.what();
  }
  return "";
}

TEST_CASE("engines that are right pass their self-test") {
  alone one;
  CHECK_NOTHROW(detail::self_test(one, "alone"));
  for (int ranks = 1; ranks <= 5; ++ranks) {
    CHECK_NOTHROW(
        run_ranks(ranks, [](thread_communicator& group) { detail::self_test(group, "threads"); }));
  }
  CHECK(message("nothing") == "");
}

TEST_CASE("an engine that is wrong in one thing does not") {
  CHECK(message("last sum")
            .find("this engine gives wrong sums: all_reduce of 3001 floats on rank ") == 0);
  CHECK(
      message("own sum").find("this engine gives wrong sums: reduce_scatter of 1 floats on rank 0 "
                              "of 3 gave 0.5 for 3") == 0);
  CHECK(message("gather").find("this engine gathers wrong values: rank ") == 0);
  CHECK(message("exchange").find("this engine exchanges wrong values: rank ") == 0);
}

}  // namespace mtp::test::distributed_self_test_cases
