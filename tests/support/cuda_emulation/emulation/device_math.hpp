// CUDA's functions of numbers that the C library does not have. Approximations are computed
// accurately: what depends on their errors shows on a device only.
#pragma once

#include <cmath>
#include <cstdint>

#include "emulation/vector_types.hpp"

// glibc reserves these two names for itself, with this type.
extern "C" {
inline float __expf(float x) noexcept {
  return expf(x);
}
inline float __logf(float x) noexcept {
  return logf(x);
}
}
inline float __fdividef(float x, float y) {
  return x / y;
}
inline float __frcp_rn(float x) {
  return 1 / x;
}
inline float __fsqrt_rn(float x) {
  return sqrtf(x);
}
inline float rsqrtf(float x) {
  return 1 / sqrtf(x);
}
inline double rsqrt(double x) {
  return 1 / sqrt(x);
}

// ---- arithmetic that is not contracted ----------------------------------------------------------

inline float __fadd_rn(float x, float y) {
  return x + y;
}
inline float __fmul_rn(float x, float y) {
  const volatile float product = x * y;
  return product;
}
inline float __fmaf_rn(float x, float y, float z) {
  return fmaf(x, y, z);
}
inline double __dadd_rn(double x, double y) {
  return x + y;
}
inline double __dmul_rn(double x, double y) {
  const volatile double product = x * y;
  return product;
}

// ---- bits ---------------------------------------------------------------------------------------

inline int __popc(unsigned x) {
  return __builtin_popcount(x);
}
inline int __popcll(unsigned long long x) {
  return __builtin_popcountll(x);
}
inline int __clz(int x) {
  return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x));
}
inline int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
inline int __ffs(int x) {
  return __builtin_ffs(x);
}
inline int __ffsll(long long x) {
  return __builtin_ffsll(x);
}
inline unsigned __umulhi(unsigned x, unsigned y) {
  return static_cast<unsigned>(std::uint64_t{x} * y >> 32);
}
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  __extension__ typedef unsigned __int128 wide;
  return static_cast<unsigned long long>(static_cast<wide>(x) * y >> 64);
}

inline float __uint_as_float(unsigned bits) {
  return __builtin_bit_cast(float, bits);
}
inline unsigned __float_as_uint(float value) {
  return __builtin_bit_cast(unsigned, value);
}
inline float __int_as_float(int bits) {
  return __builtin_bit_cast(float, bits);
}
inline int __float_as_int(float value) {
  return __builtin_bit_cast(int, value);
}
inline double __longlong_as_double(long long bits) {
  return __builtin_bit_cast(double, bits);
}
inline long long __double_as_longlong(double value) {
  return __builtin_bit_cast(long long, value);
}

// ---- memory -------------------------------------------------------------------------------------

template <class T>
T __ldg(const T* address) {
  static_assert(sizeof(T) <= 16, "__ldg: at most 16 bytes");
  return *address;
}

// ---- min and max of equal types -----------------------------------------------------------------

#define MTP_EMULATION_MIN_MAX(T) \
  inline T min(T a, T b) {       \
    return b < a ? b : a;        \
  }                              \
  inline T max(T a, T b) {       \
    return a < b ? b : a;        \
  }
MTP_EMULATION_MIN_MAX(int)
MTP_EMULATION_MIN_MAX(unsigned)
MTP_EMULATION_MIN_MAX(long)
MTP_EMULATION_MIN_MAX(unsigned long)
MTP_EMULATION_MIN_MAX(long long)
MTP_EMULATION_MIN_MAX(unsigned long long)
#undef MTP_EMULATION_MIN_MAX
inline float min(float a, float b) {
  return fminf(a, b);
}
inline float max(float a, float b) {
  return fmaxf(a, b);
}
inline double min(double a, double b) {
  return fmin(a, b);
}
inline double max(double a, double b) {
  return fmax(a, b);
}
