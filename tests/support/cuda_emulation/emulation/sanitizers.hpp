// What sanitizers must be told about fibers, in one place. ThreadSanitizer takes each emulated
// thread for a thread of its own, and only the functions below tell it what is ordered.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#define MTP_EMULATION_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define MTP_EMULATION_TSAN 1
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MTP_EMULATION_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define MTP_EMULATION_TSAN 1
#endif
#endif
#if !defined(MTP_EMULATION_ASAN)
#define MTP_EMULATION_ASAN 0
#endif
#if !defined(MTP_EMULATION_TSAN)
#define MTP_EMULATION_TSAN 0
#endif

// Functions of the emulation itself: their accesses are not the kernel's. Not inlined, because the
// caller's accesses are. Clang's no_sanitize keeps the bookkeeping of calls, which would never end
// for a function that is left by a switch.
#if !MTP_EMULATION_TSAN
#define MTP_EMULATION_INTERNAL
#elif defined(__clang__)
#define MTP_EMULATION_INTERNAL __attribute__((disable_sanitizer_instrumentation, noinline))
#else
#define MTP_EMULATION_INTERNAL __attribute__((no_sanitize("thread"), noinline))
#endif

#if MTP_EMULATION_ASAN
extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack_save, const void* bottom, std::size_t size);
void __sanitizer_finish_switch_fiber(void* fake_stack_save,
                                     const void** bottom_old,
                                     std::size_t* size_old);
void __asan_poison_memory_region(const volatile void* address, std::size_t size);
void __asan_unpoison_memory_region(const volatile void* address, std::size_t size);
}
#endif

#if MTP_EMULATION_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_read_range(void* address, std::size_t size);
void __tsan_write_range(void* address, std::size_t size);
void __tsan_ignore_thread_begin();
void __tsan_ignore_thread_end();
}
#endif

namespace mtp::emulation {

inline constexpr bool address_sanitized = MTP_EMULATION_ASAN;
inline constexpr bool thread_sanitized = MTP_EMULATION_TSAN;

/// A place through which one thread of a race detector hands its past to others.
struct sync_point {
  int word = 0;
};

#if MTP_EMULATION_TSAN

inline long reported_races = 0;  // by race_hooks.cpp

MTP_EMULATION_INTERNAL inline void* current_race_thread() {
  return __tsan_get_current_fiber();
}
MTP_EMULATION_INTERNAL inline void* create_race_thread() {
  return __tsan_create_fiber(0);
}
MTP_EMULATION_INTERNAL inline void destroy_race_thread(void* thread) {
  __tsan_destroy_fiber(thread);
}
/// With flag 1: switching orders nothing.
MTP_EMULATION_INTERNAL inline void switch_race_thread(void* thread) {
  __tsan_switch_to_fiber(thread, 1);
}
/// What this thread did so far comes before whatever acquires `point` later.
MTP_EMULATION_INTERNAL inline void release(sync_point& point) {
  __tsan_release(&point.word);
}
MTP_EMULATION_INTERNAL inline void acquire(sync_point& point) {
  __tsan_acquire(&point.word);
}
/// The same as release, but what others released to `point` is forgotten. Instrumented: there is no
/// other way to say it.
__attribute__((noinline)) inline void release_only(sync_point& point) {
  __atomic_store_n(&point.word, 0, __ATOMIC_RELEASE);
}
inline void note_read(const void* address, std::size_t bytes) {
  __tsan_read_range(const_cast<void*>(address), bytes);
}
inline void note_write(void* address, std::size_t bytes) {
  __tsan_write_range(address, bytes);
}
/// From here to end_ignoring, accesses of this thread cause no report.
MTP_EMULATION_INTERNAL inline void begin_ignoring() {
  __tsan_ignore_thread_begin();
}
MTP_EMULATION_INTERNAL inline void end_ignoring() {
  __tsan_ignore_thread_end();
}

#else

inline void* current_race_thread() {
  return nullptr;
}
inline void* create_race_thread() {
  return nullptr;
}
inline void destroy_race_thread(void*) {}
inline void switch_race_thread(void*) {}
inline void release(sync_point&) {}
inline void acquire(sync_point&) {}
inline void release_only(sync_point&) {}
inline void note_read(const void*, std::size_t) {}
inline void note_write(void*, std::size_t) {}
inline void begin_ignoring() {}
inline void end_ignoring() {}

#endif

/// Data races reported in this process so far; 0 without ThreadSanitizer.
inline long race_count() {
#if MTP_EMULATION_TSAN
  return __atomic_load_n(&reported_races, __ATOMIC_RELAXED);
#else
  return 0;
#endif
}

}  // namespace mtp::emulation
