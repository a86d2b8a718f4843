// The part of the CPU backend's names that tells linkers how a file was compiled.
#pragma once

#include "mtp/backend/cpu/eigen.hpp"
#include "mtp/core/config.hpp"

/// Joins the words of MTP_CPU_ABI to one name.
#define MTP_CPU_JOIN(world, major, minor, bytes, vectors) \
  eigen_##world##_##major##_##minor##_align_##bytes##_##vectors
/// MTP_CPU_JOIN of its expanded arguments.
#define MTP_CPU_EXPAND(world, major, minor, bytes, vectors) \
  MTP_CPU_JOIN(world, major, minor, bytes, vectors)

/// Whether there is an instruction that multiplies pairs of bf16, VDPBF16PS, for whole packets.
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(EIGEN_VECTORIZE_AVX512)
#define MTP_CPU_HAS_BF16_PRODUCTS
#endif

/// Whether there is one that multiplies bytes, VPDPBUSD, likewise.
#if defined(__AVX512VNNI__) && defined(EIGEN_VECTORIZE_AVX512)
#define MTP_CPU_HAS_BYTE_PRODUCTS
#endif

/// Whether there are vectors of 32 words for whole packets.
#if defined(__AVX512BW__) && defined(EIGEN_VECTORIZE_AVX512)
#define MTP_CPU_HAS_WORD_VECTORS
#endif

/// The vector instructions that this file may use.
#if defined(MTP_CPU_HAS_BF16_PRODUCTS) && defined(MTP_CPU_HAS_BYTE_PRODUCTS)
#define MTP_CPU_VECTORS avx512_bf16_vnni
#elif defined(MTP_CPU_HAS_BF16_PRODUCTS)
#define MTP_CPU_VECTORS avx512_bf16
#elif defined(MTP_CPU_HAS_BYTE_PRODUCTS) && defined(MTP_CPU_HAS_WORD_VECTORS)
#define MTP_CPU_VECTORS avx512_bw_vnni
#elif defined(MTP_CPU_HAS_BYTE_PRODUCTS)
#define MTP_CPU_VECTORS avx512_vnni
#elif defined(MTP_CPU_HAS_WORD_VECTORS)
#define MTP_CPU_VECTORS avx512_bw
#elif defined(__AVX512F__)
#define MTP_CPU_VECTORS avx512
#elif defined(__AVX2__) && defined(__FMA__)
#define MTP_CPU_VECTORS avx2_fma
#elif defined(__AVX__)
#define MTP_CPU_VECTORS avx
#else
#define MTP_CPU_VECTORS baseline
#endif

/// The inline namespace of everything that depends on vector instructions or on Eigen, and of the
/// tag `cpu`, which is in the names of all templates for this backend. Files of one program that
/// are compiled for different processors or with different Eigens keep their own code. An object of
/// the backend passed between such files does not link.
#define MTP_CPU_ABI                     \
  MTP_CPU_EXPAND(EIGEN_WORLD_VERSION,   \
                 EIGEN_MAJOR_VERSION,   \
                 EIGEN_MINOR_VERSION,   \
                 EIGEN_MAX_ALIGN_BYTES, \
                 MTP_CPU_VECTORS)

/// The text of MTP_CPU_LAYOUT_OF's expanded arguments.
#define MTP_CPU_LAYOUT_TEXT(bytes, vectors) "align_" #bytes "_" #vectors
/// MTP_CPU_LAYOUT_TEXT of its expanded arguments.
#define MTP_CPU_LAYOUT_OF(bytes, vectors) MTP_CPU_LAYOUT_TEXT(bytes, vectors)
/// What the layout of weights in memory depends on, as text.
#define MTP_CPU_LAYOUT MTP_CPU_LAYOUT_OF(EIGEN_MAX_ALIGN_BYTES, MTP_CPU_VECTORS)
