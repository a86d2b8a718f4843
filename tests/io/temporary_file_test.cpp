#include "mtp/io/temporary_file.hpp"

#include <unistd.h>

#include <doctest/doctest.h>
#include <string>

#include "io/scratch.hpp"

namespace mtp::test::io_temporary_file_cases {

using namespace mtp::io;
using namespace mtp::testing;

TEST_CASE("a temporary name tells its target and its process, and fits") {
  const std::string process = std::to_string(::getpid());
  CHECK(io::detail::temporary_name("a.npy", 3, 255) == "a.npy.mtp.tmp-" + process + "-3");
  const std::string tail = ".mtp.tmp-" + process + "-0";
  CHECK(io::detail::temporary_name("abcdef", 0, tail.size() + 4) == "abcd" + tail);
  // No part of a character: \xc3\xa4 is one of two bytes.
  CHECK(io::detail::temporary_name("abc\xc3\xa4", 0, tail.size() + 4) == "abc" + tail);
}

TEST_CASE("the process of a temporary file is read from its name, and from no other name") {
  CHECK(io::detail::maker_of("a.mtp.tmp-12-0") == 12);
  CHECK(io::detail::maker_of("a.mtp.tmp-1-0.mtp.tmp-12-7") == 12);
  for (const char* name : {"a",
                           "a.mtp.tmp-",
                           "a.mtp.tmp-12",
                           "a.mtp.tmp-12-",
                           "a.mtp.tmp-12-0x",
                           "a.mtp.tmp-012-0",
                           "a.mtp.tmp-0-0",
                           "a.mtp.tmp--12-0",
                           "a.mtp.tmp-99999999999999999999-0"}) {
    CAPTURE(name);
    CHECK(io::detail::maker_of(name) == 0);
  }
}

TEST_CASE("a temporary file that is in use stays, and one that is left behind goes") {
  const scratch_directory folder;
  const descriptor opened = io::detail::open_folder_of(folder / "a");
  std::string name;
  {
    const descriptor file = io::detail::make_temporary(opened, "a", name);
    REQUIRE(file.is_open());
    std::string other;
    const descriptor second = io::detail::make_temporary(opened, "a", other);
    CHECK(other != name);
    io::detail::remove_leftovers(opened);
    CHECK(folder.entries() == 2);
  }
  put(folder / "a.mtp.tmp-x", "not one of ours");
  io::detail::remove_leftovers(opened);  // nobody holds the locks any more
  CHECK(folder.entries() == 1);
}

}  // namespace mtp::test::io_temporary_file_cases
