// The concept of heads accepts what has all that its comment lists and nothing else, and refuses it
// with any one of these left out.
#include "mtp/model/heads/head.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <utility>

#include "mtp/backend/cpu.hpp"

namespace mtp::test::model_head_cases {

namespace {

constexpr model_config config_of(head_kind kind, int depth) {
  return {.prediction = {.kind = kind, .depth = depth}};
}
constexpr model_config silent = config_of(head_kind::none, 0);
constexpr model_config drafting = config_of(head_kind::independent, 1);
constexpr model_config owning = config_of(head_kind::parallel, 1);
using matrix = matrix_view<float, cpu>;

/// What a head owes, one after the other: `part<Head, n>` is what stands at n. Behind the last one:
/// nothing.
template <class Head, std::size_t Part>
struct part {};

// Its parameters.
template <class Head>
struct part<Head, 0> {
  template <class Cursor>
  static constexpr typename Head::layout make(Cursor&) {
    return {};
  }
};
template <class Head>
struct part<Head, 1> {
  template <class Visitor>
  void visit(const Visitor&) const {}
};
// Training.
template <class Head>
struct part<Head, 2> {
  template <class Arena, class Scratch>
  static constexpr typename Head::activations make(Arena&, index_t, const Scratch&) {
    return {};
  }
};
template <class Head>
struct part<Head, 3> {
  matrix dhidden;
};
template <class Head>
struct part<Head, 4> {
  static constexpr index_t workspace(index_t, index_t, index_t) { return 0; }
};
template <class Head>
struct part<Head, 5> {
  template <class Pass, class Layout, class TrunkLayout, class Activations, class Score>
  static bool run(const Pass&,
                  const Layout&,
                  const TrunkLayout&,
                  const Activations&,
                  matrix,
                  matrix,
                  const Score&) {
    return false;
  }
};
template <class Head>
struct part<Head, 6> {
  template <class Activations>
  static matrix next_token_rows(const Activations& a, index_t) {
    return a.rows;
  }
};
// Decoding.
template <class Head>
struct part<Head, 7> {
  template <class Arena>
  static constexpr typename Head::drafter make(Arena&, index_t) {
    return {};
  }
};
template <class Head>
struct part<Head, 8> {
  static constexpr index_t workspace(index_t, index_t) { return 0; }
};
template <class Head>
struct part<Head, 9> {
  void reset(index_t) {}
};
template <class Head>
struct part<Head, 10> {
  void rewind(index_t, index_t) {}
};
template <class Head>
struct part<Head, 11> {
  index_t keep(index_t, index_t) { return 0; }
};
template <class Head>
struct part<Head, 12> {
  template <class Context>
  void copy_slot(Context&, index_t, index_t) {}
};
// Of heads that draft.
template <class Head>
struct part<Head, 13> {
  row_ring<float, cpu> ring() const { return {}; }
};
template <class Head>
struct part<Head, 14> {
  template <class Context, class Model, class Sequence>
  void advance(Context&, const Model&, const Sequence&, index_t, index_t, index_t) {}
};
template <class Head>
struct part<Head, 15> {
  template <class Context, class Model, class Sequence>
  void draft(Context&, const Model&, const Sequence&) {}
};

constexpr std::size_t of_any = 13, of_drafting = 16, nothing = 100;

/// A head with the first Count parts, but without part Missing.
template <std::size_t Count, std::size_t Missing>
struct head {
  template <std::size_t Part>
  using own = part<head, (Part == Missing || Part >= Count ? nothing + Part : Part)>;

  struct layout : own<0>, own<1> {};
  struct activations : own<2>, own<3> {
    matrix rows{nullptr, {0, 0}};
  };
  struct drafter : own<7>, own<8>, own<9>, own<10>, own<11>, own<12>, own<13>, own<14>, own<15> {};
};

/// With what stands beside its types.
template <std::size_t Count, std::size_t Missing = nothing>
struct whole_head : head<Count, Missing>,
                    head<Count, Missing>::template own<4>,
                    head<Count, Missing>::template own<5>,
                    head<Count, Missing>::template own<6> {};

template <class Head, model_config Config>
constexpr bool is_head = prediction_head<Head, Config, cpu, float>;

/// Of the parts, how many may be left out.
template <model_config Config, std::size_t Count, std::size_t... Missing>
constexpr std::size_t dispensable(std::index_sequence<Missing...>) {
  return (std::size_t{0} + ... + (is_head<whole_head<Count, Missing>, Config> ? 1 : 0));
}

}  // namespace

TEST_CASE("a head may leave out nothing that its comment lists") {
  static_assert(is_head<whole_head<of_any>, silent>);
  CHECK(dispensable<silent, of_any>(std::make_index_sequence<of_any>{}) == 0);
}

TEST_CASE("a head that drafts may not leave out how") {
  static_assert(is_head<whole_head<of_drafting>, drafting>);
  CHECK(dispensable<drafting, of_drafting>(std::make_index_sequence<of_drafting>{}) == 0);
  static_assert(!is_head<whole_head<of_any>, drafting>);
}

TEST_CASE("a head that owns the last block is given no normed rows") {
  static_assert(is_head<whole_head<of_drafting>, owning>);
  CHECK(is_head<whole_head<of_drafting, 3>, owning>);
  CHECK(is_head<whole_head<of_drafting, 6>, owning>);
  CHECK(dispensable<owning, of_drafting>(std::make_index_sequence<of_drafting>{}) == 2);
}

TEST_CASE("the library's own heads are heads") {
  CHECK(is_head<none_head<silent, cpu, float>, silent>);
  CHECK(is_head<head_of<drafting, cpu, float>, drafting>);
  CHECK(is_head<head_of<owning, cpu, float>, owning>);
}

}  // namespace mtp::test::model_head_cases
