// The context of operations on an NVIDIA GPU: a stream, workspace memory, the product library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "mtp/backend/cuda/errors.cuh"
#include "mtp/backend/cuda/memory.cuh"
#include "mtp/backend/cuda/overlap.cuh"
#include "mtp/backend/cuda/product_plans.cuh"
#include "mtp/backend/cuda/tensor_group.cuh"
#include "mtp/core/arena.hpp"
#include "mtp/core/error.hpp"

namespace mtp::inline MTP_ABI {

struct cuda;  // the tag of this backend, see backend/cuda.cuh

/// Whether kernels of decoding begin before the kernels before them have ended, and read weights
/// meanwhile. It does not change a bit. It needs a GPU of compute capability 9.0 or newer, and code
/// for it.
enum class kernel_overlap {
  automatic,  ///< if the GPU can
  off,        ///< one after the other
  on,         ///< no context is made if the GPU cannot
};

/// The options of a cuda_context.
struct cuda_options {
  int device = 0;                              ///< index of the GPU
  index_t workspace_bytes = index_t{1} << 26;  ///< scratch memory of operations
  index_t product_bytes = index_t{1} << 25;    ///< scratch memory of the product library
  /// Unless it is off, work that a program puts on the stream through a stored handle must not
  /// write weights.
  kernel_overlap overlap = kernel_overlap::automatic;
};

/// The context of the CUDA backend: one stream of one GPU of compute capability 8.0 or newer.
/// Operations are submitted to the stream and run in order; the host waits in synchronize, in
/// downloads, and when it reads a mailbox. One caller at a time may use it; different contexts may
/// be used concurrently. A new context makes its GPU the current one of the calling thread, and
/// allocations then use it.
///
/// Without a GPU, with a driver that is too old, or after a kernel has failed, every call throws
/// mtp::error with CUDA's text. Other backends are not affected.
class cuda_context {
 public:
  /// Makes the GPU current, a stream and the workspace. Throws mtp::error for a device that does
  /// not exist, is too old, or for which the program was not compiled; for negative sizes; for
  /// kernel_overlap::on if the GPU cannot overlap; and when memory runs out.
  explicit cuda_context(const cuda_options& options = {})
      : capacity_(options.workspace_bytes),
        product_bytes_(static_cast<std::size_t>(options.product_bytes)) {
    check(capacity_ >= 0, "cuda_context: workspace_bytes must not be negative, got ", capacity_);
    check(options.product_bytes >= 0,
          "cuda_context: product_bytes must not be negative, got ",
          options.product_bytes);
    select_device(options.device, options.overlap);
    try {
      make();
    } catch (...) {
      release();
      throw;
    }
  }

  ~cuda_context() {
    static_cast<void>(cudaStreamSynchronize(stream_));
    release();
  }
  cuda_context(const cuda_context&) = delete;
  cuda_context& operator=(const cuda_context&) = delete;

  /// The number of threads that sizes of workspace depend on; here it does not matter.
  int threads() const { return 1; }

  /// The stream of the operations. The caller may put any work on it; the next kernel begins when
  /// that has ended.
  cudaStream_t stream() const {
    unfinished_.forget();
    return stream_;
  }
  /// The same for a kernel that overlaps as overlap.cuh describes.
  cudaStream_t overlapping_stream() const { return stream_; }
  /// Whether kernels may begin before those before them have ended.
  bool overlaps() const { return overlaps_; }
  /// Kernels beside which the next one may begin.
  cuda_detail::unfinished_kernels& unfinished() { return unfinished_; }
  /// The product library.
  cublasLtHandle_t products() const { return products_; }
  /// Memory that the product library may use, 256-byte aligned.
  void* product_memory() const { return product_memory_; }
  /// Its size in bytes.
  std::size_t product_bytes() const { return product_bytes_; }
  /// The plans of the product library so far.
  cuda_detail::product_plans& plans() { return plans_; }

  /// The name of the GPU.
  const std::string& device_name() const { return device_name_; }

  /// Streaming multiprocessors of the GPU.
  int multiprocessors() const { return multiprocessors_; }

  /// The most bytes of shared memory of a block.
  index_t block_shared_bytes() const { return block_shared_bytes_; }
  /// Bytes of shared memory of a multiprocessor, for all its blocks.
  index_t multiprocessor_shared_bytes() const { return multiprocessor_shared_bytes_; }

  /// Where kernels report errors in their data.
  cuda_detail::fault_record* faults() const { return faults_; }

  /// Scratch memory of the running operation.
  arena& workspace() { return workspace_; }
  /// Increases whenever the workspace moves, because recordings then hold old addresses.
  std::uint64_t workspace_generation() const { return generation_; }

  /// Makes the workspace at least `bytes` large. Not allowed while an operation runs or is
  /// recorded.
  void reserve(index_t bytes) {
    if (bytes > capacity_) {
      check(workspace_.used() == 0, "cuda_context::reserve: the workspace is in use");
      synchronize();
      void* const memory = cuda_detail::allocate(static_cast<std::size_t>(bytes));
      cuda_detail::deallocate(memory_);
      memory_ = static_cast<std::byte*>(memory);
      capacity_ = bytes;
      workspace_ = arena(memory_, capacity_);
      ++generation_;
    }
  }

  /// The ranks that compute each model of this context together; null: it computes alone.
  cuda_tensor_group* ranks() const { return ranks_; }
  /// Joins ranks, which must outlive the context's operations, for models whose configuration has a
  /// tensor_parallel_size. Other models do not notice. Throws mtp::error unless they submit to this
  /// context's stream.
  void join(cuda_tensor_group& ranks) {
    check(ranks.stream() == stream_,
          "cuda_context::join: the ranks submit to the stream of another context");
    ranks_ = &ranks;
  }

  /// Waits until all operations have ended. Throws mtp::error if one of them failed.
  void synchronize() {
    cuda_detail::check_cuda(cudaStreamSynchronize(stream_), "cuda_context::synchronize");
    raise_faults();
  }

  /// Throws what kernels that have ended have reported.
  void raise_faults() { cuda_detail::raise_fault(*faults_); }

 private:
  void select_device(int device, kernel_overlap overlap) {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaErrorInsufficientDriver) {
      static_cast<void>(cudaGetLastError());
      int driver = 0, runtime = 0;
      static_cast<void>(cudaDriverGetVersion(&driver));
      static_cast<void>(cudaRuntimeGetVersion(&runtime));
      fail("cuda_context: the driver is missing or too old for CUDA ",
           runtime / 1000,
           ".",
           runtime % 1000 / 10,
           driver > 0 ? ": it serves CUDA " : ": there is none",
           driver > 0 ? std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10)
                      : "",
           " (",
           cudaGetErrorString(status),
           ")");
    }
    check(status != cudaErrorNoDevice && (status != cudaSuccess || count > 0),
          "cuda_context: there is no CUDA device (",
          cudaGetErrorString(cudaErrorNoDevice),
          ")");
    cuda_detail::check_cuda(status, "cuda_context");
    check(device >= 0 && device < count,
          "cuda_context: expected a device in [0, ",
          count,
          "), got ",
          device);
    cuda_detail::check_cuda(cudaSetDevice(device), "cuda_context");
    const int major = attribute(cudaDevAttrComputeCapabilityMajor, device);
    const int minor = attribute(cudaDevAttrComputeCapabilityMinor, device);
    check(major >= 8,
          "cuda_context: expected a device of compute capability 8.0 or newer, got ",
          major,
          ".",
          minor);
    check_code(major, minor);
    const bool can_overlap = major >= 9 && cuda_detail::kernels_can_overlap();
    check(can_overlap || overlap != kernel_overlap::on,
          "cuda_context: kernel_overlap::on needs a device of compute capability 9.0 or newer and "
          "code that was compiled for it, got ",
          major,
          ".",
          minor);
    overlaps_ = can_overlap && overlap != kernel_overlap::off;
    multiprocessors_ = attribute(cudaDevAttrMultiProcessorCount, device);
    block_shared_bytes_ = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    multiprocessor_shared_bytes_ = attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor, device);
    cudaDeviceProp properties{};
    cuda_detail::check_cuda(cudaGetDeviceProperties(&properties, device), "cuda_context");
    device_name_ = properties.name;
  }

  /// Throws unless the program has machine code for the current device, or code that its driver can
  /// compile.
  static void check_code(int major, int minor) {
    cudaFuncAttributes attributes{};
    const cudaError_t status = cudaFuncGetAttributes(
        &attributes, reinterpret_cast<const void*>(cuda_detail::idle_kernel<1>));
    if (status == cudaErrorNoKernelImageForDevice) {
      static_cast<void>(cudaGetLastError());
      fail("cuda_context: this program holds no code for a device of compute capability ",
           major,
           ".",
           minor,
           ", nor PTX that its driver could compile; CMAKE_CUDA_ARCHITECTURES must name it");
    }
    cuda_detail::check_cuda(status, "cuda_context");
  }

  static int attribute(cudaDeviceAttr which, int device) {
    int value = 0;
    cuda_detail::check_cuda(cudaDeviceGetAttribute(&value, which, device), "cuda_context");
    return value;
  }

  void make() {
    cuda_detail::check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                            "cuda_context");
    cuda_detail::check_cublas(cublasLtCreate(&products_), "cuda_context");
    product_memory_ = cuda_detail::allocate(product_bytes_);
    void* faults = nullptr;
    cuda_detail::check_cuda(
        cudaHostAlloc(&faults, sizeof(cuda_detail::fault_record), cudaHostAllocMapped),
        "cuda_context");
    std::memset(faults, 0, sizeof(cuda_detail::fault_record));
    faults_ = static_cast<cuda_detail::fault_record*>(faults);
    memory_ =
        capacity_ > 0
            ? static_cast<std::byte*>(cuda_detail::allocate(static_cast<std::size_t>(capacity_)))
            : nullptr;
    workspace_ = arena(memory_, capacity_);
  }

  void release() {
    cuda_detail::deallocate(memory_);
    if (faults_ != nullptr) {
      static_cast<void>(cudaFreeHost(faults_));
    }
    cuda_detail::deallocate(product_memory_);
    plans_.clear();
    if (products_ != nullptr) {
      static_cast<void>(cublasLtDestroy(products_));
    }
    if (stream_ != nullptr) {
      static_cast<void>(cudaStreamDestroy(stream_));
    }
  }

  index_t capacity_;
  std::string device_name_;
  int multiprocessors_ = 0;
  index_t block_shared_bytes_ = 0;
  index_t multiprocessor_shared_bytes_ = 0;
  cudaStream_t stream_ = nullptr;
  cublasLtHandle_t products_ = nullptr;
  cuda_detail::product_plans plans_;
  void* product_memory_ = nullptr;
  std::size_t product_bytes_;
  bool overlaps_ = false;
  mutable cuda_detail::unfinished_kernels unfinished_;
  cuda_detail::fault_record* faults_ = nullptr;
  std::byte* memory_ = nullptr;
  arena workspace_;
  std::uint64_t generation_ = 0;
  cuda_tensor_group* ranks_ = nullptr;
};

}  // namespace mtp::inline MTP_ABI
