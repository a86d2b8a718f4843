// The concept of a backend: the least that satisfies it, and each member of that in turn taken
// away.
#include "mtp/core/backend.hpp"

#include <doctest/doctest.h>

#include <cstddef>

namespace mtp::test::core_backend_cases {

namespace {

/// A backend with these traits.
template <class Traits>
struct with {};

/// All that backend_traits asks of a backend whose memory the host does not reach, and no more.
struct least {
  struct context {
    index_t threads() const;
    void reserve(index_t bytes);
  };
  struct ops {};
  struct mailbox {
    mailbox(context&, std::size_t bytes, std::size_t slots);
    void post(context&, std::size_t slot, const void* from);
    const std::byte* wait(std::size_t slot);
  };
  struct recording {
    template <class Function>
    void replay(context&, const Function& function);
  };
  static constexpr bool is_host_memory = false;
  static constexpr index_t prefill_rows = 1;
  static constexpr index_t cycles_ahead = 0;
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

// A member of the same name hides the one of `least`; a name that two bases have cannot be looked
// up.
struct other_ops {
  struct ops {};
};
struct no_context : least {
  using context = void;
};
struct no_ops : least, other_ops {};
struct no_mailbox : least {
  using mailbox = void;
};
struct no_recording : least {
  using recording = void;
};
struct no_threads : least {
  struct context : least::context {
    void threads() const = delete;
  };
};
struct no_reserve : least {
  struct context : least::context {
    void reserve(index_t) = delete;
  };
};
struct no_slots : least {
  struct mailbox : least::mailbox {
    mailbox(context&, std::size_t bytes);
  };
};
struct no_post : least {
  struct mailbox : least::mailbox {
    using least::mailbox::mailbox;
    void post() = delete;
  };
};
struct no_wait : least {
  struct mailbox : least::mailbox {
    using least::mailbox::mailbox;
    void wait() = delete;
  };
};
struct wait_for_nothing : least {
  struct mailbox : least::mailbox {
    using least::mailbox::mailbox;
    void wait(std::size_t slot);
  };
};
struct no_replay : least {
  struct recording {};
};
struct no_is_host_memory : least {
  void is_host_memory() = delete;
};
struct no_prefill_rows : least {
  void prefill_rows() = delete;
};
struct no_cycles_ahead : least {
  void cycles_ahead() = delete;
};
struct no_allocate : least {
  static void allocate() = delete;
};
struct allocates_numbers : least {
  static float* allocate(std::size_t bytes);
};
struct no_deallocate : least {
  static void deallocate() = delete;
};
struct no_copy_from_host : least {
  static void copy_from_host() = delete;
};
struct no_copy_to_host : least {
  static void copy_to_host() = delete;
};
struct no_upload : least {
  static void upload() = delete;
};
struct no_download : least {
  static void download() = delete;
};
struct no_synchronize : least {
  static void synchronize() = delete;
};
struct no_weight_storage : least {
  static void weight_storage() = delete;
};
struct no_weight_offset : least {
  static void weight_offset() = delete;
};
struct rows_in_words : least {
  static constexpr const char* invariant_rows = "many";
};
struct invariant : least {
  static constexpr index_t invariant_rows = 8;
};
struct grower : least {
  static constexpr bool decodes_trees = true;
};
struct host : least {
  static constexpr bool is_host_memory = true;
  static context calling_thread();
};
struct no_calling_thread : least {
  static constexpr bool is_host_memory = true;
};

struct without_traits {};

}  // namespace

}  // namespace mtp::test::core_backend_cases

template <class Traits>
struct mtp::backend_traits<mtp::test::core_backend_cases::with<Traits>> : Traits {};

namespace mtp::test::core_backend_cases {

namespace {

template <class... Traits>
constexpr int backends = (0 + ... + (backend<with<Traits>> ? 1 : 0));

TEST_CASE("what has all that backend_traits lists is a backend") {
  static_assert(backends<least, invariant, host> == 3);
  static_assert(!decodes_trees<with<least>> && decodes_trees<with<grower>>);
}

TEST_CASE("what lacks one member is none") {
  static_assert(!backend<without_traits>);
  static_assert(backends<no_context, no_ops, no_mailbox, no_recording, no_threads> == 0);
  static_assert(backends<no_reserve, no_is_host_memory, no_prefill_rows, no_cycles_ahead> == 0);
  static_assert(backends<no_allocate, allocates_numbers, no_deallocate, no_copy_from_host> == 0);
  static_assert(backends<no_copy_to_host, no_upload, no_download, no_synchronize> == 0);
  static_assert(backends<no_weight_storage, no_weight_offset> == 0);
  static_assert(backends<no_slots, no_post, no_wait, wait_for_nothing, no_replay> == 0);
  static_assert(backends<rows_in_words, no_calling_thread> == 0);
}

TEST_CASE("the host reaches its own memory and that of backends that say so") {
  static_assert(host_accessible<host_memory> && host_accessible<with<host>>);
  static_assert(!host_accessible<with<least>> && !host_accessible<without_traits>);
}

}  // namespace

}  // namespace mtp::test::core_backend_cases
