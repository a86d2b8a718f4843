#include "mtp/io/descriptor.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <doctest/doctest.h>
#include <utility>

#include "io/scratch.hpp"

namespace mtp::test::io_descriptor_cases {

namespace {

using namespace mtp::io;
using namespace mtp::testing;

descriptor opened(const std::filesystem::path& path) {
  return descriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
}

bool is_open(int value) {
  return ::fcntl(value, F_GETFD) >= 0;
}

}  // namespace

TEST_CASE("a descriptor closes what it owns, once, and gives it away when it is moved") {
  const scratch_directory folder;
  int value = -1;
  {
    descriptor first = opened(folder / "a");
    REQUIRE(first.is_open());
    value = first.get();
    descriptor second(std::move(first));
    CHECK(!first.is_open());
    CHECK(second.get() == value);
    CHECK(is_open(value));
  }
  CHECK(!is_open(value));
  descriptor third = opened(folder / "a");
  CHECK(third.close() == 0);
  CHECK(!third.is_open());
  CHECK(third.close() == 0);
  CHECK(descriptor(1000000).close() == EBADF);
}

TEST_CASE("a lock is held by one descriptor at a time") {
  const scratch_directory folder;
  const descriptor second = opened(folder / "a");
  {
    const descriptor first = opened(folder / "a");
    CHECK(io::detail::try_lock(first) == io::detail::lock_result::taken);
    CHECK(io::detail::try_lock(second) == io::detail::lock_result::held_by_another);
  }
  CHECK(io::detail::try_lock(second) == io::detail::lock_result::taken);
}

TEST_CASE("an open file without a name is told from one that has one") {
  const scratch_directory folder;
  const descriptor file = opened(folder / "a");
  CHECK(io::detail::has_name(file));
  std::filesystem::remove(folder / "a");
  CHECK(!io::detail::has_name(file));
}

TEST_CASE("a failing system call is reported with what it was for, the path and the reason") {
  CHECK_THROWS_WITH_AS(fail_system("open", "/a b", ENOENT),
                       "mtp::io: cannot open '/a b': No such file or directory (errno 2)",
                       error);
}

}  // namespace mtp::test::io_descriptor_cases
