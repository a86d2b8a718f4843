// MPI's C interface: the include, errors as mtp::error, and types and operations by name.
#pragma once

// The C++ bindings, which some versions include by default, were removed from MPI 3.0.
#if !defined(OMPI_SKIP_MPICXX)
#define OMPI_SKIP_MPICXX 1
#endif
#if !defined(MPICH_SKIP_MPICXX)
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>

#include <concepts>
#include <string>
#include <type_traits>

#include "mtp/core/error.hpp"
#include "mtp/distributed/communicator.hpp"

namespace mtp::inline MTP_ABI::detail {

/// Throws mtp::error with MPI's own words unless a call has succeeded.
inline void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  fail(call, ": ", std::string(text, static_cast<std::size_t>(length)));
}

/// MPI's name of an element type.
template <reducible T>
MPI_Datatype mpi_type() {
  if constexpr (std::same_as<T, float>) {
    return MPI_FLOAT;
  } else if constexpr (std::same_as<T, double>) {
    return MPI_DOUBLE;
  } else if constexpr (sizeof(T) == 1) {
    return std::is_signed_v<T> ? MPI_INT8_T : MPI_UINT8_T;
  } else if constexpr (sizeof(T) == 4) {
    return std::is_signed_v<T> ? MPI_INT32_T : MPI_UINT32_T;
  } else {
    return std::is_signed_v<T> ? MPI_INT64_T : MPI_UINT64_T;
  }
}

/// MPI's name of a reduction.
inline MPI_Op mpi_operation(reduction kind) {
  return kind == reduction::sum ? MPI_SUM : kind == reduction::min ? MPI_MIN : MPI_MAX;
}

/// Between MPI_Init and MPI_Finalize.
inline bool mpi_is_running() {
  int begun = 0, ended = 0;
  MPI_Initialized(&begun);
  MPI_Finalized(&ended);
  return begun != 0 && ended == 0;
}

}  // namespace mtp::inline MTP_ABI::detail
