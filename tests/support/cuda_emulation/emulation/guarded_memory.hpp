// Memory of the device: poisoned before its first use, and between zones that nobody may touch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "emulation/sanitizers.hpp"

namespace mtp::emulation {

inline constexpr unsigned char poison_byte = 0xff;  // a NaN in every type of number
inline constexpr unsigned char guard_byte = 0xa5;

/// Volatile, so that it stays a loop: calls of memset are seen by sanitizers.
MTP_EMULATION_INTERNAL inline void fill_unseen(unsigned char* begin,
                                               std::size_t bytes,
                                               unsigned char value) {
  std::size_t i = 0;
  for (; i < bytes && reinterpret_cast<std::uintptr_t>(begin + i) % 8 != 0; ++i) {
    *static_cast<volatile unsigned char*>(begin + i) = value;
  }
  for (; i + 8 <= bytes; i += 8) {
    *reinterpret_cast<volatile std::uint64_t*>(begin + i) = value * 0x0101010101010101u;
  }
  for (; i < bytes; ++i) {
    *static_cast<volatile unsigned char*>(begin + i) = value;
  }
}

/// Whether all bytes are `value`.
MTP_EMULATION_INTERNAL inline bool filled_unseen(const unsigned char* begin,
                                                 std::size_t bytes,
                                                 unsigned char value) {
  std::size_t i = 0;
  bool filled = true;
  for (; i < bytes && reinterpret_cast<std::uintptr_t>(begin + i) % 8 != 0; ++i) {
    filled &= *static_cast<const volatile unsigned char*>(begin + i) == value;
  }
  for (; i + 8 <= bytes; i += 8) {
    filled &=
        *reinterpret_cast<const volatile std::uint64_t*>(begin + i) == value * 0x0101010101010101u;
  }
  for (; i < bytes; ++i) {
    filled &= *static_cast<const volatile unsigned char*>(begin + i) == value;
  }
  return filled;
}

class guarded_memory {
 public:
  /// The address is a multiple of `alignment`, 128 or 256, and of nothing more.
  guarded_memory(std::size_t bytes, std::size_t alignment)
      : bytes_(bytes),
        front_(2 * block + alignment),
        memory_(static_cast<unsigned char*>(
            std::aligned_alloc(block, (front_ + bytes + back + block - 1) / block * block))) {
    if (memory_ == nullptr) {
      throw std::bad_alloc();
    }
    fill_unseen(memory_, front_, guard_byte);
    fill_unseen(data() + bytes, back, guard_byte);
#if MTP_EMULATION_ASAN
    __asan_poison_memory_region(memory_, front_);
    __asan_poison_memory_region(data() + bytes, back);
#endif
  }
  ~guarded_memory() {
#if MTP_EMULATION_ASAN
    __asan_unpoison_memory_region(memory_, front_ + bytes_ + back);
#endif
    std::free(memory_);
  }
  guarded_memory(const guarded_memory&) = delete;
  guarded_memory& operator=(const guarded_memory&) = delete;

  unsigned char* data() const {
    return memory_ + front_;
  }
  std::size_t bytes() const {
    return bytes_;
  }

  void forget(bool poison) {
    fill_unseen(data(), bytes_, poison ? poison_byte : 0);
  }

  /// Nothing was written beside it. AddressSanitizer would have said so at once.
  bool intact() const {
    return address_sanitized || (filled_unseen(memory_, front_, guard_byte) &&
                                 filled_unseen(data() + bytes_, back, guard_byte));
  }

 private:
  static constexpr std::size_t block = 512, back = 512;

  std::size_t bytes_, front_;
  unsigned char* memory_;
};

}  // namespace mtp::emulation
