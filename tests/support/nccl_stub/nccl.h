// NCCL for tests without GPUs: the part of its interface that the library uses, with threads of one
// process as ranks. Calls are recorded, and carried out when they are submitted, because the
// emulation's streams do the same; where a stream captures, they become a node of its graph.
#pragma once

#include <cuda_runtime.h>

#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "mtp/distributed/thread_ranks.hpp"

#define NCCL_VERSION_CODE 22304
#define NCCL_UNIQUE_ID_BYTES 128
#define NCCL_CONFIG_INITIALIZER \
  { 1 }

enum ncclResult_t {
  ncclSuccess = 0,
  ncclSystemError = 2,
  ncclInvalidArgument = 4,
  ncclInvalidUsage = 5,
  ncclRemoteError = 6,
  ncclInProgress = 7
};
enum ncclDataType_t {
  ncclInt8 = 0,
  ncclUint8 = 1,
  ncclInt32 = 2,
  ncclUint32 = 3,
  ncclInt64 = 4,
  ncclUint64 = 5,
  ncclFloat32 = 7,
  ncclFloat64 = 8,
  ncclBfloat16 = 9
};
enum ncclRedOp_t { ncclSum = 0, ncclMax = 2, ncclMin = 3 };

struct ncclUniqueId {
  char internal[NCCL_UNIQUE_ID_BYTES];
};
struct ncclConfig_t {
  int blocking;
};

namespace nccl_stub {

/// Ranks that have the same id.
struct clique {
  std::shared_ptr<mtp::detail::thread_group> group;
  int joined = 0;
};

struct state {
  std::mutex guard;
  int ids = 0;
  std::map<std::string, clique> cliques;
  std::vector<std::string> calls;               // of rank 0 of every group
  std::map<std::string, ncclResult_t> failing;  // name of a call, and what it returns once
  ncclResult_t asynchronous = ncclSuccess;      // what groups report
  std::string last_error = "no error";
  int aborted = 0, destroyed = 0;
};
inline state& all() {
  static state own;
  return own;
}
inline void reset() {
  const std::lock_guard lock(all().guard);
  all().calls.clear();
  all().failing.clear();
  all().asynchronous = ncclSuccess;
  all().aborted = all().destroyed = 0;
}
inline std::vector<std::string> calls() {
  const std::lock_guard lock(all().guard);
  return all().calls;
}
inline ncclResult_t failure_of(const char* name) {
  const std::lock_guard lock(all().guard);
  const auto found = all().failing.find(name);
  if (found == all().failing.end()) return ncclSuccess;
  const ncclResult_t result = found->second;
  all().failing.erase(found);
  all().last_error = std::string(name) + " was told to fail";
  return result;
}

/// What a call does; messages start together, and end when everything has.
struct operation {
  std::function<std::optional<mtp::thread_communicator::request>()> start;
};
inline thread_local int depth = 0;
inline thread_local std::vector<operation> together;
inline thread_local cudaStream_t stream_of_group = nullptr;

}  // namespace nccl_stub

struct ncclComm {
  std::string id;
  std::unique_ptr<mtp::thread_communicator> ranks;
  int polls = 0;  // before a call is no longer in progress
};
using ncclComm_t = ncclComm*;

inline const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSystemError:
      return "unhandled system error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
    default:
      return "no error";
  }
}
inline const char* ncclGetLastError(ncclComm_t) {
  return nccl_stub::all().last_error.c_str();
}

inline ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (const auto failed = nccl_stub::failure_of("GetUniqueId")) return failed;
  const std::lock_guard lock(nccl_stub::all().guard);
  std::memset(id->internal, 'x', sizeof id->internal);
  std::snprintf(id->internal, sizeof id->internal, "clique %d", ++nccl_stub::all().ids);
  return ncclSuccess;
}

inline ncclResult_t ncclCommInitRankConfig(
    ncclComm_t* comm, int count, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (const auto failed = nccl_stub::failure_of("CommInitRankConfig")) return failed;
  if (config->blocking != 0 || rank < 0 || rank >= count) return ncclInvalidArgument;
  const std::lock_guard lock(nccl_stub::all().guard);
  nccl_stub::clique& own = nccl_stub::all().cliques[id.internal];
  if (own.group == nullptr) {
    std::vector<int> members(static_cast<std::size_t>(count));
    std::iota(members.begin(), members.end(), 0);
    own.group = std::make_shared<mtp::detail::thread_group>(
        std::make_shared<mtp::detail::thread_world>(
            count, mtp::communicator_options{.time_limit = std::chrono::seconds(60)}),
        std::move(members));
  }
  ++own.joined;
  *comm = new ncclComm{id.internal, std::make_unique<mtp::thread_communicator>(own.group, rank), 3};
  return ncclInProgress;
}

inline ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* result) {
  const std::lock_guard lock(nccl_stub::all().guard);
  *result = nccl_stub::all().asynchronous;
  if (*result != ncclSuccess) return ncclSuccess;
  const auto clique = nccl_stub::all().cliques.find(comm->id);
  const bool waits =
      clique != nccl_stub::all().cliques.end() && clique->second.joined < comm->ranks->size();
  if (waits || comm->polls-- > 0) *result = ncclInProgress;
  return ncclSuccess;
}
inline ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  comm->polls = 2;
  return ncclInProgress;
}
inline ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  const std::lock_guard lock(nccl_stub::all().guard);
  ++nccl_stub::all().destroyed;
  delete comm;
  return ncclSuccess;
}
inline ncclResult_t ncclCommAbort(ncclComm_t comm) {
  const std::lock_guard lock(nccl_stub::all().guard);
  ++nccl_stub::all().aborted;
  delete comm;
  return ncclSuccess;
}
inline ncclResult_t ncclCommUserRank(ncclComm_t comm, int* rank) {
  *rank = comm->ranks->rank();
  return ncclSuccess;
}
inline ncclResult_t ncclCommCount(ncclComm_t comm, int* count) {
  *count = comm->ranks->size();
  return ncclSuccess;
}

namespace nccl_stub {

inline ncclResult_t carry_out() {
  try {
    const auto run = [operations = std::exchange(together, {})] {
      std::vector<mtp::thread_communicator::request> messages;
      for (const operation& each : operations) {
        if (auto message = each.start()) messages.push_back(std::move(*message));
      }
      for (auto& each : messages) each.wait();
    };
    if (!mtp::emulation::record_waiting(stream_of_group, run)) run();
    return ncclInProgress;  // and complete when it is asked for
  } catch (const mtp::error& problem) {
    const std::lock_guard lock(all().guard);
    all().last_error = problem.what();
    return ncclSystemError;
  }
}

/// Records a call, and carries it out now or with its group.
template <class Run>
ncclResult_t submit(ncclComm_t comm, cudaStream_t stream, const std::string& text, const Run& run) {
  if (stream == nullptr) return ncclInvalidArgument;
  const std::string name = text.substr(0, text.find(' '));
  if (const auto failed = failure_of(name.c_str())) return failed;
  if (comm->ranks->rank() == 0) {
    const std::lock_guard lock(all().guard);
    all().calls.push_back(text);
  }
  together.push_back({[run]() -> std::optional<mtp::thread_communicator::request> {
    if constexpr (std::is_void_v<decltype(run())>) {
      run();
      return std::nullopt;
    } else {
      return run();
    }
  }});
  stream_of_group = stream;
  comm->polls = 1;
  return depth > 0 ? ncclInProgress : carry_out();
}

template <class Run>
void with_type(ncclDataType_t type, const Run& run) {
  switch (type) {
    case ncclInt8:
      return run(std::int8_t{});
    case ncclUint8:
      return run(std::uint8_t{});
    case ncclInt32:
      return run(std::int32_t{});
    case ncclUint32:
      return run(std::uint32_t{});
    case ncclInt64:
      return run(std::int64_t{});
    case ncclUint64:
      return run(std::uint64_t{});
    case ncclFloat32:
      return run(float{});
    case ncclFloat64:
      return run(double{});
    case ncclBfloat16:
      throw mtp::error("a call of NCCL with bf16 that the stub does not know");
  }
}
inline mtp::reduction reduction_of(ncclRedOp_t operation) {
  return operation == ncclSum   ? mtp::reduction::sum
         : operation == ncclMin ? mtp::reduction::min
                                : mtp::reduction::max;
}
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}
template <class T>
std::vector<T> copy_of(const void* values, std::size_t count) {
  const T* const begin = static_cast<const T*>(values);
  return std::vector<T>(begin, begin + count);
}
template <class T>
void copy_to(void* to, const T* from, std::size_t count) {
  if (count > 0) std::memcpy(to, from, count * sizeof(T));
}

}  // namespace nccl_stub

inline ncclResult_t ncclGroupStart() {
  ++nccl_stub::depth;
  return ncclSuccess;
}
inline ncclResult_t ncclGroupEnd() {
  return --nccl_stub::depth > 0 ? ncclSuccess : nccl_stub::carry_out();
}

inline ncclResult_t ncclBroadcast(const void* from,
                                  void* to,
                                  std::size_t count,
                                  ncclDataType_t type,
                                  int root,
                                  ncclComm_t comm,
                                  cudaStream_t stream) {
  using namespace nccl_stub;
  return submit(comm, stream, text("Broadcast ", type, " ", count, " from ", root), [=] {
    with_type(type, [&]<class T>(T) {
      std::vector<T> values = copy_of<T>(from, count);
      comm->ranks->broadcast(std::span(values), root);
      copy_to(to, values.data(), count);
    });
  });
}
inline ncclResult_t ncclAllReduce(const void* from,
                                  void* to,
                                  std::size_t count,
                                  ncclDataType_t type,
                                  ncclRedOp_t operation,
                                  ncclComm_t comm,
                                  cudaStream_t stream) {
  using namespace nccl_stub;
  return submit(comm, stream, text("AllReduce ", type, " ", count, " by ", operation), [=] {
    if (type == ncclBfloat16) {  // which the ranks of a test add as f32
      const auto stored = copy_of<mtp::bf16>(from, count);
      std::vector<float> values(stored.begin(), stored.end());
      comm->ranks->all_reduce(std::span(values), reduction_of(operation));
      for (std::size_t i = 0; i < count; ++i) static_cast<mtp::bf16*>(to)[i] = mtp::bf16(values[i]);
      return;
    }
    with_type(type, [&]<class T>(T) {
      std::vector<T> values = copy_of<T>(from, count);
      comm->ranks->all_reduce(std::span(values), reduction_of(operation));
      copy_to(to, values.data(), count);
    });
  });
}
inline ncclResult_t ncclReduce(const void* from,
                               void* to,
                               std::size_t count,
                               ncclDataType_t type,
                               ncclRedOp_t operation,
                               int root,
                               ncclComm_t comm,
                               cudaStream_t stream) {
  using namespace nccl_stub;
  return submit(comm, stream, text("Reduce ", type, " ", count, " to ", root), [=] {
    with_type(type, [&]<class T>(T) {
      std::vector<T> values = copy_of<T>(from, count);
      comm->ranks->all_reduce(std::span(values), reduction_of(operation));
      if (comm->ranks->rank() == root) copy_to(to, values.data(), count);
    });
  });
}
inline ncclResult_t ncclAllGather(const void* from,
                                  void* to,
                                  std::size_t count,
                                  ncclDataType_t type,
                                  ncclComm_t comm,
                                  cudaStream_t stream) {
  using namespace nccl_stub;
  return submit(comm, stream, text("AllGather ", type, " ", count), [=] {
    with_type(type, [&]<class T>(T) {
      const int R = comm->ranks->size();
      const auto all = count * static_cast<std::size_t>(R);
      std::vector<T> values(all);
      const mtp::shards parts(static_cast<mtp::index_t>(all), R);
      copy_to(values.data() + parts.begin(comm->ranks->rank()), static_cast<const T*>(from), count);
      comm->ranks->all_gather(std::span(values), parts);
      copy_to(to, values.data(), all);
    });
  });
}
inline ncclResult_t ncclReduceScatter(const void* from,
                                      void* to,
                                      std::size_t count,
                                      ncclDataType_t type,
                                      ncclRedOp_t operation,
                                      ncclComm_t comm,
                                      cudaStream_t stream) {
  using namespace nccl_stub;
  if (operation != ncclSum) return ncclInvalidUsage;
  return submit(comm, stream, text("ReduceScatter ", type, " ", count), [=] {
    with_type(type, [&]<class T>(T) {
      const int R = comm->ranks->size();
      const auto all = count * static_cast<std::size_t>(R);
      std::vector<T> values = copy_of<T>(from, all);
      const mtp::shards parts(static_cast<mtp::index_t>(all), R);
      comm->ranks->reduce_scatter(std::span(values), parts);
      copy_to(to, values.data() + parts.begin(comm->ranks->rank()), count);
    });
  });
}
inline ncclResult_t ncclSend(const void* from,
                             std::size_t count,
                             ncclDataType_t,
                             int peer,
                             ncclComm_t comm,
                             cudaStream_t stream) {
  using namespace nccl_stub;
  return submit(comm, stream, text("Send ", count, " to ", peer), [=] {
    return comm->ranks->start_send(std::span(static_cast<const char*>(from), count), peer, 0);
  });
}
inline ncclResult_t ncclRecv(
    void* to, std::size_t count, ncclDataType_t, int peer, ncclComm_t comm, cudaStream_t stream) {
  using namespace nccl_stub;
  return submit(comm, stream, text("Recv ", count, " from ", peer), [=] {
    return comm->ranks->start_receive(std::span(static_cast<char*>(to), count), peer, 0);
  });
}
inline ncclResult_t ncclCommSplit(
    ncclComm_t comm, int color, int key, ncclComm_t* part, ncclConfig_t*) {
  if (const auto failed = nccl_stub::failure_of("CommSplit")) return failed;
  *part = new ncclComm{
      "a part", std::make_unique<mtp::thread_communicator>(comm->ranks->split(color, key)), 2};
  comm->polls = 2;
  return ncclInProgress;
}
