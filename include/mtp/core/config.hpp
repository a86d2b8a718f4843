// What the compiler is told before anything else: the version, the namespace that carries it, and
// which functions a device may run. Macros that other headers use stand here, in ops/operation.hpp
// and in backend/cpu/abi.hpp.
#pragma once

/// The version, as in semantic versioning.
#define MTP_VERSION_MAJOR 0
/// Second number of the version.
#define MTP_VERSION_MINOR 1
/// Third number of the version.
#define MTP_VERSION_PATCH 0

/// The inline namespace inside mtp that all names belong to. Programs do not write it; linkers see
/// it, so that two versions of the library can live in one program. It changes with whatever
/// changes the layout of a type: before 1.0 with each minor version.
#define MTP_ABI v0_1

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error mtp: -ffast-math and -ffinite-math-only are refused, because masks, losses and checks rely on infinity and NaN. Compile this file without them.
#endif

/// Marks functions that a device may run as well; nothing without nvcc.
#if defined(__CUDACC__)
#define MTP_HOST_DEVICE __host__ __device__
#else
#define MTP_HOST_DEVICE
#endif
