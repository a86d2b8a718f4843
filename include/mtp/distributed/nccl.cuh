// Ranks that are GPUs. Needs the component mtp::nccl.
#pragma once

#include <nccl.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>

#include "mtp/backend/cuda/context.cuh"
#include "mtp/core/error.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/nccl_calls.cuh"
#include "mtp/distributed/nccl_group.cuh"
#include "mtp/distributed/shards.hpp"

namespace mtp::inline MTP_ABI {

/// A group of GPUs, by NCCL 2.18 or newer. Spans are memory of the context's device.
///
/// Calls are submitted to the context's stream, like operations, and behind them; results are there
/// for operations that are submitted later. The host waits in barrier, synchronize, request::wait,
/// and where a group is made or split; there the time limit holds, and NCCL's own errors are
/// thrown. NCCL does not say which rank is missing, so a group of hosts beside it should.
///
/// NCCL has no tags. Messages are submitted together, at the first done() or wait() of one of them
/// or at the next call of another kind; messages between two ranks are matched by tag among those
/// that both ranks submit together, and otherwise by their order.
///
/// A request that is destroyed before it was submitted is forgotten; one that is destroyed under
/// way leaves the group unusable. The context outlives the group.
class nccl_communicator {
 public:
  /// Spans are memory of a GPU.
  using memory = cuda;

  /// A message. See the class.
  class request {
   public:
    /// Takes over the message.
    request(request&&) = default;  ///< Takes the message.
    /// Gives up what was under way before.
    request& operator=(request&& other) noexcept {
      std::swap(group_, other.group_);
      std::swap(message_, other.message_);
      return *this;
    }
    ~request() {
      if (message_ == nullptr) return;
      if (message_->end == nullptr) {
        group_->forget(message_);
      } else {
        group_->is_broken = true;
      }
    }
    /// Submits the message, and says whether the stream has come to its end.
    bool done() {
      if (message_ == nullptr) return true;
      group_->submit();
      if (!message_->end->has_come()) return false;
      message_.reset();
      return true;
    }
    /// Submits the message, and waits for its end.
    void wait() {
      if (message_ == nullptr) return;
      group_->submit();
      group_->wait_for(*message_->end, message_->is_send ? "send" : "receive");
      message_.reset();
    }

   private:
    friend class nccl_communicator;
    request(std::shared_ptr<cuda_detail::nccl_group> group, cuda_detail::nccl_message message)
        : group_(std::move(group)),
          message_(std::make_shared<cuda_detail::nccl_message>(std::move(message))) {
      group_->add(message_);
    }
    std::shared_ptr<cuda_detail::nccl_group> group_;
    std::shared_ptr<cuda_detail::nccl_message> message_;  // nullptr: complete
  };

  /// The group of the ranks of `hosts`, which all call this, each with a GPU of its own.
  template <host_communicator C>
  nccl_communicator(cuda_context& context, C& hosts, communicator_options options = {})
      : group_(std::make_shared<cuda_detail::nccl_group>(context, options)) {
    ncclUniqueId id{};
    if (hosts.rank() == 0) {
      cuda_detail::check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId", nullptr);
    }
    hosts.broadcast(std::span(&id, 1), 0);
    group_->join(id, hosts.rank(), hosts.size());
  }

  /// The group of `size` processes that can read and write one file, without another engine. Rank 0
  /// writes the file and removes it when all have come. The name must not have been used before: it
  /// should hold the number of the job. Throws mtp::error if the file is there already.
  nccl_communicator(cuda_context& context,
                    const std::filesystem::path& file,
                    int rank,
                    int size,
                    communicator_options options = {})
      : group_(std::make_shared<cuda_detail::nccl_group>(context, options)) {
    check(size >= 1 && rank >= 0 && rank < size,
          "nccl_communicator: a rank of 0 to size - 1 was expected, but rank ",
          rank,
          " of ",
          size,
          " came");
    group_->join(rank == 0 ? written_id(file) : read_id(file, rank, size, options), rank, size);
    std::error_code ignored;
    if (rank == 0) std::filesystem::remove(file, ignored);
  }
  /// Takes over the group.
  nccl_communicator(nccl_communicator&&) = default;  ///< Takes the group.
  /// Takes over the group.
  nccl_communicator& operator=(nccl_communicator&&) = default;  ///< Takes the group.

  /// This rank.
  int rank() const { return group_->rank; }
  /// Ranks of the group.
  int size() const { return group_->size; }
  /// The context to whose stream calls are submitted.
  cuda_context& context() const { return group_->context(); }

  /// Waits for the stream, and for those of all ranks.
  void barrier() {
    call("barrier", [&](ncclComm_t comm, cudaStream_t stream) {
      int* const value = group_->barrier_value();
      return ncclAllReduce(value, value, 1, ncclInt32, ncclMax, comm, stream);
    });
    synchronize();
  }

  /// Waits until everything that was submitted to the context's stream has ended.
  void synchronize() {
    group_->submit();
    group_->wait_for(cuda_detail::stream_event(group_->stream()), "synchronize");
    group_->context().synchronize();
  }

  /// All ranks get the values of `root`.
  template <transferable T, std::size_t E>
  void broadcast(std::span<T, E> values, int root) {
    detail::check_peer("broadcast", root, rank(), size());
    call("broadcast", [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclBroadcast(
          values.data(), values.data(), values.size_bytes(), ncclInt8, root, comm, stream);
    });
  }

  /// All ranks get the range of each.
  template <transferable T, std::size_t E>
  void all_gather(std::span<T, E> whole, const shards& parts) {
    detail::check_shards("all_gather", whole.size(), parts, size());
    call("all_gather", [&](ncclComm_t comm, cudaStream_t stream) {
      if (are_equal(parts)) {
        return ncclAllGather(whole.data() + parts.begin(rank()),
                             whole.data(),
                             bytes<T>(parts.longest()),
                             ncclInt8,
                             comm,
                             stream);
      }
      return together([&](int each) {
        T* const range = whole.data() + parts.begin(each);
        return ncclBroadcast(
            range, range, bytes<T>(parts.size(each)), ncclInt8, each, comm, stream);
      });
    });
  }

  /// Every rank gets the blocks of all, in the order of ranks. Its own may stand at its place among
  /// them.  own [count], all [R, count]
  template <transferable T>
  void gather(std::span<const T> own, std::span<T> all) {
    detail::check_shards(
        "gather", all.size(), shards(static_cast<index_t>(own.size()) * size(), size()), size());
    call("gather", [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclAllGather(own.data(), all.data(), own.size_bytes(), ncclInt8, comm, stream);
    });
  }

  /// Every rank sends each rank its range of `whole`, and gets its own range of the others', one
  /// behind the other in the order of ranks. Its own place is not written. The host does not wait,
  /// as it does for requests, so the call can be recorded in a graph.
  template <transferable T>
  void exchange(std::span<const T> whole, std::span<T> received, const shards& parts) {
    detail::check_shards("exchange", whole.size(), parts, size());
    const index_t own = parts.size(rank());
    check(static_cast<index_t>(received.size()) >= own * size(),
          "exchange: room for ",
          own * size(),
          " elements was expected, but for ",
          received.size(),
          " came");
    call("exchange", [&](ncclComm_t comm, cudaStream_t stream) {
      return together([&](int peer) {
        if (peer == rank()) return ncclSuccess;
        const ncclResult_t sent = ncclSend(whole.data() + parts.begin(peer),
                                           bytes<T>(parts.size(peer)),
                                           ncclInt8,
                                           peer,
                                           comm,
                                           stream);
        const ncclResult_t got =
            ncclRecv(received.data() + peer * own, bytes<T>(own), ncclInt8, peer, comm, stream);
        return sent != ncclSuccess && sent != ncclInProgress ? sent : got;
      });
    });
  }

  /// All ranks get the sum, in an order that NCCL chooses, or the minimum or maximum.
  template <cuda_detail::nccl_reducible T, std::size_t E>
  void all_reduce(std::span<T, E> values, reduction kind) {
    call("all_reduce", [&](ncclComm_t comm, cudaStream_t stream) {
      return ncclAllReduce(values.data(),
                           values.data(),
                           values.size(),
                           cuda_detail::nccl_type<T>(),
                           cuda_detail::nccl_operation(kind),
                           comm,
                           stream);
    });
  }

  /// The own range becomes the sum, in an order that NCCL chooses.
  template <reducible T, std::size_t E>
  void reduce_scatter(std::span<T, E> whole, const shards& parts) {
    detail::check_shards("reduce_scatter", whole.size(), parts, size());
    constexpr ncclDataType_t type = cuda_detail::nccl_type<T>();
    call("reduce_scatter", [&](ncclComm_t comm, cudaStream_t stream) {
      if (are_equal(parts)) {
        return ncclReduceScatter(whole.data(),
                                 whole.data() + parts.begin(rank()),
                                 static_cast<std::size_t>(parts.longest()),
                                 type,
                                 ncclSum,
                                 comm,
                                 stream);
      }
      return together([&](int owner) {
        T* const range = whole.data() + parts.begin(owner);
        return ncclReduce(range,
                          range,
                          static_cast<std::size_t>(parts.size(owner)),
                          type,
                          ncclSum,
                          owner,
                          comm,
                          stream);
      });
    });
  }

  /// Starts to send values, which must stay as they are until wait() returns.
  template <transferable T, std::size_t E>
  request start_send(std::span<T, E> values, int to, int tag) {
    return start("send",
                 true,
                 const_cast<std::remove_const_t<T>*>(values.data()),
                 values.size_bytes(),
                 to,
                 tag);
  }
  /// Starts to receive values, which must not be touched until wait() returns.
  template <transferable T, std::size_t E>
  request start_receive(std::span<T, E> values, int from, int tag) {
    return start("receive", false, values.data(), values.size_bytes(), from, tag);
  }
  /// Sends values, and waits until they are received.
  template <transferable T, std::size_t E>
  void send(std::span<T, E> values, int to, int tag) {
    start_send(values, to, tag).wait();
  }
  /// Waits for values.
  template <transferable T, std::size_t E>
  void receive(std::span<T, E> values, int from, int tag) {
    start_receive(values, from, tag).wait();
  }

  /// The group of the ranks of this color, on the same stream.
  nccl_communicator split(int color, int key) {
    detail::check_color(color);
    auto part = std::make_shared<cuda_detail::nccl_group>(group_->context(), group_->options);
    call("split", [&](ncclComm_t comm, cudaStream_t) {
      return ncclCommSplit(comm, color, key, &part->comm, nullptr);
    });
    part->settle(ncclInProgress, "split");
    cuda_detail::check_nccl(
        ncclCommUserRank(part->comm, &part->rank), "ncclCommUserRank", part->comm);
    cuda_detail::check_nccl(ncclCommCount(part->comm, &part->size), "ncclCommCount", part->comm);
    return nccl_communicator(std::move(part));
  }

 private:
  explicit nccl_communicator(std::shared_ptr<cuda_detail::nccl_group> part)
      : group_(std::move(part)) {}

  static ncclUniqueId written_id(const std::filesystem::path& file) {
    check(!std::filesystem::exists(file),
          "nccl_communicator: ",
          file.string(),
          " is there already; name another file for each run");
    ncclUniqueId id{};
    cuda_detail::check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId", nullptr);
    const std::filesystem::path part = file.string() + ".part";
    std::ofstream(part, std::ios::binary).write(id.internal, sizeof id.internal);
    std::error_code problem;
    if (std::filesystem::file_size(part, problem) == sizeof id.internal) {
      std::filesystem::rename(part, file, problem);
    }
    check(!problem && std::filesystem::exists(file),
          "nccl_communicator: ",
          file.string(),
          " cannot be written");
    return id;
  }
  static ncclUniqueId read_id(const std::filesystem::path& file,
                              int rank,
                              int size,
                              communicator_options options) {
    const auto start = std::chrono::steady_clock::now();
    ncclUniqueId id{};
    while (!std::ifstream(file, std::ios::binary).read(id.internal, sizeof id.internal)) {
      check(std::chrono::steady_clock::now() - start < options.time_limit,
            "nccl_communicator of rank ",
            rank,
            " of ",
            size,
            " waited ",
            options.time_limit.count(),
            " ms for rank 0 to write ",
            file.string());
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return id;
  }

  /// All ranges are equally long, as NCCL's own calls demand.
  static bool are_equal(const shards& parts) {
    return parts.longest() * parts.ranks() == parts.count();
  }
  template <class T>
  static std::size_t bytes(index_t elements) {
    return static_cast<std::size_t>(elements) * sizeof(T);
  }

  template <class Call>
  void call(const char* operation, const Call& nccl) {
    group_->check_usable(operation);
    group_->submit();
    group_->settle(nccl(group_->comm, group_->stream()), operation);
  }
  /// A call for each rank, which NCCL runs at the same time.
  template <class Call>
  ncclResult_t together(const Call& nccl) {
    ncclResult_t first = ncclGroupStart();
    for (int each = 0; each < size(); ++each) {
      const ncclResult_t result = nccl(each);
      if (first == ncclSuccess && result != ncclInProgress) first = result;
    }
    const ncclResult_t last = ncclGroupEnd();
    return first != ncclSuccess ? first : last;
  }

  request start(const char* operation,
                bool is_send,
                void* values,
                std::size_t size_bytes,
                int peer,
                int tag) {
    detail::check_peer(operation, peer, rank(), size());
    detail::check_tag(operation, tag);
    group_->check_usable(operation);
    return {group_, {is_send, values, size_bytes, peer, tag}};
  }

  std::shared_ptr<cuda_detail::nccl_group> group_;
};

static_assert(communicator<nccl_communicator>);

}  // namespace mtp::inline MTP_ABI
