// cp.async: copies from device memory to the shared memory of the block that arrive some time
// between their start and the wait for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "emulation/block.hpp"
#include "emulation/device_heap.hpp"
#include "emulation/sites.hpp"

namespace mtp::emulation {

struct pending_copy {
  void* to;
  const void* from;  // null: zeros
  unsigned bytes, group;
};

MTP_EMULATION_INTERNAL inline bool is_aligned(const void* address, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(address) % alignment == 0;
}

[[noreturn]] inline void raise_outside_shared(const char* operation,
                                              std::uintptr_t offset,
                                              std::size_t bytes) {
  raise_fault(std::string(operation) + ": " + std::to_string(bytes) + " bytes at offset " +
              std::to_string(static_cast<std::intptr_t>(offset)) + " are not within the " +
              std::to_string(running.shared_bytes) + " bytes of the block's shared memory");
}
[[noreturn]] inline void raise_misaligned(const char* operation,
                                          const char* memory,
                                          std::size_t bytes) {
  raise_fault(std::string(operation) + ": the address in " + memory +
              " memory is not a multiple of " + std::to_string(bytes) + " bytes");
}

/// Faults unless `address` lies in the shared memory of the block and is aligned.
MTP_EMULATION_INTERNAL inline void check_shared(const char* operation,
                                                const void* address,
                                                std::size_t bytes) {
  const std::uintptr_t offset =
      reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(running.shared);
  if (offset > running.shared_bytes || bytes > running.shared_bytes - offset) {
    raise_outside_shared(operation, offset, bytes);
  }
  if (!is_aligned(address, bytes)) {
    raise_misaligned(operation, "shared", bytes);
  }
}

MTP_EMULATION_INTERNAL inline void check_device_alignment(const char* operation,
                                                          const void* address,
                                                          std::size_t bytes) {
  if (!is_aligned(address, bytes)) {
    raise_misaligned(operation, "device", bytes);
  }
}

/// Faults unless the address exists: an instruction may look it up although it reads nothing.
inline void check_exists(const char* operation, const void* address, std::size_t bytes) {
  if (!heap().contains(address, bytes)) {
    raise_fault(std::string(operation) +
                ": the address from which nothing is to be read is not in memory of the device");
  }
}

template <class Word>
MTP_EMULATION_INTERNAL inline void copy_word(void* to, const void* from) {
  *static_cast<Word*>(to) = from == nullptr ? Word{} : *static_cast<const Word*>(from);
}

MTP_EMULATION_INTERNAL inline void perform(const pending_copy& copy) {
  struct alignas(16) sixteen_bytes {
    std::uint64_t low, high;
  };
  switch (copy.bytes) {
    case 4:
      copy_word<std::uint32_t>(copy.to, copy.from);
      break;
    case 8:
      copy_word<std::uint64_t>(copy.to, copy.from);
      break;
    default:
      copy_word<sixteen_bytes>(copy.to, copy.from);
  }
}

/// For the race detector: the copy may happen now. That is said at its start and at the wait, so
/// that whoever meets it in between is found, whatever the order of execution.
inline void note_copy(const pending_copy& copy) {
  if (copy.from != nullptr) {
    note_read(copy.from, copy.bytes);
  }
  note_write(copy.to, copy.bytes);
}

MTP_EMULATION_INTERNAL inline void grow(copy_queue& copies) {
  const unsigned capacity = copies.capacity == 0 ? 128 : 2 * copies.capacity;
  auto* const entries = static_cast<pending_copy*>(allocate_pages(capacity * sizeof(pending_copy)));
  for (unsigned i = copies.begin; i < copies.end; ++i) {
    entries[i - copies.begin] = copies.entries[i];
  }
  if (copies.capacity != 0) {
    free_pages(copies.entries, copies.capacity * sizeof(pending_copy));
  }
  copies = {entries, capacity, 0, copies.end - copies.begin, copies.commits};
}

template <unsigned Bytes>
MTP_EMULATION_INTERNAL inline void start_copy(void* to, const void* from, bool valid) {
  device_thread& self = this_thread("copy_async");
  check_shared("copy_async", to, Bytes);
  check_device_alignment("copy_async", from, Bytes);
  if (!valid) {
    check_exists("copy_async", from, Bytes);
  }
  copy_queue& copies = self.copies;
  if (copies.begin == copies.end) {
    copies.begin = copies.end = 0;
  } else if (copies.end == copies.capacity) {
    grow(copies);
  }
  if (copies.capacity == 0) {
    grow(copies);
  }
  const pending_copy copy{to, valid ? from : nullptr, Bytes, copies.commits};
  copies.entries[copies.end++] = copy;
  note_copy(copy);
  if (!running.deferred_copies) {
    perform(copy);
  } else if (address_sanitized && valid) {
    // AddressSanitizer shall name the line that starts the copy, not the one that waits.
    alignas(16) unsigned char sink[16];
    perform({sink, from, Bytes, 0});
  }
}

MTP_EMULATION_INTERNAL inline void commit_copies() {
  ++this_thread("copy_async_commit").copies.commits;
}

/// Waits until at most the last `pending` groups are on their way.
MTP_EMULATION_INTERNAL inline void wait_for_copies(unsigned pending, const char* file, int line) {
  copy_queue& copies = this_thread("copy_async_wait").copies;
  if (detail::pass_site(site_kind::copy_wait, file, line)) {
    return;
  }
  while (copies.begin != copies.end &&
         copies.entries[copies.begin].group + pending < copies.commits) {
    const pending_copy& copy = copies.entries[copies.begin++];
    note_copy(copy);
    if (running.deferred_copies) {
      perform(copy);
    }
  }
}

/// At the end of a thread: whoever started a copy waits for it, or it would write into the shared
/// memory of another block.
inline void check_no_copies_left() {
  const copy_queue& copies = running.current->copies;
  if (copies.begin != copies.end) {
    raise_fault("copy_async: thread " + std::to_string(running.current->rank) + " exits with " +
                std::to_string(copies.end - copies.begin) + " copies that it never waited for");
  }
}

}  // namespace mtp::emulation
