// The functions of the CUDA runtime for memory.
#pragma once

#include <cstddef>
#include <cstring>

#include "emulation/device_heap.hpp"
#include "emulation/streams.hpp"

namespace mtp::emulation {

inline cudaError_t allocate(const char* name, void** address, std::size_t bytes, memory_kind kind) {
  return call(name, during_capture::refused, [&] {
    if (address == nullptr) {
      return cudaErrorInvalidValue;
    }
    *address = bytes == 0 ? nullptr : heap().allocate(bytes, kind);
    return *address == nullptr && bytes != 0 ? cudaErrorMemoryAllocation : cudaSuccess;
  });
}

inline cudaError_t release(const char* name, void* address, memory_kind kind) {
  return call(name, during_capture::refused, [&] {
    return address == nullptr || heap().release(address, kind) ? cudaSuccess
                                                               : cudaErrorInvalidValue;
  });
}

/// A rectangle of bytes to copy; one row for copies without a pitch.
struct rectangle_copy {
  unsigned char* to;
  std::size_t to_pitch;
  const unsigned char* from;
  std::size_t from_pitch, width, height;
  cudaMemcpyKind kind;

  std::size_t span(std::size_t pitch) const { return (height - 1) * pitch + width; }

  /// Both ends are where `kind` says they are.
  bool valid() const {
    const auto lies = [](const void* address, std::size_t bytes, bool on_device) {
      return on_device ? heap().contains(address, bytes, memory_kind::device)
                       : address != nullptr && !heap().on_device(address);
    };
    const bool guess = kind == cudaMemcpyDefault;
    const bool to_device = guess
                               ? heap().on_device(to)
                               : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device =
        guess ? heap().on_device(from)
              : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    return lies(to, span(to_pitch), to_device) && lies(from, span(from_pitch), from_device);
  }

  bool touches_pageable_memory() const {
    const auto pageable = [](const void* address) {
      return !heap().on_device(address) && !heap().contains(address, 1, memory_kind::pinned);
    };
    return pageable(to) || pageable(from);
  }

  void operator()() const {
    if (!valid()) {  // in a graph, it may have been freed since it was recorded
      throw fault("a copy of a graph reads or writes memory that has been freed");
    }
    for (std::size_t row = 0; row < height; ++row) {
      std::memmove(to + row * to_pitch, from + row * from_pitch, width);
    }
  }
};

inline cudaError_t copy(void* to,
                        std::size_t to_pitch,
                        const void* from,
                        std::size_t from_pitch,
                        std::size_t width,
                        std::size_t height,
                        cudaMemcpyKind kind,
                        cudaStream_t stream,
                        bool host_waits) {
  if (width == 0 || height == 0) {
    return cudaSuccess;
  }
  if (height > 1 && (width > to_pitch || width > from_pitch)) {
    return cudaErrorInvalidPitchValue;
  }
  const rectangle_copy work{static_cast<unsigned char*>(to),
                            to_pitch,
                            static_cast<const unsigned char*>(from),
                            from_pitch,
                            width,
                            height,
                            kind};
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault || !work.valid()) {
    return cudaErrorInvalidValue;
  }
  counters& counts = detail::runtime().counts;
  if (host_waits) {
    ++counts.synchronizations;
  } else if (stream_of(stream).recording == nullptr && work.touches_pageable_memory()) {
    ++counts.pageable_copies;
  }
  return submit(stream, work);
}

inline cudaError_t set_memory(void* address, int value, std::size_t bytes, cudaStream_t stream) {
  if (bytes == 0) {
    return cudaSuccess;
  }
  if (!heap().contains(address, bytes, memory_kind::device)) {
    return cudaErrorInvalidValue;
  }
  return submit(stream, [=] {
    if (!heap().contains(address, bytes, memory_kind::device)) {
      throw fault("a memset of a graph writes memory that has been freed");
    }
    std::memset(address, value, bytes);
  });
}

}  // namespace mtp::emulation

template <class T>
cudaError_t cudaMalloc(T** address, std::size_t bytes) {
  return mtp::emulation::allocate(
      "cudaMalloc", reinterpret_cast<void**>(address), bytes, mtp::emulation::memory_kind::device);
}
inline cudaError_t cudaFree(void* address) {
  return mtp::emulation::release("cudaFree", address, mtp::emulation::memory_kind::device);
}
template <class T>
cudaError_t cudaHostAlloc(T** address, std::size_t bytes, unsigned flags) {
  static_cast<void>(flags);
  return mtp::emulation::allocate("cudaHostAlloc",
                                  reinterpret_cast<void**>(address),
                                  bytes,
                                  mtp::emulation::memory_kind::pinned);
}
template <class T>
cudaError_t cudaMallocHost(T** address, std::size_t bytes, unsigned flags = cudaHostAllocDefault) {
  static_cast<void>(flags);
  return mtp::emulation::allocate("cudaMallocHost",
                                  reinterpret_cast<void**>(address),
                                  bytes,
                                  mtp::emulation::memory_kind::pinned);
}
inline cudaError_t cudaFreeHost(void* address) {
  return mtp::emulation::release("cudaFreeHost", address, mtp::emulation::memory_kind::pinned);
}

inline cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total) {
  using namespace mtp::emulation;
  return call("cudaMemGetInfo", during_capture::allowed, [&] {
    *available = heap().available();
    *total = heap().total();
    return cudaSuccess;
  });
}

/// Waits for the copy, and for nothing else.
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  using namespace mtp::emulation;
  return call("cudaMemcpy", during_capture::refused, [&] {
    return copy(to, bytes, from, bytes, bytes, 1, kind, nullptr, true);
  });
}
inline cudaError_t cudaMemcpyAsync(void* to,
                                   const void* from,
                                   std::size_t bytes,
                                   cudaMemcpyKind kind,
                                   cudaStream_t stream = nullptr) {
  using namespace mtp::emulation;
  return call("cudaMemcpyAsync", during_capture::allowed, [&] {
    return copy(to, bytes, from, bytes, bytes, 1, kind, stream, false);
  });
}
inline cudaError_t cudaMemcpy2DAsync(void* to,
                                     std::size_t to_pitch,
                                     const void* from,
                                     std::size_t from_pitch,
                                     std::size_t width,
                                     std::size_t height,
                                     cudaMemcpyKind kind,
                                     cudaStream_t stream = nullptr) {
  using namespace mtp::emulation;
  return call("cudaMemcpy2DAsync", during_capture::allowed, [&] {
    return copy(to, to_pitch, from, from_pitch, width, height, kind, stream, false);
  });
}

inline cudaError_t cudaMemset(void* address, int value, std::size_t bytes) {
  using namespace mtp::emulation;
  return call("cudaMemset", during_capture::refused, [&] {
    return set_memory(address, value, bytes, nullptr);
  });
}
inline cudaError_t cudaMemsetAsync(void* address,
                                   int value,
                                   std::size_t bytes,
                                   cudaStream_t stream = nullptr) {
  using namespace mtp::emulation;
  return call("cudaMemsetAsync", during_capture::allowed, [&] {
    return set_memory(address, value, bytes, stream);
  });
}
