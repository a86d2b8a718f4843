// Lets the system calls of an executable fail, by functions in front of the C library's. To be
// included by one file of an executable.
#pragma once

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <doctest/doctest.h>
#include <filesystem>
#include <iterator>
#include <string>

#include "mtp/core/error.hpp"

namespace {

/// What happens to a call.
enum class call_fault {
  fails,          ///< it fails, those behind it do not
  keeps_failing,  ///< it fails, and all behind it
  interrupted,    ///< a signal comes first: EINTR, once
  partial,        ///< it reads or writes one byte of several, once
};

std::atomic<call_fault> fault{call_fault::fails};
std::atomic<long> calls_before_fault{-1};  // negative: there is none
std::atomic<long> faults{0};
std::atomic<bool> must_be_reported{false};  // the first of them

/// Whether the fault strikes this call.
bool strikes(bool can_be_interrupted, bool can_be_partial) {
  const call_fault kind = fault;
  if ((kind == call_fault::interrupted && !can_be_interrupted) ||
      (kind == call_fault::partial && !can_be_partial)) {
    return false;
  }
  long left = calls_before_fault;
  while (left >= 0) {
    const long next = left == 0 && kind == call_fault::keeps_failing ? 0 : left - 1;
    if (calls_before_fault.compare_exchange_weak(left, next)) {
      faults += left == 0 ? 1 : 0;
      return left == 0;
    }
  }
  return false;
}

template <class Function>
Function* in_the_library(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

/// Whether a call puts bytes or names on the disk, so that nobody may take it for done if it fails.
enum class call_kind { looks, writes };

/// A call that may fail with `code`, or with EINTR if `can_be_interrupted`.
template <call_kind Kind = call_kind::looks, class Result, class Call>
Result faulty(int code, bool can_be_interrupted, Result failure, const Call& call) {
  if (!strikes(can_be_interrupted, false)) return call();
  if (faults == 1) must_be_reported = Kind == call_kind::writes;
  errno = fault == call_fault::interrupted ? EINTR : code;
  return failure;
}

/// The same for a transfer of `count` bytes.
template <call_kind Kind, class Call>
::ssize_t faulty_transfer(int code, std::size_t count, const Call& call) {
  if (!strikes(true, count > 1)) return call(count);
  if (faults == 1) must_be_reported = Kind == call_kind::writes;
  if (fault == call_fault::partial) return call(1);
  errno = fault == call_fault::interrupted ? EINTR : code;
  return -1;
}

/// The mode of a file that open may make.
template <class Open>
int opened(int flags, std::va_list arguments, const Open& open) {
  const ::mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, ::mode_t) : 0;
  return faulty(EMFILE, true, -1, [&] { return open(mode); });
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  static auto* const next = in_the_library<int(const char*, int, ...)>("open");
  std::va_list arguments;
  va_start(arguments, flags);
  const int result =
      opened(flags, arguments, [&](::mode_t mode) { return next(path, flags, mode); });
  va_end(arguments);
  return result;
}

int openat(int folder, const char* path, int flags, ...) {
  static auto* const next = in_the_library<int(int, const char*, int, ...)>("openat");
  std::va_list arguments;
  va_start(arguments, flags);
  const int result =
      opened(flags, arguments, [&](::mode_t mode) { return next(folder, path, flags, mode); });
  va_end(arguments);
  return result;
}

// Closed in either case, as on Linux.
int close(int file) {
  static auto* const next = in_the_library<int(int)>("close");
  const int result = next(file);
  return faulty(EIO, false, -1, [&] { return result; });
}

::ssize_t pread(int file, void* to, std::size_t count, ::off_t offset) {
  static auto* const next = in_the_library<::ssize_t(int, void*, std::size_t, ::off_t)>("pread");
  return faulty_transfer<call_kind::looks>(
      EIO, count, [&](std::size_t some) { return next(file, to, some, offset); });
}

::ssize_t pwrite(int file, const void* from, std::size_t count, ::off_t offset) {
  static auto* const next =
      in_the_library<::ssize_t(int, const void*, std::size_t, ::off_t)>("pwrite");
  return faulty_transfer<call_kind::writes>(
      ENOSPC, count, [&](std::size_t some) { return next(file, from, some, offset); });
}

int fsync(int file) {
  static auto* const next = in_the_library<int(int)>("fsync");
  return faulty<call_kind::writes>(EIO, true, -1, [&] { return next(file); });
}

int fdatasync(int file) {
  static auto* const next = in_the_library<int(int)>("fdatasync");
  return faulty<call_kind::writes>(EIO, true, -1, [&] { return next(file); });
}

int ftruncate(int file, ::off_t size) noexcept {
  static auto* const next = in_the_library<int(int, ::off_t)>("ftruncate");
  return faulty(EIO, true, -1, [&] { return next(file, size); });
}

int fstat(int file, struct ::stat* status) noexcept {
  static auto* const next = in_the_library<int(int, struct ::stat*)>("fstat");
  return faulty(EIO, false, -1, [&] { return next(file, status); });
}

int fstatat(int folder, const char* name, struct ::stat* status, int flags) noexcept {
  static auto* const next = in_the_library<int(int, const char*, struct ::stat*, int)>("fstatat");
  return faulty(EACCES, false, -1, [&] { return next(folder, name, status, flags); });
}

int renameat(int from_folder, const char* from, int to_folder, const char* to) noexcept {
  static auto* const next = in_the_library<int(int, const char*, int, const char*)>("renameat");
  return faulty<call_kind::writes>(
      EIO, false, -1, [&] { return next(from_folder, from, to_folder, to); });
}

int linkat(int from_folder, const char* from, int to_folder, const char* to, int flags) noexcept {
  static auto* const next = in_the_library<int(int, const char*, int, const char*, int)>("linkat");
  return faulty(EPERM, false, -1, [&] { return next(from_folder, from, to_folder, to, flags); });
}

int unlinkat(int folder, const char* name, int flags) noexcept {
  static auto* const next = in_the_library<int(int, const char*, int)>("unlinkat");
  return faulty(EIO, false, -1, [&] { return next(folder, name, flags); });
}

int flock(int file, int operation) noexcept {
  static auto* const next = in_the_library<int(int, int)>("flock");
  return faulty(ENOLCK, true, -1, [&] { return next(file, operation); });
}

int fcntl(int file, int command, ...) {
  static auto* const next = in_the_library<int(int, int, ...)>("fcntl");
  std::va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  return faulty(EMFILE, false, -1, [&] { return next(file, command, argument); });
}

void* mmap(
    void* at, std::size_t bytes, int protection, int flags, int file, ::off_t offset) noexcept {
  static auto* const next =
      in_the_library<void*(void*, std::size_t, int, int, int, ::off_t)>("mmap");
  // Memory without a file is the business of those who allocate.
  if (file < 0) return next(at, bytes, protection, flags, file, offset);
  return faulty(
      ENOMEM, false, MAP_FAILED, [&] { return next(at, bytes, protection, flags, file, offset); });
}

}  // extern "C"

namespace mtp::test {

/// Descriptors that are open.
inline std::ptrdiff_t open_descriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                       std::filesystem::directory_iterator());
}

/// Calls body() again and again: the first system call meets a fault, then the second, and so on
/// until none is left, once for each fault. A call that a fault stops throws mtp::error, as one
/// does that could not write, sync or rename; none stops at an interruption or a partial transfer.
/// After each call, no descriptor is left open and after(threw) makes its own checks. Returns how
/// many system calls a call has.
template <class Body, class After>
long fault_at_each_call(const Body& body, const After& after) {
  long calls = 0;
  for (const call_fault kind : {call_fault::fails,
                                call_fault::keeps_failing,
                                call_fault::interrupted,
                                call_fault::partial}) {
    bool struck = true;
    for (long number = 0; struck; ++number) {
      REQUIRE(number < 10000);
      const std::ptrdiff_t before = open_descriptors();
      std::string message;
      bool threw = false, expected = true;
      fault = kind;
      faults = 0;
      must_be_reported = false;
      calls_before_fault = number;
      try {
        body();
      } catch (const mtp::error& error) {
        threw = true;
        message = error.what();
      } catch (...) {
        expected = false;
      }
      calls_before_fault = -1;
      struck = faults > 0;
      const std::ptrdiff_t left_open = open_descriptors() - before;
      CAPTURE(number);
      CAPTURE(static_cast<int>(kind));
      CAPTURE(message);
      CHECK(expected);
      CHECK(left_open == 0);
      CHECK((struck || !threw));
      const bool is_failure = kind == call_fault::fails || kind == call_fault::keeps_failing;
      CHECK((is_failure || !threw));
      CHECK((threw || !is_failure || !must_be_reported));
      after(threw);
      calls = (std::max)(calls, number);
    }
  }
  return calls;
}

}  // namespace mtp::test
