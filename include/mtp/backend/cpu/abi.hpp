// The part of the CPU backend's names that tells linkers how it was compiled.
#pragma once

#include "mtp/backend/cpu/eigen.hpp"
#include "mtp/core/config.hpp"

/// The words that MTP_CPU_ABI is made of, as one name.
#define MTP_CPU_JOIN(world, major, minor, bytes, vectors) \
  eigen_##world##_##major##_##minor##_align_##bytes##_##vectors
/// MTP_CPU_JOIN of what its arguments stand for.
#define MTP_CPU_EXPAND(world, major, minor, bytes, vectors) \
  MTP_CPU_JOIN(world, major, minor, bytes, vectors)

/// The vector instructions that this file may use.
#if defined(__AVX512F__)
#define MTP_CPU_VECTORS avx512
#elif defined(__AVX2__) && defined(__FMA__)
#define MTP_CPU_VECTORS avx2_fma
#elif defined(__AVX__)
#define MTP_CPU_VECTORS avx
#else
#define MTP_CPU_VECTORS baseline
#endif

/// The inline namespace of everything that vector instructions or Eigen show in, and of the tag
/// `cpu`, which all templates for this backend have in their names. Files of one program that are
/// compiled for different processors, or with different Eigens, do not get each other's code;
/// passing an object of the backend from one to the other does not link.
#define MTP_CPU_ABI                     \
  MTP_CPU_EXPAND(EIGEN_WORLD_VERSION,   \
                 EIGEN_MAJOR_VERSION,   \
                 EIGEN_MINOR_VERSION,   \
                 EIGEN_MAX_ALIGN_BYTES, \
                 MTP_CPU_VECTORS)
