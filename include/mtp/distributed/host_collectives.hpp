// Collective calls with a few values of the host, on a communicator of any memory.
#pragma once

#include <cstddef>
#include <span>

#include "mtp/core/backend.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/shards.hpp"

namespace mtp::inline MTP_ABI::detail {

/// Where a communicator's spans are in a device's memory, values go through a buffer there.
template <class Backend, class Communicator>
class host_collectives {
 public:
  /// Communicator::all_gather.
  template <class T>
  void all_gather(context<Backend>& context,
                  Communicator& group,
                  std::span<T> whole,
                  const shards& parts) {
    run(context, whole, [&](std::span<T> values) { group.all_gather(values, parts); });
  }
  /// Communicator::all_reduce.
  template <class T>
  void all_reduce(context<Backend>& context,
                  Communicator& group,
                  std::span<T> values,
                  reduction kind) {
    run(context, values, [&](std::span<T> all) { group.all_reduce(all, kind); });
  }

 private:
  template <class T, class Call>
  void run(context<Backend>& context, std::span<T> values, const Call& call) {
    if constexpr (host_communicator<Communicator>) {
      call(values);
    } else {
      const auto bytes = static_cast<index_t>(values.size_bytes());
      if (room_.count() < bytes) {
        room_ = buffer<std::byte, Backend>(bytes);
      }
      using traits = backend_traits<Backend>;
      traits::upload(context, room_.data(), values.data(), values.size_bytes());
      traits::synchronize(context);
      call(std::span<T>(reinterpret_cast<T*>(room_.data()), values.size()));
      traits::download(context, values.data(), room_.data(), values.size_bytes());
    }
  }

  buffer<std::byte, Backend> room_;
};

}  // namespace mtp::inline MTP_ABI::detail
