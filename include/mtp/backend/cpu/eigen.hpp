// Eigen, without the false alarms that its vector instructions raise in programs that include it.
#pragma once

// g++ before 13 takes the deliberately undefined registers in its own AVX-512 headers for mistakes,
// and says so wherever they are inlined. What counts is what was ignored where they were read.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <Eigen/Core>
#pragma GCC diagnostic pop
#else
#include <Eigen/Core>
#endif
