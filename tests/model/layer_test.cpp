// The concepts of layers accept what has all that their comment lists and nothing else, and refuse
// it with any one of these left out.
#include "mtp/model/layers/layer.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

#include "mtp/backend/cpu.hpp"

namespace mtp::test::model_layer_cases {

namespace {

constexpr model_config config{};
using matrix = matrix_view<float, cpu>;

/// What a layer owes, one after the other: `part<n>` is what stands at n.
template <std::size_t Part>
struct part {};  // behind the last one: nothing
template <>
struct part<0> {
  struct layout {
    template <class Cursor>
    static constexpr layout make(Cursor&) {
      return {};
    }
    template <class Visitor>
    void visit(const std::string&, const Visitor&) const {}
  };
};
template <>
struct part<1> {
  struct activations {
    template <class Arena>
    static constexpr activations make(Arena&, index_t) {
      return {};
    }
  };
};
template <>
struct part<2> {
  struct scratch {
    template <class Arena>
    static constexpr scratch make(Arena&, index_t) {
      return {};
    }
  };
};
template <>
struct part<3> {
  static constexpr index_t workspace(index_t, index_t, index_t) { return 0; }
};
template <>
struct part<4> {
  static constexpr index_t decode_workspace(index_t, index_t) { return 0; }
};
template <>
struct part<5> {
  template <class Pass, class Layout, class Activations>
  static void forward(const Pass&, const Layout&, const Activations&, matrix, matrix, matrix) {}
};
template <>
struct part<6> {
  template <class Pass, class Layout, class Activations, class Scratch>
  static void backward(
      const Pass&, const Layout&, const Activations&, const Scratch&, matrix, matrix, matrix) {}
};
/// Up to here what every layer owes, from here on what attention does.
template <>
struct part<7> {
  static constexpr index_t rotary_width = 0;
};
template <>
struct part<8> {
  static constexpr index_t rewindable = 0;
};
struct kept {};
template <>
struct part<9> {
  using cache = kept;
};
template <>
struct part<10> {
  template <class Arena>
  static constexpr kept make_cache(Arena&, index_t) {
    return {};
  }
};
template <>
struct part<12> {
  template <class Context>
  static void copy_cache(Context&, const kept&, index_t, index_t) {}
};
template <>
struct part<11> {
  template <class Pass, class Layout, class Activations>
  static void decode(
      const Pass&, const Layout&, const Activations&, const kept&, matrix, matrix, matrix) {}
};

/// All parts of a sequence but part `Missing`.
template <std::size_t Missing, class Parts>
struct layer_without;
template <std::size_t Missing, std::size_t... Parts>
struct layer_without<Missing, std::index_sequence<Parts...>>
    : part<(Parts == Missing ? 100 : Parts)>... {};

constexpr std::size_t of_a_feed_forward = 7, of_an_attention = 13;
template <std::size_t Count, std::size_t Missing = Count>
using layer = layer_without<Missing, std::make_index_sequence<Count>>;

template <class Layer>
constexpr bool feeds_forward = feed_forward_layer<Layer, config, cpu, float>;
template <class Layer>
constexpr bool attends = attention_layer<Layer, config, cpu, float>;

static_assert(feeds_forward<layer<of_a_feed_forward>>);
static_assert(attends<layer<of_an_attention>>);

/// Of the parts, how many may be left out.
template <std::size_t... Missing>
constexpr std::size_t dispensable_of_feed_forward(std::index_sequence<Missing...>) {
  return (std::size_t{0} + ... + (feeds_forward<layer<of_a_feed_forward, Missing>> ? 1 : 0));
}
template <std::size_t... Missing>
constexpr std::size_t dispensable_of_attention(std::index_sequence<Missing...>) {
  return (std::size_t{0} + ... + (attends<layer<of_an_attention, Missing>> ? 1 : 0));
}

}  // namespace

TEST_CASE("a feed-forward layer may leave out nothing that its comment lists") {
  CHECK(dispensable_of_feed_forward(std::make_index_sequence<of_a_feed_forward>{}) == 0);
  CHECK_FALSE(attends<layer<of_a_feed_forward>>);
}

TEST_CASE("an attention layer may leave out nothing that its comment lists") {
  CHECK(dispensable_of_attention(std::make_index_sequence<of_an_attention>{}) == 0);
}

TEST_CASE("the library's own layers are layers") {
  CHECK(feeds_forward<swiglu_layer<config, cpu, float>>);
  CHECK(attends<grouped_query_attention<config, cpu, float>>);
}

}  // namespace mtp::test::model_layer_cases
