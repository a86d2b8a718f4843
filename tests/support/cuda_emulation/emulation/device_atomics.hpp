// Atomics and fences. A __threadfence before an atomic releases, and one behind it acquires, as in
// the PTX memory model; for the race detector, that is the only order between blocks.
#pragma once

#include "emulation/block.hpp"

namespace mtp::emulation {

/// Remembers what the next __threadfence acquires. Returns whether an earlier one releases here.
MTP_EMULATION_INTERNAL inline bool meet_atomic(const char* operation, void* address) {
  device_thread& self = this_thread(operation);
  if constexpr (thread_sanitized) {
    self.seen[self.seen_count++ % max_seen] = address;
  }
  return self.fenced;
}

MTP_EMULATION_INTERNAL inline void fence() {
  device_thread& self = this_thread("__threadfence");
  if constexpr (thread_sanitized) {
    for (unsigned i = 0; i < max_seen && i < self.seen_count; ++i) {
      acquire(*static_cast<sync_point*>(self.seen[i]));
    }
    self.seen_count = 0;
  }
  self.fenced = true;
}

template <class T>
inline constexpr bool has_atomics = false;
template <>
inline constexpr bool has_atomics<int> = true;
template <>
inline constexpr bool has_atomics<unsigned> = true;
template <>
inline constexpr bool has_atomics<unsigned long long> = true;

/// Stores what `next` makes of the old value, which is returned. The exchange never fails, because
/// no other thread of the device runs in between. (Clang would make a plain exchange whose result
/// is not used a store, which forgets what others released.)
template <class T, class Next>
T update_atomically(const char* operation, T* address, const Next& next) {
  static_assert(has_atomics<T>, "atomics: int, unsigned and unsigned long long only");
  const bool releases = meet_atomic(operation, address);
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  if (releases) {
    __atomic_compare_exchange_n(
        address, &old, next(old), false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
  } else {
    __atomic_compare_exchange_n(
        address, &old, next(old), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  }
  return old;
}

/// The type of an argument that has no say in what T is.
template <class T>
struct same {
  using type = T;
};
template <class T>
using same_t = typename same<T>::type;

}  // namespace mtp::emulation

inline void __threadfence() {
  mtp::emulation::fence();
}

template <class T>
T atomicAdd(T* address, mtp::emulation::same_t<T> value) {
  return mtp::emulation::update_atomically("atomicAdd", address, [&](T old) {
    return static_cast<T>(static_cast<unsigned long long>(old) +
                          static_cast<unsigned long long>(value));  // wraps, also for int
  });
}
template <class T>
T atomicExch(T* address, mtp::emulation::same_t<T> value) {
  return mtp::emulation::update_atomically("atomicExch", address, [&](T) { return value; });
}
template <class T>
T atomicCAS(T* address, mtp::emulation::same_t<T> expected, mtp::emulation::same_t<T> value) {
  return mtp::emulation::update_atomically(
      "atomicCAS", address, [&](T old) { return old == expected ? value : old; });
}
template <class T>
T atomicMax(T* address, mtp::emulation::same_t<T> value) {
  return mtp::emulation::update_atomically(
      "atomicMax", address, [&](T old) { return old > value ? old : value; });
}
template <class T>
T atomicMin(T* address, mtp::emulation::same_t<T> value) {
  return mtp::emulation::update_atomically(
      "atomicMin", address, [&](T old) { return old < value ? old : value; });
}
