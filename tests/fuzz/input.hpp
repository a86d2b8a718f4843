// What fuzz harnesses share: numbers out of bytes, and a promise that ends the run if it is broken.
//
// A harness is a header with a function harness::fuzz_one(bytes), which returns for every input
// that the library takes or refuses as documented. fuzzer.cpp makes a libFuzzer program of it, and
// <name>_test.cpp replays the corpus.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <type_traits>

#include "mtp/core/error.hpp"

namespace mtp::fuzz {

/// Takes numbers from the front of some bytes; zeros once they are used up.
class input {
 public:
  explicit input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  bool empty() const { return bytes_.empty(); }
  std::span<const std::uint8_t> rest() const { return bytes_; }

  template <class Number>
  Number take() {
    static_assert(std::is_arithmetic_v<Number>);
    Number value{};
    const std::size_t count = std::min(sizeof(value), bytes_.size());
    std::memcpy(&value, bytes_.data(), count);
    bytes_ = bytes_.subspan(count);
    return value;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

/// A promise of the library. No mtp::error, so that no handler of a harness takes it for a refusal.
inline void promise(bool holds, const char* what) {
  if (!holds) {
    throw std::logic_error(what);
  }
}

/// Whether `action` was done; false if it threw mtp::error.
template <class Action>
bool accepted(const Action& action) {
  try {
    action();
  } catch (const mtp::error&) {
    return false;
  }
  return true;
}

}  // namespace mtp::fuzz
