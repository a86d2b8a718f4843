// The functions of the CUDA runtime for streams, events and graphs.
#pragma once

#include <chrono>
#include <memory>
#include <set>
#include <utility>

#include "emulation/streams.hpp"

namespace mtp::emulation {

/// What has been created and not destroyed. Never freed itself: objects that a broken device
/// refuses to destroy stay within reach, and no leak is reported for them.
inline std::set<void*>& objects() {
  static std::set<void*>& all = *new std::set<void*>;
  return all;
}

template <class T, class... Arguments>
void create(T** object, Arguments&&... arguments) {
  *object = new T{std::forward<Arguments>(arguments)...};
  objects().insert(*object);
  ++detail::runtime().counts.live_objects;
}
template <class T>
cudaError_t destroy(T* object) {
  if (object == nullptr) {
    return cudaErrorInvalidResourceHandle;
  }
  objects().erase(object);
  delete object;
  --detail::runtime().counts.live_objects;
  return cudaSuccess;
}

inline cudaError_t synchronize() {
  ++detail::runtime().counts.synchronizations;
  return cudaSuccess;
}

}  // namespace mtp::emulation

// ---- streams ------------------------------------------------------------------------------------

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  using namespace mtp::emulation;
  return call("cudaStreamCreateWithFlags", during_capture::allowed, [&] {
    create(stream, flags != cudaStreamNonBlocking);
    return flags <= cudaStreamNonBlocking ? cudaSuccess : cudaErrorInvalidValue;
  });
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  using namespace mtp::emulation;
  return call("cudaStreamDestroy", during_capture::allowed, [&] {
    if (stream != nullptr && stream->recording != nullptr) {
      end_capture(stream->recording);
    }
    return destroy(stream);
  });
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  using namespace mtp::emulation;
  return call("cudaStreamSynchronize", during_capture::allowed, [&] {
    end_overlap();
    return waits_for_capture(stream) ? cudaErrorStreamCaptureUnsupported : synchronize();
  });
}
inline cudaError_t cudaDeviceSynchronize() {
  using namespace mtp::emulation;
  return call("cudaDeviceSynchronize", during_capture::allowed, [&] {
    end_overlap();
    return invalidates_captures() ? cudaErrorStreamCaptureUnsupported : synchronize();
  });
}

// ---- events -------------------------------------------------------------------------------------

inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  using namespace mtp::emulation;
  return call("cudaEventCreateWithFlags", during_capture::allowed, [&] {
    create(event, (flags & cudaEventDisableTiming) == 0);
    return cudaSuccess;
  });
}
inline cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  using namespace mtp::emulation;
  return call("cudaEventDestroy", during_capture::allowed, [&] { return destroy(event); });
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle = nullptr) {
  using namespace mtp::emulation;
  return call("cudaEventRecord", during_capture::allowed, [&] {
    if (event == nullptr) {
      return cudaErrorInvalidResourceHandle;
    }
    CUstream_st& stream = stream_of(handle);
    event->recording = stream.recording;
    event->stream = &stream;
    event->position = stream.recorded;
    event->happened = stream.recording == nullptr;
    event->when = std::chrono::steady_clock::now();
    return cudaSuccess;
  });
}

namespace mtp::emulation {
/// The error of asking about an event that is part of a capture.
inline cudaError_t error_of(cudaEvent_t event) {
  if (event == nullptr) {
    return cudaErrorInvalidResourceHandle;
  }
  return event->recording != nullptr && event->recording->active ? cudaErrorCapturedEvent
                                                                 : cudaSuccess;
}
}  // namespace mtp::emulation

inline cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  using namespace mtp::emulation;
  return call("cudaEventSynchronize", during_capture::allowed, [&] {
    end_overlap();
    const cudaError_t error = error_of(event);
    return error == cudaSuccess ? synchronize() : error;
  });
}
inline cudaError_t cudaEventQuery(cudaEvent_t event) {
  using namespace mtp::emulation;
  return call("cudaEventQuery", during_capture::allowed, [&] { return error_of(event); });
}
inline cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  using namespace mtp::emulation;
  return call("cudaEventElapsedTime", during_capture::allowed, [&] {
    for (const cudaEvent_t event : {begin, end}) {
      if (event == nullptr || !event->timed || !event->happened) {
        return cudaErrorInvalidResourceHandle;
      }
    }
    *milliseconds = std::chrono::duration<float, std::milli>(end->when - begin->when).count();
    return cudaSuccess;
  });
}

/// Work is done in the order of submission, so there is nothing to wait for; but an event of a
/// capture draws the stream into it, or joins the stream of the event again.
inline cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned flags = 0) {
  using namespace mtp::emulation;
  static_cast<void>(flags);
  return call("cudaStreamWaitEvent", during_capture::allowed, [&] {
    if (event == nullptr) {
      return cudaErrorInvalidResourceHandle;
    }
    CUstream_st& stream = stream_of(handle);
    const bool captured = event->recording != nullptr && event->recording->active;
    if (stream.recording != nullptr && !captured) {
      stream.recording->invalid = true;
      return cudaErrorStreamCaptureIsolation;
    }
    if (!captured) {
      return cudaSuccess;
    }
    capture& recording = *event->recording;
    if (stream.recording == nullptr) {
      stream.recording = event->recording;
      recording.streams.insert(&stream);
      recording.unjoined.insert(&stream);
    } else if (stream.recording != event->recording) {
      recording.invalid = stream.recording->invalid = true;
      return cudaErrorStreamCaptureMerge;
    } else if (event->stream->recorded == event->position) {
      recording.unjoined.erase(event->stream);
    }
    return cudaSuccess;
  });
}

// ---- capturing ----------------------------------------------------------------------------------

inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  using namespace mtp::emulation;
  return call("cudaStreamBeginCapture", during_capture::allowed, [&] {
    if (stream == nullptr) {
      return cudaErrorStreamCaptureUnsupported;
    }
    if (stream->recording != nullptr) {
      return cudaErrorIllegalState;
    }
    stream->recording = std::make_shared<capture>();
    stream->recording->mode = mode;
    stream->recording->origin = stream;
    stream->recording->streams.insert(stream);
    active_captures().push_back(stream->recording);
    return cudaSuccess;
  });
}
inline cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  using namespace mtp::emulation;
  return call("cudaStreamIsCapturing", during_capture::allowed, [&] {
    const auto& recording = stream_of(stream).recording;
    *status = recording == nullptr ? cudaStreamCaptureStatusNone
              : recording->invalid ? cudaStreamCaptureStatusInvalidated
                                   : cudaStreamCaptureStatusActive;
    return cudaSuccess;
  });
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  using namespace mtp::emulation;
  return call("cudaStreamEndCapture", during_capture::allowed, [&] {
    *graph = nullptr;
    const std::shared_ptr<capture> recording = stream_of(stream).recording;
    if (recording == nullptr) {
      return cudaErrorIllegalState;
    }
    if (recording->origin != stream) {
      recording->invalid = true;
      return cudaErrorStreamCaptureUnmatched;
    }
    end_capture(recording);
    if (recording->invalid) {
      return cudaErrorStreamCaptureInvalidated;
    }
    if (!recording->unjoined.empty()) {
      return cudaErrorStreamCaptureUnjoined;
    }
    create(graph, std::move(recording->nodes));
    return cudaSuccess;
  });
}

// ---- graphs -------------------------------------------------------------------------------------

inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* instance,
                                        cudaGraph_t graph,
                                        unsigned long long flags = 0) {
  using namespace mtp::emulation;
  static_cast<void>(flags);
  return call("cudaGraphInstantiate", during_capture::allowed, [&] {
    if (graph == nullptr) {
      return cudaErrorInvalidValue;
    }
    create(instance, graph->nodes);
    return cudaSuccess;
  });
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t instance, cudaStream_t stream) {
  using namespace mtp::emulation;
  graph_nodes nodes;
  const cudaError_t status = call("cudaGraphLaunch", during_capture::allowed, [&] {
    if (instance == nullptr) {
      return cudaErrorInvalidValue;
    }
    ++detail::runtime().counts.graph_launches;
    const cudaError_t submitted = submit(stream, [] {});
    const auto& recording = stream_of(stream).recording;
    if (submitted == cudaSuccess && recording != nullptr) {
      recording->nodes.insert(
          recording->nodes.end(), instance->nodes.begin(), instance->nodes.end());
    } else if (submitted == cudaSuccess) {
      nodes = instance->nodes;
    }
    return submitted;
  });
  for (const graph_node& node : nodes) {
    if (node.waits_for_threads) {
      node.work();
    } else {
      const std::lock_guard lock(detail::api_mutex());
      node.work();
    }
  }
  return status;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  using namespace mtp::emulation;
  return call("cudaGraphDestroy", during_capture::allowed, [&] { return destroy(graph); });
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t instance) {
  using namespace mtp::emulation;
  return call("cudaGraphExecDestroy", during_capture::allowed, [&] { return destroy(instance); });
}
