#include "mtp/distributed/agreement.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <map>
#include <new>
#include <string>
#include <vector>

#include "mtp/distributed/alone.hpp"
#include "mtp/distributed/thread_ranks.hpp"

namespace mtp::test::distributed_agreement_cases {

using entries = std::map<std::string, std::string>;

/// What agree throws on each of the ranks.
std::vector<std::string> messages(const std::vector<entries>& of_ranks) {
  std::vector<std::string> messages(of_ranks.size(), "nothing was thrown");
  run_ranks(static_cast<int>(of_ranks.size()), [&](thread_communicator& group) {
    const auto own = static_cast<std::size_t>(group.rank());
    try {
      agree(group, of_ranks[own]);
    } catch (const error& problem) {
      messages[own] = problem.what();
    }
    group.barrier();
  });
  return messages;
}

TEST_CASE("ranks with equal entries agree") {
  alone group;
  CHECK_NOTHROW(agree(group, {{"seed", "1"}}));
  for (const entries& each : {entries{}, entries{{"seed", "1"}}, entries{{"", ""}, {"a", ""}}}) {
    for (const std::string& message : messages({each, each, each})) {
      CHECK(message == "nothing was thrown");
    }
  }
}

TEST_CASE("all ranks name the first rank that differs, and every entry that does") {
  const entries first{{"config", "C 64"}, {"seed", "1"}, {"text", "9f3a"}};
  entries other = first, later = first;
  other["seed"] = "2";
  other["text"] = std::string("0\0bc", 4);
  later["config"] = "C 128";
  const std::vector<std::string> came = messages({first, first, other, later});
  const std::string expected = std::string(
      "agree: rank 2 of 4 was started with something else than rank 0: seed is \"1\" on rank 0 and "
      "\"2\" on rank 2; text is \"9f3a\" on rank 0 and \"");
  for (const std::string& message : came) {
    CHECK(message.find(expected) == 0);
    CHECK(message.find("config") == std::string::npos);
    CHECK(message == came[0]);
  }
}

TEST_CASE("entries that only one of the ranks has are named") {
  const auto came = messages({{{"a", "1"}}, {{"a", "1"}, {"b", ""}}});
  CHECK(
      came[0] ==
      "agree: rank 1 of 2 was started with something else than rank 0: b is missing on rank 0 and "
      "\"\" on rank 1");
  CHECK(came[1] == came[0]);
  const auto none = messages({{{"a", "missing"}}, {}});
  CHECK(
      none[1] ==
      "agree: rank 1 of 2 was started with something else than rank 0: a is \"missing\" on rank 0 "
      "and missing on rank 1");
}

TEST_CASE("a name that runs into its value is another name") {
  const auto came = messages({{{"ab", "c"}}, {{"a", "bc"}}});
  CHECK(
      came[0].find("a is missing on rank 0 and \"bc\" on rank 1; ab is \"c\" on rank 0 and missing "
                   "on rank 1") != std::string::npos);
}

TEST_CASE("what fails on one rank is thrown by all of them, with its number, and they go on") {
  const auto messages_of = [](const auto& work) {
    std::vector<std::string> said(3, "nothing was thrown");
    run_ranks(3, [&](thread_communicator& group) {
      const auto own = static_cast<std::size_t>(group.rank());
      try {
        const int result = together(group, [&] { return work(group.rank()); });
        CHECK(result == 7);
      } catch (const error& problem) {
        said[own] = problem.what();
      }
      together(group, [] {});  // the group can be used
    });
    return said;
  };
  const auto all = [](const char* text) { return std::vector<std::string>(3, text); };
  CHECK(messages_of([](int) { return 7; }) == all("nothing was thrown"));
  CHECK(messages_of([](int rank) {
          check(rank == 0, "no text on ", rank);
          return 7;
        }) == all("rank 1 of 3: no text on 1"));
  CHECK(messages_of([](int rank) -> int {
          if (rank == 2) throw std::bad_alloc();
          return 7;
        }) == all("rank 2 of 3: std::bad_alloc"));
  CHECK(messages_of([](int rank) -> int {
          if (rank == 0) throw rank;
          return 7;
        }) == all("rank 0 of 3: an exception that is no std::exception"));
  CHECK(messages_of([](int) -> int { fail("no text"); }) == all("no text"));
}

TEST_CASE("a process alone throws what its work throws") {
  alone group;
  CHECK(together(group, [] { return 3; }) == 3);
  CHECK_THROWS_AS(together(group, [] { throw std::bad_alloc(); }), std::bad_alloc);
  CHECK_NOTHROW(all_succeeded(group, ""));
  CHECK_THROWS_AS(all_succeeded(group, "no"), error);
}

}  // namespace mtp::test::distributed_agreement_cases
