// Types, codes and constants of the CUDA runtime, with CUDA 13's values.
#pragma once

#include <cstddef>

#include "emulation/vector_types.hpp"

enum cudaError : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInitializationError = 3,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidPitchValue = 12,
  cudaErrorInsufficientDriver = 35,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorECCUncorrectable = 214,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorIllegalState = 401,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchOutOfResources = 701,
  cudaErrorMisalignedAddress = 716,
  cudaErrorLaunchFailure = 719,
  cudaErrorNotSupported = 801,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorStreamCaptureMerge = 902,
  cudaErrorStreamCaptureUnmatched = 903,
  cudaErrorStreamCaptureUnjoined = 904,
  cudaErrorStreamCaptureIsolation = 905,
  cudaErrorStreamCaptureImplicit = 906,
  cudaErrorCapturedEvent = 907,
  cudaErrorUnknown = 999
};
using cudaError_t = cudaError;

inline const char* cudaGetErrorName(cudaError_t error) {
#define MTP_EMULATION_NAME(code) \
  case code:                     \
    return #code;
  switch (error) {
    MTP_EMULATION_NAME(cudaSuccess)
    MTP_EMULATION_NAME(cudaErrorInvalidValue)
    MTP_EMULATION_NAME(cudaErrorMemoryAllocation)
    MTP_EMULATION_NAME(cudaErrorInitializationError)
    MTP_EMULATION_NAME(cudaErrorInvalidConfiguration)
    MTP_EMULATION_NAME(cudaErrorInvalidPitchValue)
    MTP_EMULATION_NAME(cudaErrorInsufficientDriver)
    MTP_EMULATION_NAME(cudaErrorInvalidDeviceFunction)
    MTP_EMULATION_NAME(cudaErrorNoDevice)
    MTP_EMULATION_NAME(cudaErrorInvalidDevice)
    MTP_EMULATION_NAME(cudaErrorNoKernelImageForDevice)
    MTP_EMULATION_NAME(cudaErrorECCUncorrectable)
    MTP_EMULATION_NAME(cudaErrorInvalidResourceHandle)
    MTP_EMULATION_NAME(cudaErrorIllegalState)
    MTP_EMULATION_NAME(cudaErrorNotReady)
    MTP_EMULATION_NAME(cudaErrorIllegalAddress)
    MTP_EMULATION_NAME(cudaErrorLaunchOutOfResources)
    MTP_EMULATION_NAME(cudaErrorMisalignedAddress)
    MTP_EMULATION_NAME(cudaErrorLaunchFailure)
    MTP_EMULATION_NAME(cudaErrorNotSupported)
    MTP_EMULATION_NAME(cudaErrorStreamCaptureUnsupported)
    MTP_EMULATION_NAME(cudaErrorStreamCaptureInvalidated)
    MTP_EMULATION_NAME(cudaErrorStreamCaptureMerge)
    MTP_EMULATION_NAME(cudaErrorStreamCaptureUnmatched)
    MTP_EMULATION_NAME(cudaErrorStreamCaptureUnjoined)
    MTP_EMULATION_NAME(cudaErrorStreamCaptureIsolation)
    MTP_EMULATION_NAME(cudaErrorStreamCaptureImplicit)
    MTP_EMULATION_NAME(cudaErrorCapturedEvent)
    MTP_EMULATION_NAME(cudaErrorUnknown)
  }
#undef MTP_EMULATION_NAME
  return "unrecognized error code";
}
/// CUDA has sentences here; their wording is not promised.
inline const char* cudaGetErrorString(cudaError_t error) {
  return cudaGetErrorName(error);
}

enum cudaDeviceAttr : int {
  cudaDevAttrMaxThreadsPerBlock = 1,
  cudaDevAttrMaxSharedMemoryPerBlock = 8,
  cudaDevAttrWarpSize = 10,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrL2CacheSize = 38,
  cudaDevAttrMaxThreadsPerMultiProcessor = 39,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
  cudaDevAttrMaxBlocksPerMultiprocessor = 106
};

struct cudaDeviceProp {
  char name[256];
  std::size_t totalGlobalMem;
  std::size_t sharedMemPerBlock, sharedMemPerBlockOptin;
  int warpSize, maxThreadsPerBlock;
  int major, minor;
  int multiProcessorCount;
  int l2CacheSize;
};

enum cudaMemcpyKind : int {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4
};

enum cudaFuncAttribute : int {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9
};

/// What is asked of a kernel, as far as anybody does.
struct cudaFuncAttributes {
  int maxThreadsPerBlock;
  int maxDynamicSharedSizeBytes;
  int ptxVersion;
  int binaryVersion;
};

enum cudaStreamCaptureStatus : int {
  cudaStreamCaptureStatusNone = 0,
  cudaStreamCaptureStatusActive = 1,
  cudaStreamCaptureStatusInvalidated = 2
};
enum cudaStreamCaptureMode : int {
  cudaStreamCaptureModeGlobal = 0,
  cudaStreamCaptureModeThreadLocal = 1,
  cudaStreamCaptureModeRelaxed = 2
};

inline constexpr unsigned cudaStreamDefault = 0x00, cudaStreamNonBlocking = 0x01;
inline constexpr unsigned cudaEventDefault = 0x00, cudaEventBlockingSync = 0x01;
inline constexpr unsigned cudaEventDisableTiming = 0x02;
inline constexpr unsigned cudaHostAllocDefault = 0x00, cudaHostAllocPortable = 0x01;
inline constexpr unsigned cudaHostAllocMapped = 0x02;

using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
using cudaGraph_t = struct CUgraph_st*;
using cudaGraphExec_t = struct CUgraphExec_st*;

enum cudaLaunchAttributeID : int {
  cudaLaunchAttributeIgnore = 0,
  cudaLaunchAttributeProgrammaticStreamSerialization = 6
};
union cudaLaunchAttributeValue {
  char pad[64];
  int programmaticStreamSerializationAllowed;
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};

struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  std::size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
