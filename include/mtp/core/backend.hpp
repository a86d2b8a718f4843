// What a backend is: a tag type, and one complete specialization of backend_traits.
#pragma once

#include <concepts>
#include <cstddef>

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// Everything the library asks of a backend. Specialized once per backend, in one header,
/// completely; where the host itself computes, host_backend in backend/host.hpp has most of it:
///
///     context                      what operations run on: threads or stream, workspace memory;
///                                  has threads(), and reserve(bytes), which may grow the workspace
///                                  between operations
///     ops                          static functions, one per operation of ops/, same names and
///                                  arguments; and constexpr sizes: bytes of the workspace that
///                                  they want, and kv_storage, the elements of a cache.
///                                  docs/backends.md lists those that models call
///     allocate(bytes), deallocate(memory, bytes)
///                                  memory of the backend, zeroed, aligned for its widest access
///     copy_from_host, copy_to_host(to, from, bytes)
///                                  bytes in and out, behind everything submitted to any context
///     upload(context, to, from, bytes)
///                                  bytes in, in turn with the operations submitted to the context;
///                                  the source may change at once
///     download(context, to, from, bytes)
///                                  bytes out, behind the operations submitted; there when it
///                                  returns
///     synchronize(context)         returns when all operations submitted to the context have
///                                  ended, and throws what went wrong in them
///     is_host_memory               whether the host may read and write elements directly
///     weight_storage<S>(N, K)      elements that a weight of N outputs and K inputs occupies; of
///                                  one input, at least N: a vector is stored from its beginning
///     weight_offset<S>(n, k, N, K) where its element (n, k) lies within them
///
/// where the host reads the elements, for operators on tensors:
///
///     calling_thread()             a context without threads of its own, cheap to make
///
/// and for decoding without waiting for the host:
///
///     prefill_rows                 rows of a prompt that a pass takes
///     invariant_rows               rows up to which a row has the same bits in any company; may be
///                                  left out where their number does not matter
///     cycles_ahead                 decoding cycles that are submitted before the first one is read
///     mailbox(context, bytes, slots)
///                                  takes a few bytes out without waiting:
///                                  post(context, slot, from), then wait(slot)
///     recording                    operations that are submitted again and again:
///                                  replay(context, function)
template <class Backend>
struct backend_traits;

namespace detail {
/// What takes reports out and submits operations again.
template <class Traits>
concept has_reports = std::constructible_from<typename Traits::mailbox,
                                              typename Traits::context&,
                                              std::size_t,
                                              std::size_t> &&
    requires(typename Traits::context& context,
             typename Traits::mailbox& mailbox,
             typename Traits::recording& recording,
             void (*submit)(),
             const void* from,
             std::size_t slot) {
  mailbox.post(context, slot, from);
  { mailbox.wait(slot) } -> std::convertible_to<const std::byte*>;
  recording.replay(context, submit);
};

/// Where the host reads the elements, a context for operators.
template <class Traits>
concept has_calling_thread = !Traits::is_host_memory || requires {
  { Traits::calling_thread() } -> std::same_as<typename Traits::context>;
};

/// Where the number of rows is given, it is one.
template <class Traits>
concept counts_invariant_rows = !requires {
  Traits::invariant_rows;
}
|| requires {
  { Traits::invariant_rows } -> std::convertible_to<index_t>;
};
}  // namespace detail

/// A backend whose header has been included.
template <class Backend>
concept backend = detail::has_reports<backend_traits<Backend>> &&
    detail::has_calling_thread<backend_traits<Backend>> &&
    detail::counts_invariant_rows<backend_traits<Backend>> &&
    requires(typename backend_traits<Backend>::context& context,
             std::size_t bytes,
             void* memory,
             const void* source,
             index_t n) {
  typename backend_traits<Backend>::ops;
  { context.threads() } -> std::convertible_to<index_t>;
  context.reserve(n);
  { backend_traits<Backend>::allocate(bytes) } -> std::same_as<void*>;
  backend_traits<Backend>::deallocate(memory, bytes);
  backend_traits<Backend>::copy_from_host(memory, source, bytes);
  backend_traits<Backend>::copy_to_host(memory, source, bytes);
  backend_traits<Backend>::synchronize(context);
  backend_traits<Backend>::upload(context, memory, source, bytes);
  backend_traits<Backend>::download(context, memory, source, bytes);
  typename backend_traits<Backend>::mailbox;
  typename backend_traits<Backend>::recording;
  { backend_traits<Backend>::prefill_rows } -> std::convertible_to<index_t>;
  { backend_traits<Backend>::cycles_ahead } -> std::convertible_to<index_t>;
  { backend_traits<Backend>::is_host_memory } -> std::convertible_to<bool>;
  { backend_traits<Backend>::template weight_storage<float>(n, n) } -> std::same_as<index_t>;
  { backend_traits<Backend>::template weight_offset<float>(n, n, n, n) } -> std::same_as<index_t>;
};

/// Stands for the host in views that no operation takes: what is filled in there is sent to a
/// backend.
struct host_memory {};

/// The host reads and writes the elements of views of this backend where they lie. What loops over
/// elements itself asks for it; operations work on any backend.
template <class Backend>
concept host_accessible =
    std::same_as<Backend, host_memory> || backend_traits<Backend>::is_host_memory;

/// What operations of a backend run on; always their first argument.
template <class Backend>
using context = typename backend_traits<Backend>::context;

/// The functions that carry out the operations of ops/ on a backend.
template <class Backend>
using ops_of = typename backend_traits<Backend>::ops;

}  // namespace mtp::inline MTP_ABI
