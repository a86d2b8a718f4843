// Tokens, positions and texts on the host as operations take them.
#pragma once

#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/model/pass_rows.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::test {

inline vector_view<const token_t, cpu> view_of(const std::vector<token_t>& tokens) {
  return {tokens.data(), dims<1>{static_cast<index_t>(tokens.size())}};
}
inline vector_view<token_t, cpu> view_of(std::vector<token_t>& tokens) {
  return {tokens.data(), dims<1>{static_cast<index_t>(tokens.size())}};
}

/// first, first + 1, ...
class positions_from {
 public:
  positions_from(index_t first, index_t count) : positions_(static_cast<std::size_t>(count)) {
    std::iota(positions_.begin(), positions_.end(), first);
  }
  vector_view<const index_t, cpu> view() const {
    return {positions_.data(), dims<1>{static_cast<index_t>(positions_.size())}};
  }

 private:
  std::vector<index_t> positions_;
};

/// A sequence_view of tokens that live elsewhere.
class text_of {
 public:
  text_of(std::vector<token_t>& tokens, index_t count) : tokens_(&tokens), state_{count, 0} {}

  sequence_view<cpu> view() { return {view_of(*tokens_), {state_, dims<1>{sequence_states}}}; }
  operator sequence_view<cpu>() { return view(); }
  index_t count() const { return state_[sequence_count]; }
  index_t right() const { return state_[sequence_accepted]; }

 private:
  std::vector<token_t>* tokens_;
  index_t state_[sequence_states];
};

/// Drafts `depth` tokens of one sequence.
template <class Drafter, class Model>
void draft_next(
    Drafter& drafter, cpu_context& context, const Model& model, text_of text, index_t depth) {
  const draft_task<cpu> task{text, depth};
  drafter.draft(context, model, {&task, 1});
}

}  // namespace mtp::test
