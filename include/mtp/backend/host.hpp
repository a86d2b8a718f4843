// The base of a backend whose memory is the host's and that computes on the host: everything but
// operations, and weights stored row by row.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>
#include <vector>

#include "mtp/core/arena.hpp"
#include "mtp/core/available_memory.hpp"
#include "mtp/core/backend.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// A few slots of `bytes` bytes each. Operations have ended when they return, so a posted report is
/// there at once.
template <class Context>
class host_mailbox {
 public:
  /// Makes `slots` slots of `bytes` bytes.
  host_mailbox(Context&, std::size_t bytes, std::size_t slots)
      : bytes_(bytes), memory_(bytes * slots) {}

  /// Copies a report from the backend's memory into a slot.
  void post(Context&, std::size_t slot, const void* from) {
    std::memcpy(memory_.data() + slot * bytes_, from, bytes_);
  }
  /// The report in a slot, valid until the next post to it.
  const std::byte* wait(std::size_t slot) const { return memory_.data() + slot * bytes_; }

 private:
  std::size_t bytes_;
  std::vector<std::byte> memory_;
};

/// Submitting costs the host nothing, so operations are submitted anew each time.
template <class Context>
struct host_recording {
  /// Calls `function`, which submits the operations.
  template <class Function>
  void replay(Context&, const Function& function) {
    function();
  }
};

/// The base of backend_traits for such a backend. The backend adds `ops` and, if it does not store
/// weights row by row, its own weight_storage and weight_offset.
template <class Context>
struct host_backend {
  /// The context of operations.
  using context = Context;
  /// A copy, because operations have ended when they return.
  using mailbox = host_mailbox<Context>;
  /// Replay submits the operations again.
  using recording = host_recording<Context>;

  /// The host can access the elements.
  static constexpr bool is_host_memory = true;
  /// Rows of a prompt in a pass.
  static constexpr index_t prefill_rows = 64;
  /// No cycle is submitted before the previous one was read, because the host computes.
  static constexpr index_t cycles_ahead = 0;

  /// A context that computes on the calling thread, for operators on tensors.
  static Context calling_thread() { return Context(); }

  /// Zeroed memory, aligned like an arena. Throws mtp::error when memory runs out.
  static void* allocate(std::size_t bytes) {
    detail::check_available("host", bytes);
    void* memory = ::operator new (
        bytes, std::align_val_t{static_cast<std::size_t>(arena_alignment)}, std::nothrow);
    check(memory != nullptr, "host: out of memory: ", bytes, " bytes requested");
    return std::memset(memory, 0, bytes);
  }
  /// Frees memory of allocate.
  static void deallocate(void* memory, std::size_t) {
    ::operator delete (memory, std::align_val_t{static_cast<std::size_t>(arena_alignment)});
  }
  /// Copies `bytes` bytes from the host to the backend's memory.
  static void copy_from_host(void* to, const void* from, std::size_t bytes) {
    if (bytes > 0) {
      std::memcpy(to, from, bytes);
    }
  }
  /// Copies `bytes` bytes from the backend's memory to the host.
  static void copy_to_host(void* to, const void* from, std::size_t bytes) {
    copy_from_host(to, from, bytes);
  }
  /// Copies bytes in.
  static void upload(Context&, void* to, const void* from, std::size_t bytes) {
    copy_from_host(to, from, bytes);
  }
  /// Copies bytes out.
  static void download(Context&, void* to, const void* from, std::size_t bytes) {
    copy_from_host(to, from, bytes);
  }
  /// Does nothing: operations have ended when they return.
  static void synchronize(Context&) {}

  /// Elements of storage: rows without padding.
  template <scalar S>
  static constexpr index_t weight_storage(index_t outputs, index_t inputs) {
    return outputs * inputs;
  }
  /// Index of element (output, input).
  template <scalar S>
  static constexpr index_t weight_offset(index_t output, index_t input, index_t, index_t inputs) {
    return output * inputs + input;
  }
};

/// A base for the operations of a backend that needs no workspace: every size is zero.
/// docs/backends.md lists the sizes.
struct no_workspace {
  /// None.
  template <scalar S, class... Sizes>
  static constexpr index_t linear_workspace(Sizes...) {
    return 0;
  }
  /// None.
  template <scalar S, class... Sizes>
  static constexpr index_t linear_forward_workspace(Sizes...) {
    return 0;
  }
  /// None.
  template <scalar S, class... Sizes>
  static constexpr index_t linear_cross_entropy_workspace(Sizes...) {
    return 0;
  }
  /// None.
  template <scalar S, class... Sizes>
  static constexpr index_t attention_workspace(Sizes...) {
    return 0;
  }
  /// None.
  template <scalar S, class... Sizes>
  static constexpr index_t combine_workspace(Sizes...) {
    return 0;
  }
  /// None.
  template <scalar S, class... Sizes>
  static constexpr index_t embedding_workspace(Sizes...) {
    return 0;
  }
  /// None.
  template <scalar S, class... Sizes>
  static constexpr index_t row_workspace(Sizes...) {
    return 0;
  }
  /// None.
  template <scalar S, class... Sizes>
  static constexpr index_t predict_workspace(Sizes...) {
    return 0;
  }
  /// None.
  template <scalar S, class... Sizes>
  static constexpr index_t choose_tokens_workspace(Sizes...) {
    return 0;
  }
  /// None.
  template <scalar S, class... Sizes>
  static constexpr index_t best_tokens_workspace(Sizes...) {
    return 0;
  }
  /// None.
  static constexpr index_t sum_of_squares_workspace(index_t) { return 0; }
};

}  // namespace mtp::inline MTP_ABI
