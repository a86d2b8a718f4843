// Floating-point environments that a program may have set before it calls the library.
#pragma once

#include <cfenv>
#include <vector>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace mtp::test {

/// What the calling thread has set, flags left out.
struct environment_state {
  int rounding = 0;
  int traps = 0;
  unsigned vectors = 0;  // MXCSR

  friend bool operator==(const environment_state&, const environment_state&) = default;

  static environment_state now() {
    environment_state state;
    state.rounding = std::fegetround();
#if defined(__GLIBC__)
    state.traps = fegetexcept();
#endif
#if defined(__x86_64__)
    state.vectors = _mm_getcsr() & ~0x3fu;
#endif
    return state;
  }
};

/// As long as it lives, the calling thread computes in an environment of its own.
class odd_environment {
 public:
  struct setting {
    const char* name;
    int rounding;
    bool flushes;  // subnormal operands and results are zero
    bool traps;    // an invalid operation, a division by zero or an overflow ends the program
  };

  /// Those that this machine has.
  static std::vector<setting> all() {
    std::vector<setting> settings{{"upward", FE_UPWARD, false, false},
                                  {"downward", FE_DOWNWARD, false, false},
                                  {"toward zero", FE_TOWARDZERO, false, false}};
#if defined(__x86_64__)
    settings.push_back({"flushing", FE_TONEAREST, true, false});
#endif
#if defined(__GLIBC__) && defined(__x86_64__)
    settings.push_back({"trapping", FE_TONEAREST, false, true});
    settings.push_back({"all at once", FE_UPWARD, true, true});
#endif
    return settings;
  }

  explicit odd_environment(const setting& wanted) {
    std::fegetenv(&saved_);
    std::feclearexcept(FE_ALL_EXCEPT);
    std::fesetround(wanted.rounding);
#if defined(__x86_64__)
    if (wanted.flushes) {
      _mm_setcsr(_mm_getcsr() | 0x8040u);
    }
#endif
#if defined(__GLIBC__)
    if (wanted.traps) {
      feenableexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW);
    }
#endif
  }
  ~odd_environment() {
    std::fesetenv(&saved_);
  }
  odd_environment(const odd_environment&) = delete;
  odd_environment& operator=(const odd_environment&) = delete;

 private:
  std::fenv_t saved_{};
};

}  // namespace mtp::test
