// Streams, events and graphs. Work is done when it is submitted, unless its stream captures: then
// it becomes a node of a graph, with its arguments as they are.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "emulation/block.hpp"
#include "emulation/control.hpp"
#include "emulation/early.hpp"

namespace mtp::emulation {

/// Work of a graph. What waits for other threads of the host, as messages between them do, runs
/// without the lock that makes their calls come one after the other.
struct graph_node {
  std::function<void()> work;
  bool waits_for_threads = false;
};
using graph_nodes = std::vector<graph_node>;

/// What streams record between cudaStreamBeginCapture and cudaStreamEndCapture.
struct capture {
  graph_nodes nodes;
  cudaStreamCaptureMode mode;
  CUstream_st* origin;
  std::set<CUstream_st*> unjoined;  ///< other streams whose last work nobody waits for yet
  std::set<CUstream_st*> streams;
  bool invalid = false, active = true;
  std::thread::id thread = std::this_thread::get_id();  ///< that began it

  /// Whether it forbids this thread of the host what is unsafe beside it.
  bool forbids() const {
    return mode == cudaStreamCaptureModeGlobal ||
           (mode == cudaStreamCaptureModeThreadLocal && thread == std::this_thread::get_id());
  }
};

}  // namespace mtp::emulation

struct CUstream_st {
  bool blocking = true;  // waits for the legacy stream, and the other way round
  std::shared_ptr<mtp::emulation::capture> recording = nullptr;
  long recorded = 0;
};

struct CUevent_st {
  bool timed;
  bool happened = false;
  std::chrono::steady_clock::time_point when = {};
  std::shared_ptr<mtp::emulation::capture> recording = nullptr;
  CUstream_st* stream = nullptr;
  long position = 0;
};

struct CUgraph_st {
  mtp::emulation::graph_nodes nodes;
};
struct CUgraphExec_st {
  mtp::emulation::graph_nodes nodes;
};

namespace mtp::emulation {

/// The stream that null stands for.
inline CUstream_st& stream_of(cudaStream_t stream) {
  static CUstream_st legacy;
  return stream == nullptr ? legacy : *stream;
}

inline std::vector<std::shared_ptr<capture>>& active_captures() {
  static std::vector<std::shared_ptr<capture>> captures;
  return captures;
}

/// Ends the captures that forbid this thread to wait for everything; whether there are any.
inline bool invalidates_captures() {
  bool any = false;
  for (const auto& recording : active_captures()) {
    if (recording->mode == cudaStreamCaptureModeRelaxed || recording->forbids()) {
      recording->invalid = any = true;
    }
  }
  return any;
}

/// Ends it for all of its streams.
inline void end_capture(const std::shared_ptr<capture> recording) {
  recording->active = false;
  for (CUstream_st* const stream : recording->streams) {
    stream->recording = nullptr;
  }
  std::erase(active_captures(), recording);
}

enum class during_capture { allowed, refused };

/// Every function of the runtime goes through here: errors that tests or a broken device want, the
/// rules of capturing, and the memory of the last error.
template <class Body>
cudaError_t call(const char* name, during_capture rule, const Body& body) {
  if (executes_kernel) {
    raise_fault(std::string(name) + ": called by a kernel");
  }
  const std::lock_guard lock(detail::api_mutex());
  detail::runtime_state& state = detail::runtime();
  const auto finish = [&](cudaError_t error) {
    if (error != cudaSuccess && error != cudaErrorNotReady) {
      state.last_error = error;
    }
    return error;
  };
  const std::optional<int> wanted = detail::enter_call(name);
  if (state.device == device_state::none) {
    return finish(cudaErrorNoDevice);
  }
  if (state.device == device_state::driver_too_old) {
    return finish(cudaErrorInsufficientDriver);
  }
  if (state.sticky_error != cudaSuccess) {
    return finish(state.sticky_error);
  }
  if (wanted) {
    return finish(static_cast<cudaError_t>(*wanted));
  }
  if (rule == during_capture::refused) {
    for (const auto& recording : active_captures()) {
      if (recording->forbids()) {
        recording->invalid = true;
        return finish(cudaErrorStreamCaptureUnsupported);
      }
    }
  }
  return finish(body());
}

/// Does a kernel's work or records it.
template <class Work>
cudaError_t submit_kernel(cudaStream_t handle, Work work) {
  CUstream_st& stream = stream_of(handle);
  if (handle == nullptr) {
    for (const auto& recording : active_captures()) {
      if (recording->origin->blocking) {
        recording->invalid = true;  // the legacy stream would wait for a capturing one
        return cudaErrorStreamCaptureImplicit;
      }
    }
  }
  if (stream.recording == nullptr) {
    work();
    return cudaSuccess;
  }
  if (stream.recording->invalid) {
    return cudaErrorStreamCaptureInvalidated;
  }
  stream.recording->nodes.push_back({std::move(work)});
  ++stream.recorded;
  if (&stream != stream.recording->origin) {
    stream.recording->unjoined.insert(&stream);
  }
  return cudaSuccess;
}

/// The same for work that waits for the kernels in front of it, and kernels for it.
template <class Work>
cudaError_t submit(cudaStream_t handle, Work work) {
  return submit_kernel(handle, [work = std::move(work)] {
    end_overlap();
    work();
  });
}

/// Records work that waits for other threads of the host. False unless the stream captures: the
/// caller then does it at once.
template <class Work>
bool record_waiting(cudaStream_t handle, Work work) {
  const std::lock_guard lock(detail::api_mutex());
  CUstream_st& stream = stream_of(handle);
  if (stream.recording == nullptr) {
    return false;
  }
  stream.recording->nodes.push_back({[work = std::move(work)] { work(); }, true});
  ++stream.recorded;
  return true;
}

/// Whether the host would wait for a stream that captures. That ends the capture.
inline bool waits_for_capture(cudaStream_t stream) {
  const auto& recording = stream_of(stream).recording;
  if (recording != nullptr) {
    recording->invalid = true;
  }
  return recording != nullptr;
}

}  // namespace mtp::emulation
