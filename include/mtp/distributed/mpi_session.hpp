// MPI from its beginning to its end, and a program that runs in between.
#pragma once

#include <cstdio>
#include <exception>
#include <string>
#include <type_traits>

#include "mtp/core/error.hpp"
#include "mtp/distributed/mpi.hpp"

namespace mtp::inline MTP_ABI {

/// Starts MPI, and ends it when destroyed. If the program has started MPI itself, it stays the
/// program's.
class mpi_session {
 public:
  /// Throws mtp::error if MPI cannot be called by one thread of several (MPI_THREAD_FUNNELED).
  mpi_session(int& argc, char**& argv) {
    int level = MPI_THREAD_SINGLE, begun = 0;
    MPI_Initialized(&begun);
    if (begun != 0) {
      detail::check_mpi(MPI_Query_thread(&level), "MPI_Query_thread");
    } else {
      detail::check_mpi(MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level),
                        "MPI_Init_thread");
    }
    if (level < MPI_THREAD_FUNNELED) {
      if (begun == 0) MPI_Finalize();
      fail("mpi_session: the thread level MPI_THREAD_FUNNELED was expected, but MPI offers ",
           level == MPI_THREAD_SINGLE ? "MPI_THREAD_SINGLE" : "another one");
    }
    is_own_ = begun == 0;
  }
  mpi_session(const mpi_session&) = delete;
  mpi_session& operator=(const mpi_session&) = delete;
  /// Waits for all ranks, except where an exception is under way: then it ends all of them, because
  /// the others may wait for this one.
  ~mpi_session() {
    if (!is_own_ || !detail::mpi_is_running()) return;
    if (std::uncaught_exceptions() > 0) MPI_Abort(MPI_COMM_WORLD, 1);
    MPI_Finalize();
  }

  /// Runs function(mpi_communicator&) on every rank, and returns what main returns: 0, or the int
  /// that the function returns. When it throws on one rank, this prints "rank R: message" to the
  /// standard error and ends all ranks (MPI_Abort), so that nobody waits for it.
  template <class Function>
  static int run(int argc,
                 char** argv,
                 const Function& function,
                 communicator_options options = {}) {
    mpi_session session(argc, argv);
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    std::string problem;
    try {
      mpi_communicator world(MPI_COMM_WORLD, options);
      int result = 0;
      if constexpr (std::is_void_v<decltype(function(world))>) {
        function(world);
      } else {
        result = function(world);
      }
      world.barrier();  // MPI_Finalize waits for all as well, but without a time limit
      return result;
    } catch (const std::exception& thrown) {
      problem = thrown.what();
    } catch (...) {
      problem = "an exception that is no std::exception";
    }
    std::fprintf(stderr, "rank %d: %s\n", rank, problem.c_str());
    std::fflush(nullptr);
    MPI_Abort(MPI_COMM_WORLD, 1);
    return 1;
  }

 private:
  bool is_own_ = false;
};

}  // namespace mtp::inline MTP_ABI
