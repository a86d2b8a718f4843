// What a backend is: a tag type, and one complete specialization of backend_traits.
#pragma once

#include <concepts>
#include <cstddef>

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// Everything the library asks of a backend. Specialized once per backend, in one header,
/// completely. Where the host itself computes, host_backend in backend/host.hpp has most of it.
///
///     context                      what operations run on: threads or stream, workspace memory;
///                                  has threads(), and reserve(bytes), which may grow the workspace
///                                  between operations
///     ops                          static functions, one per operation of ops/, with the same
///                                  names and arguments; and constexpr sizes: bytes of workspace
///                                  that they need, and kv_storage, the elements of a cache.
///                                  docs/backends.md lists those that models call
///     allocate(bytes), deallocate(memory, bytes)
///                                  memory of the backend, zeroed, aligned for its widest access
///     copy_from_host, copy_to_host(to, from, bytes)
///                                  copies bytes after everything submitted to any context
///     upload(context, to, from, bytes)
///                                  copies bytes in, in order with the context's operations; the
///                                  source may change as soon as the call returns
///     download(context, to, from, bytes)
///                                  copies bytes out after the operations submitted; they have
///                                  arrived when it returns
///     synchronize(context)         waits until all operations submitted to the context have ended,
///                                  and throws if one of them failed
///     is_host_memory               whether the host may read and write elements directly
///     weight_storage<S>(N, K)      elements that a weight of N outputs and K inputs occupies; at
///                                  least N for one input, because a vector is stored so
///     weight_offset<S>(n, k, N, K) where its element (n, k) lies within them
///
/// For operators on tensors, where the host reads the elements:
///
///     calling_thread()             a context without threads of its own, cheap to make
///
/// For decoding without a wait for the host:
///
///     prefill_rows                 rows of a prompt that a pass takes
///     invariant_rows               number of rows up to which a row's bits do not depend on the
///                                  others; left out where any number is allowed
///     decodes_trees                whether operations take trees of drafts (row_run::parents);
///     left
///                                  out: they do not
///     context::apart(count, bytes, function)
///                                  calls function(task, context) for each of `count` tasks at the
///                                  same time, with a context and `bytes` of workspace of its own;
///                                  left out: blocks that could run so run one after the other
///     cycles_ahead                 decoding cycles submitted before the first one is read
///     mailbox(context, bytes, slots)
///                                  copies a few bytes out without a wait:
///                                  post(context, slot, from), then wait(slot)
///     recording                    submits the same operations repeatedly:
///                                  replay(context, function)
template <class Backend>
struct backend_traits;

namespace detail {
/// The traits have a mailbox and a recording.
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

/// The traits have a context for operators where the host reads the elements.
template <class Traits>
concept has_calling_thread = !Traits::is_host_memory || requires {
  { Traits::calling_thread() } -> std::same_as<typename Traits::context>;
};

/// invariant_rows is a number, or left out.
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

/// The backend of views of host memory that no operation takes. Their content is sent to a backend.
struct host_memory {};

/// The host reads and writes the elements of views of this backend in place. Required where the
/// library loops over elements itself; operations work on any backend.
template <class Backend>
concept host_accessible =
    std::same_as<Backend, host_memory> || backend_traits<Backend>::is_host_memory;

/// The backend's operations take trees of drafts.
template <class Backend>
inline constexpr bool decodes_trees = [] {
  if constexpr (requires { backend_traits<Backend>::decodes_trees; }) {
    return static_cast<bool>(backend_traits<Backend>::decodes_trees);
  }
  return false;
}();

/// The object that operations of a backend run on; always their first argument.
template <class Backend>
using context = typename backend_traits<Backend>::context;

/// The functions that carry out the operations of ops/ on a backend.
template <class Backend>
using ops_of = typename backend_traits<Backend>::ops;

}  // namespace mtp::inline MTP_ABI
