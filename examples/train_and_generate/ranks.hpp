// The ranks that train together: this process alone, or processes of MPI.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <span>
#include <utility>
#include <variant>

#include "mtp/distributed/alone.hpp"
#include "mtp/distributed/communicator.hpp"
#ifdef MTP_EXAMPLE_MPI
#include "mtp/distributed/mpi.hpp"
#endif

namespace example {

/// Either of them behind one type, so that every model is compiled once.
class ranks {
#ifdef MTP_EXAMPLE_MPI
  using engine = std::variant<mtp::alone, mtp::mpi_communicator>;
  using message = std::variant<mtp::alone::request, mtp::mpi_communicator::request>;
#else
  using engine = std::variant<mtp::alone>;
  using message = std::variant<mtp::alone::request>;
#endif

 public:
  using memory = mtp::host_memory;

  class request {
   public:
    explicit request(message held) : held_(std::move(held)) {}
    bool done() {
      return std::visit([](auto& each) { return each.done(); }, held_);
    }
    void wait() {
      std::visit([](auto& each) { each.wait(); }, held_);
    }

   private:
    message held_;
  };

  explicit ranks(engine held = mtp::alone()) : engine_(std::move(held)) {}

  int rank() const {
    return std::visit([](const auto& each) { return each.rank(); }, engine_);
  }
  int size() const {
    return std::visit([](const auto& each) { return each.size(); }, engine_);
  }
  void barrier() {
    std::visit([](auto& each) { each.barrier(); }, engine_);
  }
  template <mtp::transferable T, std::size_t E>
  void broadcast(std::span<T, E> values, int root) {
    std::visit([&](auto& each) { each.broadcast(values, root); }, engine_);
  }
  template <mtp::transferable T, std::size_t E>
  void all_gather(std::span<T, E> whole, const mtp::shards& parts) {
    std::visit([&](auto& each) { each.all_gather(whole, parts); }, engine_);
  }
  template <mtp::reducible T, std::size_t E>
  void all_reduce(std::span<T, E> values, mtp::reduction kind) {
    std::visit([&](auto& each) { each.all_reduce(values, kind); }, engine_);
  }
  template <mtp::reducible T, std::size_t E>
  void reduce_scatter(std::span<T, E> whole, const mtp::shards& parts) {
    std::visit([&](auto& each) { each.reduce_scatter(whole, parts); }, engine_);
  }
  template <mtp::transferable T, std::size_t E>
  request start_send(std::span<T, E> values, int to, int tag) {
    return std::visit([&](auto& each) { return request(each.start_send(values, to, tag)); },
                      engine_);
  }
  template <mtp::transferable T, std::size_t E>
  request start_receive(std::span<T, E> values, int from, int tag) {
    return std::visit([&](auto& each) { return request(each.start_receive(values, from, tag)); },
                      engine_);
  }
  template <mtp::transferable T, std::size_t E>
  void send(std::span<T, E> values, int to, int tag) {
    start_send(values, to, tag).wait();
  }
  template <mtp::transferable T, std::size_t E>
  void receive(std::span<T, E> values, int from, int tag) {
    start_receive(values, from, tag).wait();
  }
  ranks split(int color, int key) {
    return std::visit([&](auto& each) { return ranks(each.split(color, key)); }, engine_);
  }

 private:
  engine engine_;
};

static_assert(mtp::host_communicator<ranks>);

/// The ranks of this machine, as launchers of Open MPI, MPICH and Slurm say; `all` if none does.
inline int ranks_of_this_machine(int all) {
  for (const char* name :
       {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE"}) {
    const char* const text = std::getenv(name);
    const int count = text != nullptr ? std::atoi(text) : 0;
    if (count > 0) return count;
  }
  return all;
}

}  // namespace example
