// Settings that come before everything else: the version, the namespace that carries it, and the
// mark of functions that a device may run. Other macros are in ops/operation.hpp and
// backend/cpu/abi.hpp.
#pragma once

/// The version, as in semantic versioning.
#define MTP_VERSION_MAJOR 0
/// Second number of the version.
#define MTP_VERSION_MINOR 1
/// Third number of the version.
#define MTP_VERSION_PATCH 0

/// The inline namespace that all names of mtp belong to. Programs do not write it, but linkers see
/// it, so two versions of the library can live in one program. It changes whenever the layout of a
/// type changes; before 1.0, with each minor version.
#define MTP_ABI v0_1

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error mtp: -ffast-math and -ffinite-math-only are refused, because masks, losses and checks rely on infinity and NaN. Compile this file without them.
#endif

/// Marks functions that a device may also run; empty without nvcc.
#if defined(__CUDACC__)
#define MTP_HOST_DEVICE __host__ __device__
#else
#define MTP_HOST_DEVICE
#endif
