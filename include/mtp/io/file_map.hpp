// Parts of files as memory.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>

#include "mtp/io/descriptor.hpp"

namespace mtp::inline MTP_ABI::io::detail {

/// How far an address lies behind the beginning of its page.
inline std::uintptr_t place_in_page(std::uintptr_t address) {
  return address % static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
}

/// `bytes` bytes of an open file from `offset` on as memory, which the system reads when it is
/// touched. What is written to it stays in the process. The file must have these bytes, and keep
/// them: a page that is no longer there ends the process with SIGBUS. Throws mtp::error, with the
/// path, where the system refuses.
inline std::byte* map_file(const descriptor& file,
                           const std::filesystem::path& path,
                           std::uint64_t offset,
                           std::size_t bytes) {
  if (bytes == 0) return nullptr;
  const std::uintptr_t before = place_in_page(static_cast<std::uintptr_t>(offset));
  void* const mapped = ::mmap(nullptr,
                              bytes + before,
                              PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_NORESERVE,
                              file.get(),
                              static_cast<::off_t>(offset - before));
  if (mapped == MAP_FAILED) fail_system("map", path, errno);
  return static_cast<std::byte*>(mapped) + before;
}

/// Gives back memory of map_file.
inline void unmap_file(void* data, std::size_t bytes) {
  const std::uintptr_t before = place_in_page(reinterpret_cast<std::uintptr_t>(data));
  ::munmap(static_cast<std::byte*>(data) - before, bytes + before);
}

}  // namespace mtp::inline MTP_ABI::io::detail
