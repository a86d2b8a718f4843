// Execution contexts on stacks of their own, and the switch between them.
#pragma once

#include <cstddef>
#include <cstdint>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "emulation/sanitizers.hpp"

// The registers that a call keeps are all that a switch has to keep. glibc's swapcontext also asks
// the kernel for the signal mask, which takes ten times as long; it serves other processors.
#if defined(__x86_64__) && !defined(MTP_EMULATION_UCONTEXT)
#define MTP_EMULATION_UCONTEXT 0
#elif !defined(MTP_EMULATION_UCONTEXT)
#define MTP_EMULATION_UCONTEXT 1
#endif
#if MTP_EMULATION_UCONTEXT
#include <ucontext.h>
#endif

namespace mtp::emulation {

/// Zeroed pages that no sanitizer watches: system calls are not intercepted, unlike mmap.
MTP_EMULATION_INTERNAL inline void* allocate_pages(std::size_t bytes) {
  const long address = syscall(SYS_mmap,
                               nullptr,
                               bytes,
                               PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                               -1,
                               0);
  if (address == -1) {
    __builtin_trap();  // no memory for a handful of pages
  }
  return reinterpret_cast<void*>(address);
}
MTP_EMULATION_INTERNAL inline void free_pages(void* pages, std::size_t bytes) {
  syscall(SYS_munmap, pages, bytes);
}

/// Room for a kernel's locals.
inline constexpr std::size_t stack_bytes = 128 * 1024;
inline constexpr std::size_t page_bytes = 4096;

/// The lowest address of a stack behind a page that nobody can touch.
MTP_EMULATION_INTERNAL inline char* allocate_stack() {
  char* const pages = static_cast<char*>(allocate_pages(page_bytes + stack_bytes));
  syscall(SYS_mprotect, pages, page_bytes, PROT_NONE);
  return pages + page_bytes;
}

#if MTP_EMULATION_UCONTEXT

/// Must not move: it points into itself.
struct context {
  ucontext_t registers;
};

MTP_EMULATION_INTERNAL inline void prepare(context& target,
                                           char* stack,
                                           std::size_t bytes,
                                           void (*entry)()) {
  getcontext(&target.registers);
  target.registers.uc_stack.ss_sp = stack;
  target.registers.uc_stack.ss_size = bytes;
  target.registers.uc_link = nullptr;
  makecontext(&target.registers, entry, 0);
}
MTP_EMULATION_INTERNAL inline void swap_contexts(context& from, context& to) {
  swapcontext(&from.registers, &to.registers);
}

#else

struct context {
  void* stack_pointer;
};

/// Stores the stack pointer at the first argument and goes on from the second one.
__attribute__((naked, noinline)) MTP_EMULATION_INTERNAL inline void swap_stacks(void**, void*) {
  asm("pushq %rbp\n\t"
      "pushq %rbx\n\t"
      "pushq %r12\n\t"
      "pushq %r13\n\t"
      "pushq %r14\n\t"
      "pushq %r15\n\t"
      "movq %rsp, (%rdi)\n\t"
      "movq %rsi, %rsp\n\t"
      "popq %r15\n\t"
      "popq %r14\n\t"
      "popq %r13\n\t"
      "popq %r12\n\t"
      "popq %rbx\n\t"
      "popq %rbp\n\t"
      "ret");
}

/// The first switch to `target` returns into `entry`, on a stack aligned as after a call.
MTP_EMULATION_INTERNAL inline void prepare(context& target,
                                           char* stack,
                                           std::size_t bytes,
                                           void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + bytes);
  *--top = nullptr;  // where `entry` would return to
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) {
    *--top = nullptr;
  }
  target.stack_pointer = top;
}
MTP_EMULATION_INTERNAL inline void swap_contexts(context& from, context& to) {
  swap_stacks(&from.stack_pointer, to.stack_pointer);
}

#endif

}  // namespace mtp::emulation
