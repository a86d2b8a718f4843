#include "mtp/io/file.hpp"

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <doctest/doctest.h>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "io/scratch.hpp"

namespace mtp::test::io_file_cases {

namespace {

using namespace mtp::io;
using namespace mtp::testing;

std::string read_text(const input_file& file, std::uint64_t offset, std::size_t count) {
  std::string text(count, '?');
  file.read_exactly(offset, std::as_writable_bytes(std::span(text)));
  return text;
}

void replace_content(const std::filesystem::path& path, const std::string& text) {
  atomic_file file(path);
  file.write(bytes_of(text));
  file.commit();
}

/// What a process leaves that is killed while it writes `target`: the name, in the same folder.
std::string left_by_killed_writer(const std::filesystem::path& target) {
  std::array<int, 2> pipe{};
  REQUIRE(::pipe(pipe.data()) == 0);
  const ::pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    atomic_file file(target);
    file.write(bytes_of("half"));
    const std::string& name = file.temporary();
    static_cast<void>(::write(pipe[1], name.data(), name.size()));
    ::raise(SIGKILL);
  }
  ::close(pipe[1]);
  std::array<char, 300> name{};
  const ::ssize_t length = ::read(pipe[0], name.data(), name.size());
  ::close(pipe[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  REQUIRE(length > 0);
  const std::string left(name.data(), static_cast<std::size_t>(length));
  REQUIRE(content(target.parent_path() / left) == "half");
  return left;
}

}  // namespace

TEST_CASE("input_file reads exactly the bytes asked for") {
  const scratch_directory scratch;
  put(scratch / "digits", "0123456789");
  const input_file file(scratch / "digits");
  CHECK(file.size() == 10);
  CHECK(read_text(file, 0, 10) == "0123456789");
  CHECK(read_text(file, 7, 3) == "789");
  CHECK(read_text(file, 10, 0) == "");
  CHECK(read_text(file, 1000, 0) == "");
}

TEST_CASE("input_file names path, offset, wanted and got when the file ends too early") {
  const scratch_directory scratch;
  put(scratch / "digits", "0123456789");
  const input_file file(scratch / "digits");
  const std::string message = refusal([&] { read_text(file, 7, 5); });
  CHECK(message == "mtp::io: '" + (scratch / "digits").string() +
                       "' ends too early: at offset 7 wanted 5 bytes, got 3");
  CHECK(contains(refusal([&] { read_text(file, 11, 1); }), "wanted 1 bytes, got 0"));

  std::filesystem::resize_file(scratch / "digits", 4);  // by someone else, meanwhile
  CHECK(contains(refusal([&] { read_text(file, 0, 10); }), "wanted 10 bytes, got 4"));
}

TEST_CASE("input_file refuses offsets that no file has") {
  const scratch_directory scratch;
  put(scratch / "digits", "0123456789");
  const input_file file(scratch / "digits");
  for (const std::uint64_t offset :
       {~std::uint64_t{0}, std::uint64_t{1} << 63, ~std::uint64_t{0} >> 1}) {
    CHECK(contains(refusal([&] { read_text(file, offset, 1); }), "beyond any file"));
  }
}

TEST_CASE("input_file refuses everything that is not a readable regular file") {
  const scratch_directory scratch;
  const auto open_error = [](const std::filesystem::path& path) {
    const std::string message = refusal([&] { input_file file(path); });
    CHECK(contains(message, "'" + path.string() + "'"));
    return message;
  };
  CHECK(contains(open_error(scratch / "absent"), "No such file or directory (errno 2)"));
  CHECK(contains(open_error(scratch.path()), "Is a directory"));
  CHECK(contains(open_error("/dev/zero"), "not a regular file"));
  CHECK(contains(open_error(""), "No such file or directory"));

  put(scratch / "plain", "x");
  CHECK(contains(open_error(scratch / "plain/below"), "Not a directory"));
  CHECK(contains(open_error(scratch / std::string(300, 'n')), "File name too long"));

  REQUIRE(::mkfifo((scratch / "pipe").c_str(), 0600) == 0);
  CHECK(contains(open_error(scratch / "pipe"), "not a regular file"));  // and does not wait

  // The superuser may read everything, so that only another user can be refused.
  std::filesystem::permissions(scratch / "plain", std::filesystem::perms::none);
  const bool is_superuser = ::geteuid() == 0;
  if (is_superuser) {
    std::filesystem::permissions(scratch.path(), std::filesystem::perms::all);
    REQUIRE(::seteuid(65534) == 0);
  }
  const std::string message = refusal([&] { input_file file(scratch / "plain"); });
  if (is_superuser) REQUIRE(::seteuid(0) == 0);
  CHECK(contains(message, "Permission denied"));
}

TEST_CASE("input_file keeps the content it opened when the file is replaced") {
  const scratch_directory scratch;
  put(scratch / "file", "before");
  const input_file file(scratch / "file");
  replace_content(scratch / "file", "after!");
  CHECK(read_text(file, 0, 6) == "before");
  CHECK(content(scratch / "file") == "after!");
}

TEST_CASE("atomic_file shows the new content only after commit") {
  const scratch_directory scratch;
  put(scratch / "file", "old");
  {
    atomic_file file(scratch / "file");
    file.write(bytes_of("new "));
    file.write({});
    file.write(bytes_of("content"));
    file.write_at(4, bytes_of("CON"));
    CHECK(file.size() == 11);
    CHECK(content(scratch / "file") == "old");
    CHECK(scratch.entries() == 2);
    file.commit();
    CHECK(content(scratch / "file") == "new CONtent");
    CHECK(contains(refusal([&] { file.write(bytes_of("x")); }), "already committed"));
    CHECK(contains(refusal([&] { file.write_at(0, bytes_of("x")); }), "already committed"));
    CHECK(contains(refusal([&] { file.commit(); }), "already committed"));
  }
  CHECK(content(scratch / "file") == "new CONtent");
  CHECK(scratch.entries() == 1);
}

TEST_CASE("atomic_file leaves no trace without commit") {
  const scratch_directory scratch;
  put(scratch / "file", "old");
  {
    atomic_file file(scratch / "file");
    file.write(bytes_of("new"));
  }
  {
    atomic_file file(scratch / "absent");
    file.write(bytes_of("new"));
  }
  CHECK(content(scratch / "file") == "old");
  CHECK(scratch.entries() == 1);
}

TEST_CASE("atomic_file replaces only bytes that are written") {
  const scratch_directory scratch;
  atomic_file file(scratch / "file");
  file.write(bytes_of("12345"));
  CHECK(contains(refusal([&] { file.write_at(3, bytes_of("abc")); }), "only 5 bytes are written"));
  CHECK(
      contains(refusal([&] { file.write_at(~std::uint64_t{0}, bytes_of("ab")); }), "only 5 bytes"));
  file.write_at(5, {});
  file.write_at(3, bytes_of("ab"));
  file.commit();
  CHECK(content(scratch / "file") == "123ab");
}

TEST_CASE("atomic_file gives a new file the permissions of any new file") {
  const scratch_directory scratch;
  put(scratch / "plain", "");
  replace_content(scratch / "file", "x");
  CHECK(std::filesystem::status(scratch / "file").permissions() ==
        std::filesystem::status(scratch / "plain").permissions());
}

TEST_CASE("atomic_file refuses targets that cannot become a file") {
  const scratch_directory scratch;
  const auto open_error = [](const std::filesystem::path& path) {
    const std::string message = refusal([&] { atomic_file file(path); });
    CHECK(contains(message, "'" + path.string() + "'"));
    return message;
  };
  put(scratch / "plain", "x");
  CHECK(contains(open_error(scratch / "absent/file"), "No such file or directory"));
  CHECK(contains(open_error(scratch / "plain/file"), "Not a directory"));
  CHECK(contains(open_error(scratch.path()), "Is a directory"));
  CHECK(contains(open_error(scratch / "folder/"), "not the name of a file"));
  CHECK(contains(open_error(""), "not the name of a file"));
  CHECK(contains(open_error(scratch / std::string(256, 'n')), "File name too long"));
  CHECK(scratch.entries() == 1);
}

TEST_CASE("atomic_file takes every name that a file may have") {
  const scratch_directory scratch;
  for (const std::string& name : {std::string(255, 'n'),
                                  std::string(230, 'n') + ".safetensors",
                                  std::string(122, 'n') + std::string("\xc3\xa4") + "n",
                                  std::string("-"),
                                  std::string("a b'\n")}) {
    replace_content(scratch / name, name);
    CHECK(content(scratch / name) == name);
  }
  std::string umlauts;  // two bytes each: no name ends within one
  for (int i = 0; i < 127; ++i) umlauts += "\xc3\xa4";
  atomic_file file(scratch / umlauts);
  const auto mark = file.temporary().find(".mtp.tmp-");
  CHECK(mark != std::string::npos);
  CHECK(mark % 2 == 0);
  file.commit();
  CHECK(content(scratch / umlauts).empty());
  CHECK(scratch.entries() == 6);
}

TEST_CASE("atomic_file leaves pipes, sockets and devices alone") {
  const scratch_directory scratch;
  const auto kind_of = [](const std::filesystem::path& path) {
    struct ::stat status {};
    REQUIRE(::lstat(path.c_str(), &status) == 0);
    return status.st_mode & S_IFMT;
  };
  const auto check_refused = [&](const std::filesystem::path& path, const std::string& kind) {
    const auto before = kind_of(path);
    const std::string message = refusal([&] { replace_content(path, "new"); });
    CHECK_MESSAGE(contains(message, "'" + path.string() + "'"), message);
    CHECK_MESSAGE(contains(message, kind + ", not a regular file"), message);
    CHECK(kind_of(path) == before);
  };
  REQUIRE(::mkfifo((scratch / "pipe").c_str(), 0600) == 0);
  check_refused(scratch / "pipe", "a pipe");

  const descriptor socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  ::sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = (scratch / "socket").string();
  REQUIRE(name.size() < sizeof(address.sun_path));
  std::memcpy(address.sun_path, name.c_str(), name.size());
  REQUIRE(::bind(socket.get(), reinterpret_cast<const ::sockaddr*>(&address), sizeof(address)) ==
          0);
  check_refused(scratch / "socket", "a socket");

  std::filesystem::create_symlink("pipe", scratch / "link");
  check_refused(scratch / "link", "a pipe");
  CHECK(scratch.entries() == 3);

  // Never the machine's own: without the check, the superuser replaces them. Others may make none.
  if (::mknod((scratch / "null").c_str(), S_IFCHR | 0600, makedev(1, 3)) == 0) {
    check_refused(scratch / "null", "a device");
    std::filesystem::remove(scratch / "null");
  }

  // One that comes while the file is written.
  {
    atomic_file file(scratch / "late");
    REQUIRE(::mkfifo((scratch / "late").c_str(), 0600) == 0);
    CHECK(contains(refusal([&] { file.commit(); }), "a pipe, not a regular file"));
  }
  CHECK(S_ISFIFO(kind_of(scratch / "late")));
  CHECK(scratch.entries() == 4);
}

TEST_CASE("atomic_file replaces a symbolic link, wherever it points") {
  const scratch_directory scratch;
  put(scratch / "plain", "old");
  for (const char* to : {"plain", "absent", "self", "plain/below"}) {
    std::filesystem::remove(scratch / "self");
    std::filesystem::create_symlink(to, scratch / "self");
    replace_content(scratch / "self", "new");
    CHECK(std::filesystem::symlink_status(scratch / "self").type() ==
          std::filesystem::file_type::regular);
    CHECK(content(scratch / "plain") == "old");
  }
}

TEST_CASE("atomic_file reports a failed rename and removes the temporary file") {
  const scratch_directory scratch;
  {
    atomic_file file(scratch / "target");
    file.write(bytes_of("new"));
    std::filesystem::create_directory(scratch / "target");
    put(scratch / "target/inside", "old");
    const std::string message = refusal([&] { file.commit(); });
    CHECK(contains(message, "cannot write"));
    CHECK(contains(message, "Is a directory"));
  }
  CHECK(content(scratch / "target/inside") == "old");
  CHECK(scratch.entries() == 1);
  {
    atomic_file file(scratch / "file");
    std::filesystem::remove(scratch / file.temporary());  // by someone else
    const std::string message = refusal([&] { file.commit(); });
    CHECK(contains(message, "cannot rename"));
    CHECK(contains(message, "No such file or directory (errno 2)"));
  }
  CHECK(scratch.entries() == 1);
}

TEST_CASE("atomic_file survives a change of the working directory") {
  const scratch_directory scratch;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(scratch.path());
  {
    atomic_file file("relative");
    atomic_file abandoned("abandoned");
    std::filesystem::current_path(before);
    file.write(bytes_of("x"));
    file.commit();
  }
  CHECK(content(scratch / "relative") == "x");
  CHECK(scratch.entries() == 1);
}

TEST_CASE("atomic_file removes what killed processes have left in the folder") {
  const scratch_directory scratch;
  for (const std::string& name :
       {std::string("other"), std::string("file"), std::string(255, 'n')}) {
    left_by_killed_writer(scratch / name);
    replace_content(scratch / "file", "whole");
    CHECK(content(scratch / "file") == "whole");
    CHECK(scratch.entries() == 1);
  }
}

TEST_CASE("atomic_file removes what is left under its own process number") {
  // A container gives the same number to each process that it starts.
  const scratch_directory scratch;
  std::string left;
  {
    const atomic_file file(scratch / "file");
    left = file.temporary();
  }
  put(scratch / left, "half");
  replace_content(scratch / "file", "whole");
  CHECK(scratch.entries() == 1);
}

TEST_CASE("atomic_file removes nothing that is in use, or that it has not made") {
  const scratch_directory scratch;
  const std::string left = left_by_killed_writer(scratch / "file");
  const auto process = left.rfind("-", left.rfind("-") - 1) + 1;
  const std::string start = left.substr(0, process), gone = left.substr(process);
  std::filesystem::remove(scratch / left);

  std::vector<std::string> kept{
      "file.tmp-" + gone,  // a user's own
      "file.mtp.tmp-" + gone + "~",
      "file.mtp.tmp-0" + gone,
      "file.mtp.tmp-" + gone.substr(0, gone.find('-')),
      "file.mtp.tmp--1-0",
      "file.mtp.tmp-99999999999999999999-0",
      start + std::to_string(::getppid()) + "-0",  // of a process that lives
  };
  for (const std::string& name : kept) put(scratch / name, "kept");
  std::filesystem::create_directory(scratch / (start + gone));
  REQUIRE(::mkfifo((scratch / (start + gone + "1")).c_str(), 0600) == 0);
  {
    atomic_file in_use(scratch / "used");
    in_use.write(bytes_of("used"));
    replace_content(scratch / "file", "whole");
    in_use.commit();
  }
  CHECK(content(scratch / "used") == "used");
  for (const std::string& name : kept) CHECK_MESSAGE(content(scratch / name) == "kept", name);
  CHECK(scratch.entries() == static_cast<std::ptrdiff_t>(kept.size()) + 4);
}

TEST_CASE("atomic_file: of two writers at once, each writes its own and the last commit wins") {
  const scratch_directory scratch;
  atomic_file first(scratch / "file"), second(scratch / "file");
  CHECK(first.temporary() != second.temporary());
  first.write(bytes_of("fir"));
  second.write(bytes_of("second"));
  first.write(bytes_of("st"));
  second.commit();
  CHECK(content(scratch / "file") == "second");
  first.commit();
  CHECK(content(scratch / "file") == "first");
  CHECK(scratch.entries() == 1);
}

TEST_CASE("atomic_file: writers in many threads leave one whole file") {
  const scratch_directory scratch;
  std::vector<std::thread> threads;
  for (char letter = 'a'; letter < 'e'; ++letter) {
    threads.emplace_back([&scratch, letter] {
      for (int round = 0; round < 20; ++round) {
        replace_content(scratch / "file", std::string(5000, letter));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string last = content(scratch / "file");
  CHECK(last == std::string(5000, last[0]));
  CHECK(scratch.entries() == 1);
}

TEST_CASE("a full disk is an error, wherever it strikes, and the old file stays") {
  const scratch_directory scratch;
  const std::string text(3000, 'n');
  put(scratch / "file", "old");
  for (const std::size_t limit : std::array<std::size_t, 6>{0, 1, 999, 1000, 1001, 2999}) {
    std::string message;
    {
      const file_size_limit full(limit);
      message = refusal([&] {
        atomic_file file(scratch / "file");
        for (std::size_t at = 0; at < text.size(); at += 1000) {
          file.write(bytes_of(text).subspan(at, 1000));
        }
        file.commit();
      });
    }
    CHECK_MESSAGE(contains(message, "File too large"), limit, ": ", message);
    CHECK(contains(message, (scratch / "file").string()));
    CHECK(content(scratch / "file") == "old");
    CHECK(scratch.entries() == 1);
  }
  {
    const file_size_limit exact(text.size());
    replace_content(scratch / "file", text);
  }
  CHECK(content(scratch / "file") == text);
}

TEST_CASE("buffered_writer writes everything in order") {
  const scratch_directory scratch;
  std::string expected;
  {
    atomic_file file(scratch / "file");
    buffered_writer writer(file);
    const std::array<std::size_t, 9> sizes{1,
                                           0,
                                           buffered_writer::capacity - 2,
                                           1,
                                           2,
                                           buffered_writer::capacity,
                                           5,
                                           3 * buffered_writer::capacity + 7,
                                           11};
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const std::string piece(sizes[i], static_cast<char>('a' + i));
      writer.write(piece);
      expected += piece;
    }
    CHECK(file.size() < expected.size());
    writer.flush();
    CHECK(file.size() == expected.size());
    file.commit();
  }
  CHECK((content(scratch / "file") == expected));
}

TEST_CASE("descriptor passes its file on") {
  const scratch_directory scratch;
  put(scratch / "file", "x");
  descriptor a(::open((scratch / "file").c_str(), O_RDONLY | O_CLOEXEC));
  const int value = a.get();
  REQUIRE(a.is_open());
  descriptor b(std::move(a));
  CHECK(b.get() == value);
  descriptor c;
  CHECK(c.close() == 0);
  c = std::move(b);
  CHECK(c.close() == 0);
  CHECK(::fcntl(value, F_GETFD) == -1);
  CHECK(descriptor(value).close() == EBADF);
}

}  // namespace mtp::test::io_file_cases
