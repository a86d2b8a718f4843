// The memory that the emulated runtime has given away.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "emulation/control.hpp"
#include "emulation/fault.hpp"
#include "emulation/guarded_memory.hpp"

namespace mtp::emulation {

enum class memory_kind { device, pinned };

class device_heap {
 public:
  /// Null if a limit forbids it.
  void* allocate(std::size_t bytes, memory_kind kind) {
    counters& counts = detail::runtime().counts;
    if (kind == memory_kind::device && bytes > available()) {
      return nullptr;
    }
    auto memory = std::make_unique<guarded_memory>(bytes, alignment);
    memory->forget(settings().poison);
    void* const address = memory->data();
    blocks_.emplace(key(address),
                    allocation{kind, settings().early_kernels_see_the_past, std::move(memory)});
    ++counts.allocations;
    ++counts.live_allocations;
    counts.live_bytes += bytes;
    device_bytes_ += kind == memory_kind::device ? bytes : 0;
    return address;
  }

  /// False if `address` is not the beginning of such memory.
  bool release(void* address, memory_kind kind) {
    const auto found = blocks_.find(key(address));
    if (found == blocks_.end() || found->second.kind != kind) {
      return false;
    }
    counters& counts = detail::runtime().counts;
    const std::size_t bytes = found->second.memory->bytes();
    ++counts.frees;
    --counts.live_allocations;
    counts.live_bytes -= bytes;
    device_bytes_ -= kind == memory_kind::device ? bytes : 0;
    blocks_.erase(found);
    return true;
  }

  std::size_t total() const {
    return std::min(settings().memory_bytes, detail::runtime().memory_limit);
  }
  std::size_t available() const { return total() - std::min(total(), device_bytes_); }

  /// Whether all of [address, address + bytes) lies in one allocation.
  bool contains(const void* address, std::size_t bytes) const {
    return contains(find(address), address, bytes);
  }
  /// Whether all of it lies in one allocation of this kind.
  bool contains(const void* address, std::size_t bytes, memory_kind kind) const {
    const allocation* const found = find(address);
    return contains(found, address, bytes) && found->kind == kind;
  }
  /// Whether it begins in device memory, to whatever length.
  bool on_device(const void* address) const {
    const allocation* const found = find(address);
    return found != nullptr && found->kind == memory_kind::device;
  }

  /// What is in memory that was given away while early kernels see the past, by address.
  using image = std::map<std::uintptr_t, std::vector<unsigned char>>;
  image remember() const {
    image bytes;
    for (const auto& [address, block] : blocks_) {
      if (block.has_past) {
        const unsigned char* const data = block.memory->data();
        bytes.emplace(address, std::vector<unsigned char>(data, data + block.memory->bytes()));
      }
    }
    return bytes;
  }
  /// Memory that has been given away since then, or back, stays as it is.
  void restore(const image& bytes) {
    for (const auto& [address, saved] : bytes) {
      const auto found = blocks_.find(address);
      if (found != blocks_.end() && found->second.memory->bytes() == saved.size()) {
        std::copy(saved.begin(), saved.end(), found->second.memory->data());
      }
    }
  }
  /// Whether memory is as it would be after restore.
  bool equals(const image& bytes) const {
    return std::all_of(bytes.begin(), bytes.end(), [&](const auto& entry) {
      const auto found = blocks_.find(entry.first);
      return found == blocks_.end() || found->second.memory->bytes() != entry.second.size() ||
             std::equal(entry.second.begin(), entry.second.end(), found->second.memory->data());
    });
  }

  void check_guards() const {
    for (const auto& [address, block] : blocks_) {
      if (!block.memory->intact()) {
        throw fault("a kernel wrote beside an allocation of " +
                    std::to_string(block.memory->bytes()) + " bytes");
      }
    }
  }

 private:
  static constexpr std::size_t alignment = 256;  // what cudaMalloc promises

  struct allocation {
    memory_kind kind;
    bool has_past;
    std::unique_ptr<guarded_memory> memory;
  };

  static std::uintptr_t key(const void* address) {
    return reinterpret_cast<std::uintptr_t>(address);
  }

  static bool contains(const allocation* found, const void* address, std::size_t bytes) {
    return found != nullptr &&
           key(address) - key(found->memory->data()) + bytes <= found->memory->bytes();
  }

  const allocation* find(const void* address) const {
    auto behind = blocks_.upper_bound(key(address));
    if (behind == blocks_.begin()) {
      return nullptr;
    }
    const allocation& candidate = std::prev(behind)->second;
    return key(address) - key(candidate.memory->data()) <= candidate.memory->bytes() ? &candidate
                                                                                     : nullptr;
  }

  std::map<std::uintptr_t, allocation> blocks_;
  std::size_t device_bytes_ = 0;
};

inline device_heap& heap() {
  static device_heap blocks;
  return blocks;
}

}  // namespace mtp::emulation
