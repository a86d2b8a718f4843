// Two backends that are declared and never run: one in the host's memory, one that is not.
#pragma once

#include <cstddef>

#include "mtp/core/backend.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

namespace mtp::test {

struct host {};
struct device {};

template <class Backend>
struct declared_context {
  int threads() const { return 1; }
  void reserve(index_t) {}
};

/// Some operations; one of them, linear_forward, for f32 only; swiglu_forward is missing.
struct declared_ops {
  template <class... Arguments>
  static void fill(const Arguments&...) {}
  template <class... Arguments>
  static void copy(const Arguments&...) {}
  template <class... Arguments>
  static void add(const Arguments&...) {}
  template <class... Arguments>
  static void transform(const Arguments&...) {}
  template <class... Arguments>
  static void sum(const Arguments&...) {}
  template <class... Arguments>
  static void argmax(const Arguments&...) {}
  template <class... Arguments>
  static void softmax_forward(const Arguments&...) {}
  template <class... Arguments>
  static void matmul(const Arguments&...) {}
  template <class Context, class Backend>
  static void linear_forward(Context&,
                             matrix_view<float, Backend>,
                             matrix_view<const float, Backend>,
                             weight_view<const float, Backend>);
  template <class... Arguments>
  static void linear_backward_weight(const Arguments&...) {}
  template <class... Arguments>
  static void rms_norm_forward(const Arguments&...) {}
  template <class... Arguments>
  static void silu_residual_forward(const Arguments&...) {}
  template <class... Arguments>
  static void adamw_update(const Arguments&...) {}
};

template <class Backend, bool IsHostMemory>
struct declared_traits {
  using context = declared_context<Backend>;
  using ops = declared_ops;
  struct mailbox {
    mailbox(context&, std::size_t bytes, std::size_t slots);
    void post(context&, std::size_t slot, const void* from);
    const std::byte* wait(std::size_t slot);
  };
  struct recording {
    template <class Function>
    void replay(context&, const Function& function);
  };
  static constexpr bool is_host_memory = IsHostMemory;
  static constexpr index_t prefill_rows = 1;
  static constexpr index_t cycles_ahead = 0;

  static context calling_thread();
  static void* allocate(std::size_t bytes);
  static void deallocate(void* memory, std::size_t bytes);
  static void copy_from_host(void* to, const void* from, std::size_t bytes);
  static void copy_to_host(void* to, const void* from, std::size_t bytes);
  static void upload(context&, void* to, const void* from, std::size_t bytes);
  static void download(context&, void* to, const void* from, std::size_t bytes);
  static void synchronize(context&);
  template <scalar S>
  static constexpr index_t weight_storage(index_t outputs, index_t inputs) {
    return outputs * inputs;
  }
  template <scalar S>
  static constexpr index_t weight_offset(index_t output, index_t input, index_t, index_t inputs) {
    return output * inputs + input;
  }
};

}  // namespace mtp::test

template <>
struct mtp::backend_traits<mtp::test::host> : mtp::test::declared_traits<mtp::test::host, true> {};
template <>
struct mtp::backend_traits<mtp::test::device>
    : mtp::test::declared_traits<mtp::test::device, false> {
  static constexpr index_t invariant_rows = 4;
};

namespace mtp::test {

template <class Element, index_t... Sizes>
using on_host = view<Element, extents<Sizes...>, host>;
template <class Element, index_t... Sizes>
using on_device = view<Element, extents<Sizes...>, device>;

using host_context = context<host>;

}  // namespace mtp::test
