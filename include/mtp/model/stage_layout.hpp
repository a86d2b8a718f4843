// What a stage of a pipeline has of a model, and where its parameters lie in memory of its own.
#pragma once

#include <array>
#include <cstddef>
#include <string>

#include "mtp/model/heads/head.hpp"
#include "mtp/model/inference_model.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/model/trunk.hpp"

namespace mtp::inline MTP_ABI {

/// Blocks [first, last) of those that the trunk runs itself, and what is in front of and behind
/// them.
struct pipeline_stage {
  int first = 0;         ///< the first block
  int last = 0;          ///< behind the last block
  bool embeds = true;    ///< whether it has the embedding
  bool predicts = true;  ///< whether it has norm, output matrix and head

  /// Equal if they have the same.
  friend constexpr bool operator==(const pipeline_stage&, const pipeline_stage&) = default;
};

/// Offsets of a stage's parameters. Each lies in one of three ranges, which are parts of the
/// model's layout: a copy of the embedding, where the head reads it on another stage than the
/// first; blocks, on the first stage after the embedding; and what the head's side has: the last
/// block if the head owns it, norm, output matrix and head.
///
/// The members that a model_layout has as well have the meaning that they have there.
template <model_config Config, class Backend, scalar S>
struct stage_layout {
  using whole_type = model_layout<Config, Backend, S>;  ///< offsets in the model
  using trunk_type = mtp::trunk<Config, Backend, S>;    ///< the trunk
  using head_type = head_of<Config, Backend, S>;        ///< the head
  using part_type = typename trunk_type::part;          ///< a part of the trunk
  /// Blocks that the trunk runs itself.
  static constexpr int blocks = trunk_type::dense_blocks + trunk_type::shared_blocks;
  /// Whether the head's side needs the embedding.
  static constexpr bool head_embeds =
      Config.tie_word_embeddings || detail::reads_embedding<head_type>();

  typename trunk_type::layout trunk;  ///< the trunk, as the head's side sees it
  typename head_type::layout head;    ///< the head
  typename trunk_type::layout body;   ///< the trunk, as blocks see it
  index_t head_begin;                 ///< elements before the first parameter of the head
  index_t storage;                    ///< elements of the stage
  index_t embedding;                  ///< elements of the embedding, whoever has it
  parameter_range copy;               ///< the embedding of another stage
  parameter_range own_blocks;         ///< embedding and blocks
  parameter_range own_head;           ///< the head's side

  /// Of a stage.
  static constexpr stage_layout make(const pipeline_stage& stage) {
    const whole_type whole = whole_type::make();
    stage_layout at{};
    at.embedding = block_begin(whole, 0);
    const auto take = [&](index_t begin, index_t end) {
      const parameter_range range{begin, at.storage, end - begin};
      at.storage += range.count;
      return range;
    };
    if (stage.predicts && !stage.embeds && head_embeds) {
      at.copy = take(0, at.embedding);
    }
    at.own_blocks =
        take(stage.embeds ? 0 : block_begin(whole, stage.first), block_begin(whole, stage.last));
    if (stage.predicts) {
      at.own_head = take(block_begin(whole, blocks), whole.storage);
    }
    at.body = moved(whole.trunk, at.own_blocks);
    at.trunk = moved(whole.trunk, at.own_head);
    at.head_begin = whole.head_begin - at.own_head.begin + at.own_head.local;
    parameter_cursor<Backend, S> cursor(at.head_begin);
    at.head = head_type::layout::make(cursor);
    return at;
  }

  /// Elements that are not a copy; they follow the copy.
  constexpr index_t owned() const { return storage - copy.count; }

  /// The offset in the stage of a parameter of the model, which is a copy, or its own; -1: the
  /// stage has none.
  constexpr index_t offset_of(const parameter& p) const {
    for (const parameter_range& range : {copy, own_blocks, own_head}) {
      if (range.has(p.offset)) {
        return p.offset - range.begin + range.local;
      }
    }
    return -1;
  }

  /// Calls visitor(name, parameter) for every parameter that is the stage's own, by ascending
  /// offset; names are those of the model.
  template <class Visitor>
  void visit(Visitor&& visitor) const {
    whole_type::make().visit([&](const std::string& name, const parameter& p) {
      if (own_blocks.has(p.offset) || own_head.has(p.offset)) {
        parameter own = p;
        own.offset = offset_of(p);
        visitor(name, own);
      }
    });
  }

 private:
  /// The first element of block `l`, or behind the last.
  static constexpr index_t block_begin(const whole_type& whole, int l) {
    const auto& at = whole.trunk;
    return l < trunk_type::dense_blocks
               ? at.dense.begin + l * at.dense.stride
               : at.blocks.begin + (l - trunk_type::dense_blocks) * at.blocks.stride;
  }

  /// The places of a trunk whose `range` is where the stage has it; the embedding is in front of
  /// everything.
  static constexpr typename trunk_type::layout moved(typename trunk_type::layout at,
                                                     const parameter_range& range) {
    const index_t by = range.local - range.begin;
    at.dense.begin += by;
    at.blocks.begin += by;
    at.norm.offset += by;
    at.output.offset += Config.tie_word_embeddings ? 0 : by;
    return at;
  }
};

}  // namespace mtp::inline MTP_ABI
