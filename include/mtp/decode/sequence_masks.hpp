// What the host adds to logits: the masks of the sequences in all slots.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/decode/sampling_options.hpp"
#include "mtp/decode/sequence_memory.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// The mask of each slot, and the way of what it adds to the backend's memory.
template <model_config Config, class Backend>
class sequence_masks {
 public:
  using memory_type = sequence_memory<Config, Backend>;  ///< where rules lie

  /// For the sequences of `slots` slots. Context and memory must outlive it.
  sequence_masks(context<Backend>& context, memory_type& memory, index_t slots)
      : context_(&context), memory_(&memory), masks_(static_cast<std::size_t>(slots)) {
    for (index_t slot = 0; slot < slots; ++slot) {
      before_choice_.push_back([this, slot](index_t ahead) { send(slot, ahead); });
      before_row_.push_back([this, slot](index_t row) {
        send_for_row(memory_->in_tree(memory_->sequence(slot), memory_type::most_rows), row);
      });
    }
  }

  sequence_masks(const sequence_masks&) = delete;
  sequence_masks& operator=(const sequence_masks&) = delete;

  /// The sequence in a slot has no mask.
  void clear(index_t slot) { masks_[static_cast<std::size_t>(slot)] = {}; }
  /// It has the rule, and the mask unless that is null; both outlive the sequence.
  void set(index_t slot, const detail::host_sampling_rule& rule, const logit_mask* mask) {
    masks_[static_cast<std::size_t>(slot)] = {mask, &rule.bias};
    if (mask != nullptr) {
      bias_.resize(rule.bias.size());
      text_.resize(static_cast<std::size_t>(memory_type::capacity));
    }
  }

  /// Whether the sequence in a slot has a mask.
  bool has(index_t slot) const { return masks_[static_cast<std::size_t>(slot)].mask != nullptr; }

  /// For draft_task::before_choice, of a chain or of rows of a tree; null without a mask.
  const std::function<void(index_t)>* before_choice(index_t slot, bool of_rows) const {
    const auto& all = of_rows ? before_row_ : before_choice_;
    return has(slot) ? &all[static_cast<std::size_t>(slot)] : nullptr;
  }

  /// Sends what is added to the logits of the token at position count + ahead.
  void send(index_t slot, index_t ahead) {
    send(slot, memory_->text(*context_, slot, ahead, text_));
  }
  /// Sends what is added to the logits of the token behind row `row` of a sequence's drafts.
  void send_for_row(const sequence_view<Backend>& sequence, index_t row) {
    if (sequence.tree.exists()) {
      send(sequence.slot, memory_->text_of_row(*context_, sequence, row, text_));
    } else {
      send(sequence.slot, row);
    }
  }

 private:
  struct slot_mask {
    const logit_mask* mask = nullptr;
    const std::vector<float>* logit_bias = nullptr;  // [V]
  };

  void send(index_t slot, std::span<const token_t> text) {
    const slot_mask& own = masks_[static_cast<std::size_t>(slot)];
    std::copy(own.logit_bias->begin(), own.logit_bias->end(), bias_.begin());
    (*own.mask)(text, bias_);
    memory_->send_bias(*context_, slot, bias_);
  }

  context<Backend>* context_;
  memory_type* memory_;
  std::vector<slot_mask> masks_;                             // by slot
  std::vector<std::function<void(index_t)>> before_choice_;  // by slot
  std::vector<std::function<void(index_t)>> before_row_;     // by slot
  std::vector<float> bias_;                                  // [V], where there is a mask
  std::vector<token_t> text_;                                // of a sequence, where there is a mask
};

}  // namespace mtp::inline MTP_ABI
