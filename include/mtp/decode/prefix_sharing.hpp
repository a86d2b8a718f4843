// Which slot a request takes, and what it finds there of its prompt.
#pragma once

#include <cstddef>
#include <span>

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI::detail {

/// The free slot whose caches hold most of a prompt, if that `counts`, else the first free one;
/// slots.size() if none is free. A slot has an owner while it is taken, and the progress of its
/// latest generation.
template <class Slots>
std::size_t free_slot(const Slots& slots, std::span<const token_t> prompt, bool counts) {
  std::size_t best = slots.size();
  index_t most = -1;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (slots[i]->owner == nullptr) {
      const index_t common = counts ? slots[i]->progress.in_common(prompt) : 0;
      if (common > most) {
        best = i;
        most = common;
      }
    }
  }
  return best;
}

/// Gives a free slot what another one holds, where that has more of the prompt. Returns how many
/// tokens of the prompt are there.
template <class Cycle, class Slots>
index_t share_prefix(Cycle& cycle,
                     const Slots& slots,
                     std::size_t to,
                     std::span<const token_t> prompt) {
  const index_t own = slots[to]->progress.in_common(prompt);
  std::size_t from = to;
  index_t most = own + Cycle::decoder_type::max_step_rows / 4;  // fewer are run sooner than copied
  for (std::size_t i = 0; i < slots.size(); ++i) {
    if (const index_t common = slots[i]->progress.in_common(prompt); common > most) {
      from = i;
      most = common;
    }
  }
  if (from == to) {
    return own;
  }
  cycle.sequences().copy_slot(static_cast<index_t>(to), static_cast<index_t>(from));
  return most;
}

}  // namespace mtp::inline MTP_ABI::detail
