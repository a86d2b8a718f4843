// Memory for a few rows on their way through blocks while decoding.
#pragma once

#include <algorithm>
#include <cstddef>

#include "mtp/core/arena.hpp"
#include "mtp/core/view.hpp"
#include "mtp/model/pass_rows.hpp"
#include "mtp/model/row_pass.hpp"
#include "mtp/ops/rms_norm.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// Up to `max_rows` rows: who they are, and activations of one block at a time.
template <model_config Config, class Backend, scalar S>
class decode_rows {
 public:
  using matrix = matrix_view<S, Backend>;          ///< rows of activations
  using sum_type = accumulate_t<S>;                ///< accumulator type
  using pass_type = row_pass<Config, Backend, S>;  ///< a pass over the rows

  matrix stream{nullptr, {0, 0}};                                ///< residual stream  [M, C]
  matrix normed{nullptr, {0, 0}};                                ///< what norm gives  [M, C]
  vector_view<sum_type, Backend> inverse{nullptr, dims<1>{0}};   ///< 1 / RMS of norm  [M]
  vector_view<index_t, Backend> positions{nullptr, dims<1>{0}};  ///< in their sequences  [M]
  vector_view<index_t, Backend> places{nullptr, dims<1>{0}};     ///< positions but in trees  [M]
  vector_view<token_t, Backend> ids{nullptr, dims<1>{0}};        ///< tokens  [M]

  /// Takes the memory for passes of `max_rows` rows through blocks of these kinds from an arena, or
  /// counts it with an arena_plan.
  template <class... Blocks, class Arena>
  static constexpr decode_rows make(Arena& arena, index_t max_rows) {
    const index_t C = Config.hidden_size;
    const dims<1> rows{max_rows};
    decode_rows made;
    made.bytes_ = (std::max)({bytes_of<Blocks>(max_rows)...});
    made.memory_ = arena.template take<std::byte>(made.bytes_);
    made.stream = matrix(arena.template take<S>(max_rows * C), {max_rows, C});
    made.normed = matrix(arena.template take<S>(max_rows * C), {max_rows, C});
    made.inverse = {arena.template take<sum_type>(max_rows), rows};
    made.positions = {arena.template take<index_t>(max_rows), rows};
    made.places = made.positions;
    made.ids = {arena.template take<token_t>(max_rows), rows};
    return made;
  }

  /// The memory of the first `rows` rows.
  decode_rows first(index_t rows) const {
    decode_rows some = *this;
    some.stream = stream.slice(0, 0, rows);
    some.normed = normed.slice(0, 0, rows);
    some.inverse = inverse.slice(0, 0, rows);
    some.positions = positions.slice(0, 0, rows);
    some.places = places.slice(0, 0, rows);
    some.ids = ids.slice(0, 0, rows);
    return some;
  }

  /// How many passes over `rows` rows through blocks of a kind have room in it at the same time.
  template <class Block>
  index_t room(index_t rows) const {
    return (std::min)(stream.extent(0) / rows, bytes_ / bytes_of<Block>(rows));
  }
  /// Memory for number `n` of such passes over the first `rows` rows, with a stream of its own.
  template <class Block>
  decode_rows beside(index_t n, index_t rows) const {
    decode_rows some = first(rows);
    some.stream = stream.slice(0, n * rows, rows);
    some.normed = normed.slice(0, n * rows, rows);
    some.inverse = inverse.slice(0, n * rows, rows);
    some.bytes_ = bytes_of<Block>(rows);
    some.memory_ = memory_ + n * some.bytes_;
    return some;
  }

  /// Activations of the block that is running.
  template <class Block>
  typename Block::activations activations() const {
    arena memory(memory_, bytes_);
    return Block::activations::make(memory, stream.extent(0));
  }

  /// A pass of a model over these rows, in runs that outlive it.
  template <class Model>
  pass_type pass(context<Backend>& context,
                 const Model& model,
                 std::span<const row_run> runs) const {
    return {context, model.values(), model.rope(), positions, runs};
  }

  /// Looks up which rows these are: for each run of `list`, rows of the sequence that the element
  /// of `sequences` beside it names; ids become the tokens `ahead` positions further on. A list
  /// with trees wants memory of its own for places: row r of a tree has place count - 1 - ahead +
  /// r.
  template <class Sequences>
  void select(context<Backend>& context,
              const Sequences& sequences,
              const pass_rows& list,
              index_t ahead) const {
    for (std::size_t i = 0; i < list.runs().size(); ++i) {
      const auto look_up = [&](const auto& to, const auto& sequence) {
        select_rows(
            context, list.part(i, to), list.part(i, ids), sequence, list.range(i).offset, ahead);
      };
      auto by_place = sequences[i].sequence;
      by_place.tree = {};
      look_up(positions, list.runs()[i].parents == nullptr ? by_place : sequences[i].sequence);
      if (list.has_trees()) {
        look_up(places, by_place);
      }
    }
  }

  /// normed = RMSNorm(x) with the scale of a parameter.  x [M, C]
  void norm(const pass_type& pass, const parameter& scale, matrix x) const {
    rms_norm_forward(pass.context, normed, inverse, x, pass.w.vector(scale), Config.rms_norm_eps);
  }

 private:
  /// Bytes of the activations of a block.
  template <class Block>
  static constexpr index_t bytes_of(index_t rows) {
    return bytes_taken([rows](arena_plan& plan) { return Block::activations::make(plan, rows); });
  }

  std::byte* memory_ = nullptr;  // of the activations
  index_t bytes_ = 0;
};

}  // namespace mtp::inline MTP_ABI
