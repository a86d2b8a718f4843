// What a batch_generator has to do and has done, as data: what is saved and restored.
#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <string>
#include <vector>

#include "mtp/core/draft_tree.hpp"
#include "mtp/core/error.hpp"
#include "mtp/decode/generate_options.hpp"
#include "mtp/decode/generation.hpp"

namespace mtp::inline MTP_ABI {

/// How far a request is that was not taken.
enum class request_progress {
  unfinished,  ///< it goes on behind the tokens of its result, or begins
  ended,       ///< the result is complete
  failed,      ///< with what request_snapshot::failure says
};

/// A request.
template <class S, class Backend, int Depth>
struct request_snapshot {
  index_t number = 0;                                        ///< that submit gave it
  request_progress progress = request_progress::unfinished;  ///< how far it is
  std::vector<token_t> prompt{};                             ///< what it continues
  generate_options<S, Backend> options{};                    ///< how, callbacks included
  generation<Depth> result{};                                ///< what it has got so far
  std::string failure{};                                     ///< the message of what it failed with
  bool masked = false;                                       ///< whether it goes on with a mask
};

/// All requests of a batch_generator between two cycles.
template <class S, class Backend, int Depth>
struct generation_snapshot {
  index_t next = 0;                                             ///< number of the next request
  std::vector<request_snapshot<S, Backend, Depth>> requests{};  ///< by rising number
};

namespace detail {

/// What an exception says.
inline std::string message_of(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "a callback threw something that is no std::exception";
  }
}

/// Throws mtp::error unless a generator of a model with a vocabulary of V tokens, P positions and a
/// head of the snapshot's depth can go on from it; refusals: of trees.
template <class S, class Backend, int Depth>
void check_snapshot(const generation_snapshot<S, Backend, Depth>& snapshot,
                    index_t V,
                    index_t P,
                    const tree_refusals& refusals) {
  check(snapshot.next >= 0,
        "batch_generator::restore: expected a number of the next request, got ",
        snapshot.next);
  index_t least = 0;
  for (const auto& request : snapshot.requests) {
    const auto need = [&](bool holds, const auto&... parts) {
      check(holds, "batch_generator::restore: request ", request.number, ": ", parts...);
    };
    need(request.number >= least && snapshot.next > request.number,
         "expected rising numbers below the next one, ",
         snapshot.next);
    least = request.number + 1;
    try {
      check_generation(request.prompt, request.options, V, P, Depth, refusals);
      check_tokens(request.result.tokens, "generated token", V);
    } catch (const error& e) {
      need(false, e.what());
    }
    const generation<Depth>& result = request.result;
    const auto prompt = static_cast<index_t>(request.prompt.size());
    const auto written = static_cast<index_t>(result.tokens.size());
    const bool goes_on = request.progress == request_progress::unfinished && written > 0;
    const index_t most = (std::min)(request.options.max_new_tokens, P - prompt) - (goes_on ? 1 : 0);
    need(written <= most, "expected at most ", most, " generated tokens, got ", written);
    const bool has_scores = request.options.log_probabilities;
    need(result.log_probabilities.size() == (has_scores ? result.tokens.size() : 0),
         "expected ",
         has_scores ? written : 0,
         " log-probabilities, got ",
         result.log_probabilities.size());
    const auto best = static_cast<std::size_t>(request.options.best_tokens) * result.tokens.size();
    need(result.best_tokens.size() == best && result.best_log_probabilities.size() == best,
         "expected ",
         best,
         " best tokens and log-probabilities, got ",
         result.best_tokens.size(),
         " and ",
         result.best_log_probabilities.size());
    need(!request.masked || request.options.sampling.mask,
         "expected a mask, which it had when it was saved");
    for (std::size_t k = 0; k < result.drafted.size(); ++k) {
      need(result.accepted[k] >= 0 && result.accepted[k] <= result.drafted[k] &&
               result.drafted[k] <= result.forward_passes,
           "expected no more accepted drafts than drafts, and no more of these than passes, at "
           "place ",
           k);
    }
    need(result.tree_cycles >= 0 && result.tree_cycles <= result.forward_passes &&
             result.other_branches >= 0 && result.other_branches <= result.tree_cycles &&
             result.tree_drafts >= result.tree_cycles &&
             result.tree_drafts <= (max_tree_rows - 1) * result.tree_cycles,
         "expected no more trees than passes, each of 1 to ",
         max_tree_rows - 1,
         " drafts, and no more of other branches than trees");
    need(result.forward_passes >= 0 && result.forward_passes <= written + 1,
         "expected at most a pass for each token and one that wrote none, got ",
         result.forward_passes);
  }
}

}  // namespace detail
}  // namespace mtp::inline MTP_ABI
