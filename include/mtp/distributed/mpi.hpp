// Ranks that are processes of MPI. Needs the component mtp::mpi.
#pragma once

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/mpi_calls.hpp"
#include "mtp/distributed/mpi_world.hpp"
#include "mtp/distributed/self_test.hpp"
#include "mtp/distributed/shards.hpp"

namespace mtp::inline MTP_ABI {

/// A group of processes of MPI 3.0 or newer, tested with Open MPI 4.1 and MPICH 4.
///
/// Every wait is a loop around MPI_Test that leaves the processor to others, so a rank that hangs
/// ends in an mtp::error that names it. MPI_Iallreduce is not used: some of Open MPI's algorithms
/// for it give wrong sums (open-mpi/ompi#9385). An error of MPI, a timeout, and a request that is
/// destroyed before its end leave the group and all groups split from it unusable: every later call
/// throws.
class mpi_communicator {
  struct group;

 public:
  /// Spans are host memory.
  using memory = host_memory;

  /// A message under way. Destroyed before its end it is cancelled, and the group is unusable.
  class request {
   public:
    /// Takes over the message.
    request(request&&) = default;  ///< Takes the message.
    /// Cancels what was under way before.
    request& operator=(request&& other) noexcept {
      std::swap(group_, other.group_);
      std::swap(where_, other.where_);
      std::swap(bytes_, other.bytes_);
      std::swap(pieces_, other.pieces_);
      return *this;
    }
    ~request() {
      if (!pieces_.empty()) cancel();
    }
    /// Whether the message is complete.
    bool done() {
      while (!pieces_.empty()) {
        MPI_Status status;
        if (!group_->world->test(pieces_.back(), where_, &status)) return false;
        const std::size_t expected = pieces_.size() > 1 ? group_->piece : first_bytes();
        pieces_.pop_back();
        check_bytes(status, expected);
      }
      return true;
    }
    /// Returns when the message is complete.
    void wait() {
      group_->world->wait(where_, [&] { return done(); });
    }

   private:
    friend class mpi_communicator;
    request(std::shared_ptr<group> owner, detail::mpi_world::place where, std::size_t bytes)
        : group_(std::move(owner)), where_(where), bytes_(bytes) {}

    bool is_send() const { return std::strcmp(where_.operation, "send") == 0; }
    /// Bytes of the first piece, the only one that may be short.
    std::size_t first_bytes() const {
      return bytes_ == 0 ? 0 : bytes_ - (bytes_ - 1) / group_->piece * group_->piece;
    }
    void check_bytes(const MPI_Status& status, std::size_t expected) {
      if (is_send()) return;
      int came = 0;
      detail::check_mpi(MPI_Get_count(&status, MPI_BYTE, &came), "MPI_Get_count");
      if (static_cast<std::size_t>(came) == expected) return;
      group_->world->is_broken = true;
      fail(group_->world->described(where_),
           ": ",
           expected,
           " bytes were expected, but ",
           came,
           " came");
    }
    void cancel() noexcept {
      group_->world->is_broken = true;
      if (!detail::mpi_is_running()) return;
      for (MPI_Request& each : pieces_) {
        if (each == MPI_REQUEST_NULL) continue;
        int is_complete = 0;
        if (!is_send()) {
          MPI_Cancel(&each);
          MPI_Test(&each, &is_complete, MPI_STATUS_IGNORE);
        }
        if (is_complete == 0) MPI_Request_free(&each);
      }
    }

    std::shared_ptr<group> group_;
    detail::mpi_world::place where_;
    std::size_t bytes_;
    std::vector<MPI_Request> pieces_;  // that are not complete
  };

  /// The group of `base`, whose ranks all call this. Tests a sum, a gather and an exchange with
  /// known results, and throws mtp::error if the MPI library gets them wrong. `piece`: the most
  /// bytes that one call of MPI carries; longer arrays go in pieces, because MPI counts in int.
  explicit mpi_communicator(MPI_Comm base = MPI_COMM_WORLD,
                            communicator_options options = {},
                            std::size_t piece = std::size_t{1} << 30)
      : group_(std::make_shared<group>()) {
    check(piece >= 8 && piece <= INT_MAX && piece % 8 == 0,
          "mpi_communicator: a piece of 8 bytes to 1 GiB was expected, but ",
          piece,
          " came");
    group_->world = std::make_shared<detail::mpi_world>(base, options);
    group_->piece = piece;
    group_->comm = group_->world->copy_of(base);
    group_->read();
    detail::self_test(*this, "the MPI library");
  }
  /// Takes over the group.
  mpi_communicator(mpi_communicator&&) = default;  ///< Takes the group.
  /// Takes over the group.
  mpi_communicator& operator=(mpi_communicator&&) = default;  ///< Takes the group.

  /// This rank.
  int rank() const { return group_->rank; }
  /// Ranks of the group.
  int size() const { return group_->size; }

  /// Returns when all ranks have called it.
  void barrier() {
    collective("barrier",
               [&](MPI_Request* under_way) { return MPI_Ibarrier(group_->comm, under_way); });
  }

  /// All ranks get the values of `root`.
  template <transferable T, std::size_t E>
  void broadcast(std::span<T, E> values, int root) {
    detail::check_peer("broadcast", root, rank(), size());
    broadcast_bytes(
        "broadcast", reinterpret_cast<std::byte*>(values.data()), values.size_bytes(), root);
  }

  /// All ranks get the range of each.
  template <transferable T, std::size_t E>
  void all_gather(std::span<T, E> whole, const shards& parts) {
    detail::check_shards("all_gather", whole.size(), parts, size());
    gather("all_gather", whole, parts);
  }

  /// All ranks get the sum, in an order that MPI chooses, or the minimum or maximum.
  template <reducible T, std::size_t E>
  void all_reduce(std::span<T, E> values, reduction kind) {
    constexpr std::size_t few = 1024;
    const std::size_t most = group_->piece / sizeof(T);
    for (std::size_t begin = 0; begin < values.size(); begin += most) {
      const std::span<T> piece = values.subspan(begin, (std::min)(most, values.size() - begin));
      if (piece.size() > few) {
        const shards parts(static_cast<index_t>(piece.size()), size());
        reduce_to_owners("all_reduce", piece, parts, kind);
        gather("all_reduce", piece, parts);
        continue;
      }
      collective("all_reduce",
                 [&](MPI_Request* under_way) { return reduce_to(0, piece, kind, under_way); });
      broadcast_bytes(
          "all_reduce", reinterpret_cast<std::byte*>(piece.data()), piece.size_bytes(), 0);
    }
  }

  /// The own range becomes the sum, in an order that MPI chooses.
  template <reducible T, std::size_t E>
  void reduce_scatter(std::span<T, E> whole, const shards& parts) {
    detail::check_shards("reduce_scatter", whole.size(), parts, size());
    if (whole.size_bytes() <= group_->piece) {
      reduce_to_owners("reduce_scatter", std::span<T>(whole), parts, reduction::sum);
      return;
    }
    const std::size_t most = group_->piece / sizeof(T);
    for (int owner = 0; owner < size(); ++owner) {
      const auto count = static_cast<std::size_t>(parts.size(owner));
      const auto range = whole.subspan(static_cast<std::size_t>(parts.begin(owner)), count);
      for (std::size_t begin = 0; begin < count; begin += most) {
        const auto piece = range.subspan(begin, (std::min)(most, count - begin));
        collective("reduce_scatter", [&](MPI_Request* under_way) {
          return reduce_to(owner, std::span<T>(piece), reduction::sum, under_way);
        });
      }
    }
  }

  /// Starts to send values, which must stay as they are until wait() returns.
  template <transferable T, std::size_t E>
  request start_send(std::span<T, E> values, int to, int tag) {
    return start("send",
                 const_cast<std::byte*>(reinterpret_cast<const std::byte*>(values.data())),
                 values.size_bytes(),
                 to,
                 tag,
                 [&](std::byte* piece, int bytes, MPI_Request* under_way) {
                   return MPI_Isend(piece, bytes, MPI_BYTE, to, tag, group_->comm, under_way);
                 });
  }
  /// Starts to receive values, which must not be touched until wait() returns.
  template <transferable T, std::size_t E>
  request start_receive(std::span<T, E> values, int from, int tag) {
    return start("receive",
                 reinterpret_cast<std::byte*>(values.data()),
                 values.size_bytes(),
                 from,
                 tag,
                 [&](std::byte* piece, int bytes, MPI_Request* under_way) {
                   return MPI_Irecv(piece, bytes, MPI_BYTE, from, tag, group_->comm, under_way);
                 });
  }
  /// Sends values, and waits until their span is free.
  template <transferable T, std::size_t E>
  void send(std::span<T, E> values, int to, int tag) {
    start_send(values, to, tag).wait();
  }
  /// Waits for values.
  template <transferable T, std::size_t E>
  void receive(std::span<T, E> values, int from, int tag) {
    start_receive(values, from, tag).wait();
  }

  /// The group of the ranks of this color.
  mpi_communicator split(int color, int key) {
    detail::check_color(color);
    barrier();  // has a time limit; behind it all ranks call MPI_Comm_split, which has none
    auto part = std::make_shared<group>();
    part->world = group_->world;
    part->piece = group_->piece;
    detail::check_mpi(MPI_Comm_split(group_->comm, color, key, &part->comm), "MPI_Comm_split");
    part->read();
    return mpi_communicator(std::move(part));
  }

 private:
  struct group {
    std::shared_ptr<detail::mpi_world> world;
    MPI_Comm comm = MPI_COMM_NULL;
    int rank = 0;
    int size = 0;
    std::size_t piece = 0;
    std::vector<int> world_ranks;  // of each rank

    group() = default;
    group(const group&) = delete;
    group& operator=(const group&) = delete;
    ~group() {
      if (comm != MPI_COMM_NULL && !world->is_broken && detail::mpi_is_running()) {
        MPI_Comm_free(&comm);
      }
    }
    void read() {
      detail::check_mpi(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN),
                        "MPI_Comm_set_errhandler");
      detail::check_mpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
      detail::check_mpi(MPI_Comm_size(comm, &size), "MPI_Comm_size");
      world_ranks = world->ranks_of(comm);
    }
  };

  explicit mpi_communicator(std::shared_ptr<group> part) : group_(std::move(part)) {}

  template <class Start>
  void collective(const char* operation, const Start& start) {
    detail::mpi_world& world = *group_->world;
    const detail::mpi_world::place where{operation};
    world.check_usable(where);
    MPI_Request under_way = MPI_REQUEST_NULL;
    world.check_call(start(&under_way), where);
    world.wait(where, [&] { return world.test(under_way, where); });
  }

  template <class Start>
  request start(const char* operation,
                std::byte* data,
                std::size_t bytes,
                int peer,
                int tag,
                const Start& start_piece) {
    detail::check_peer(operation, peer, rank(), size());
    detail::check_tag(operation, tag);
    detail::mpi_world& world = *group_->world;
    const detail::mpi_world::place where{
        operation, group_->world_ranks[static_cast<std::size_t>(peer)], tag};
    world.check_usable(where);
    request whole(group_, where, bytes);
    const std::size_t pieces = bytes == 0 ? 1 : (bytes - 1) / group_->piece + 1;
    whole.pieces_.reserve(pieces);
    for (std::size_t i = 0; i < pieces; ++i) {
      const std::size_t length = i == 0 ? whole.first_bytes() : group_->piece;
      MPI_Request under_way = MPI_REQUEST_NULL;
      world.check_call(start_piece(data, static_cast<int>(length), &under_way), where);
      whole.pieces_.push_back(under_way);
      if (length > 0) data += length;
    }
    return whole;
  }

  void broadcast_bytes(const char* operation, std::byte* data, std::size_t bytes, int root) {
    for (std::size_t begin = 0; begin < bytes; begin += group_->piece) {
      const auto length = static_cast<int>((std::min)(group_->piece, bytes - begin));
      collective(operation, [&](MPI_Request* under_way) {
        return MPI_Ibcast(data + begin, length, MPI_BYTE, root, group_->comm, under_way);
      });
    }
  }

  template <class T>
  int reduce_to(int owner, std::span<T> values, reduction kind, MPI_Request* under_way) {
    const bool is_owner = rank() == owner;
    return MPI_Ireduce(is_owner ? MPI_IN_PLACE : values.data(),
                       is_owner ? values.data() : nullptr,
                       static_cast<int>(values.size()),
                       detail::mpi_type<T>(),
                       detail::mpi_operation(kind),
                       owner,
                       group_->comm,
                       under_way);
  }

  template <class T>
  void reduce_to_owners(const char* operation,
                        std::span<T> whole,
                        const shards& parts,
                        reduction kind) {
    if (whole.empty()) return;
    std::vector<int> counts(static_cast<std::size_t>(size()));
    for (int each = 0; each < size(); ++each) {
      counts[static_cast<std::size_t>(each)] = static_cast<int>(parts.size(each));
    }
    collective(operation, [&](MPI_Request* under_way) {
      return MPI_Ireduce_scatter(MPI_IN_PLACE,
                                 whole.data(),
                                 counts.data(),
                                 detail::mpi_type<T>(),
                                 detail::mpi_operation(kind),
                                 group_->comm,
                                 under_way);
    });
    // In place, MPI leaves the result at the front.
    std::memmove(whole.data() + parts.begin(rank()),
                 whole.data(),
                 static_cast<std::size_t>(parts.size(rank())) * sizeof(T));
  }

  template <class T, std::size_t E>
  void gather(const char* operation, std::span<T, E> whole, const shards& parts) {
    auto* const data = reinterpret_cast<std::byte*>(whole.data());
    const auto bytes_to = [&](index_t elements) {
      return static_cast<std::size_t>(elements) * sizeof(T);
    };
    if (whole.size_bytes() > group_->piece) {
      for (int each = 0; each < size(); ++each) {
        broadcast_bytes(
            operation, data + bytes_to(parts.begin(each)), bytes_to(parts.size(each)), each);
      }
      return;
    }
    if (whole.empty()) return;
    std::vector<int> counts(static_cast<std::size_t>(size())), begins(counts.size());
    for (int each = 0; each < size(); ++each) {
      counts[static_cast<std::size_t>(each)] = static_cast<int>(bytes_to(parts.size(each)));
      begins[static_cast<std::size_t>(each)] = static_cast<int>(bytes_to(parts.begin(each)));
    }
    collective(operation, [&](MPI_Request* under_way) {
      return MPI_Iallgatherv(MPI_IN_PLACE,
                             0,
                             MPI_DATATYPE_NULL,
                             data,
                             counts.data(),
                             begins.data(),
                             MPI_BYTE,
                             group_->comm,
                             under_way);
    });
  }

  std::shared_ptr<group> group_;
};

static_assert(host_communicator<mpi_communicator>);

}  // namespace mtp::inline MTP_ABI
