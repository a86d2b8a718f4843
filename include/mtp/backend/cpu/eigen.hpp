// Includes Eigen without the false warnings of its vector instructions.
#pragma once

// Before version 13, g++ takes the deliberately undefined registers in its own AVX-512 headers for
// mistakes, and warns wherever they are inlined. The setting at the place where the headers are
// read decides.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <Eigen/Core>
#pragma GCC diagnostic pop
#else
#include <Eigen/Core>
#endif
