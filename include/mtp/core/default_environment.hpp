// Arithmetic in the default floating-point environment, whatever the calling thread has set.
#pragma once

#if !defined(__x86_64__)
#include <cfenv>
#endif

#include "mtp/core/config.hpp"

namespace mtp::inline MTP_ABI::detail {

/// During its life, its thread computes in the default floating-point environment: round to
/// nearest, with subnormal numbers, without traps. Its end restores the caller's rounding,
/// treatment of subnormal numbers and traps. Flags that were raised stay raised, as after any
/// arithmetic, and cause no trap. If the environment is the default already, it only reads it.
///
/// Compilers do not know the environment: they may move arithmetic across its ends, but not
/// accesses to memory. Where operands come from memory and results go there, a declaration is
/// enough; elsewhere use in_default_environment().
class default_environment {
 public:
#if defined(__x86_64__)
  default_environment() {
    asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(vector_), "=m"(x87_) : : "memory");
    changes_ =
        (vector_ & vector_controls) != vector_default || (x87_ & x87_controls) != x87_default;
    if (changes_) {
      const unsigned vector = (vector_ & ~vector_controls) | vector_default;
      const auto x87 = static_cast<unsigned short>((x87_ & ~x87_controls) | x87_default);
      asm volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(vector), "m"(x87) : "memory");
    }
  }
  ~default_environment() {
    if (changes_) {
      unsigned vector = 0;
      unsigned short raised = 0;
      asm volatile("stmxcsr %0\n\tfnstsw %1" : "=m"(vector), "=m"(raised) : : "memory");
      vector = (vector_ & ~flags) | (vector & flags);
      if ((raised & ~x87_ & flags) != 0) {  // the next instruction of the x87 would trap
        asm volatile("fnclex" : : : "memory");
      }
      asm volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(vector), "m"(x87_) : "memory");
    }
  }
#else
  default_environment() {
    std::fegetenv(&caller_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~default_environment() {
    const int raised = std::fetestexcept(FE_ALL_EXCEPT);
    std::fexcept_t state{};
    std::fegetexceptflag(&state, raised);
    std::fesetenv(&caller_);
    std::fesetexceptflag(&state, raised);  // unlike feraiseexcept without a trap
  }
#endif
  default_environment(const default_environment&) = delete;
  default_environment& operator=(const default_environment&) = delete;

 private:
#if defined(__x86_64__)
  static constexpr unsigned flags = 0x3f;
  // MXCSR: flush subnormal operands, trap masks, rounding, flush subnormal results.
  static constexpr unsigned vector_controls = 0xffc0, vector_default = 0x1f80;
  // Control word of the x87, where the C library looks up the rounding when it formats text: trap
  // masks, precision, rounding.
  static constexpr unsigned x87_controls = 0x0f3f, x87_default = 0x033f;

  unsigned vector_ = 0;
  unsigned short x87_ = 0;
  bool changes_ = false;
#else
  std::fenv_t caller_{};
#endif
};

/// Calls function(); no arithmetic moves into it or out of it.
template <class Function>
[[gnu::noinline]] decltype(auto) call_apart(Function& function) {
  return function();
}

/// Calls function() in the default environment.
template <class Function>
decltype(auto) in_default_environment(Function&& function) {
  const default_environment scope;
  return call_apart(function);
}

}  // namespace mtp::inline MTP_ABI::detail
