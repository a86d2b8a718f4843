// The numbers and arrays of requests, one after the other: what writes and reads them goes through
// here.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "mtp/core/draft_tree.hpp"
#include "mtp/core/error.hpp"
#include "mtp/decode/generation_snapshot.hpp"
#include "mtp/model/config_fields.hpp"
#include "mtp/ops/accept_typical.hpp"

namespace mtp::inline MTP_ABI {

/// Of decode_mode.
template <>
struct value_names<decode_mode> {
  static constexpr std::array<std::string_view, 2> names{"plain", "speculative"};  ///< in order
};
/// Of draft_schedule.
template <>
struct value_names<draft_schedule> {
  static constexpr std::array<std::string_view, 2> names{"constant", "adaptive"};  ///< in order
};
/// Of draft_choice.
template <>
struct value_names<draft_choice> {
  static constexpr std::array<std::string_view, 2> names{"shared_noise",
                                                         "most_likely"};  ///< in order
};
/// Of draft_verification.
template <>
struct value_names<draft_verification> {
  static constexpr std::array<std::string_view, 3> names{
      "compare", "rejection", "block"};  ///< in order
};
/// Of end_reason.
template <>
struct value_names<end_reason> {
  static constexpr std::array<std::string_view, 5> names{
      "length", "stop", "context", "callback", "cancelled"};  ///< in order
};
/// Of request_progress.
template <>
struct value_names<request_progress> {
  static constexpr std::array<std::string_view, 3> names{
      "unfinished", "ended", "failed"};  ///< in order
};

namespace io::generation_detail {

/// visitor(name, number) for every number of a request, constant or not.
template <class Request, class Visitor>
void visit_numbers(Request& request, const Visitor& visitor) {
  auto& options = request.options;
  auto& sampling = options.sampling;
  visitor("number", request.number);
  visitor("progress", request.progress);
  visitor("mode", options.mode);
  visitor("num_draft_tokens", options.num_draft_tokens);
  visitor("schedule", options.schedule);
  visitor("max_new_tokens", options.max_new_tokens);
  visitor("min_new_tokens", options.min_new_tokens);
  visitor("log_probabilities", options.log_probabilities);
  visitor("temperature", sampling.temperature);
  visitor("top_k", sampling.top_k);
  visitor("top_p", sampling.top_p);
  visitor("min_p", sampling.min_p);
  visitor("repetition_penalty", sampling.repetition_penalty);
  visitor("frequency_penalty", sampling.frequency_penalty);
  visitor("presence_penalty", sampling.presence_penalty);
  visitor("seed", sampling.seed.value);
  visitor("sequence", sampling.sequence);
  visitor("drafts", sampling.drafts);
  visitor("verification", sampling.verification);
  visitor("masked", request.masked);
  visitor("best_tokens", options.best_tokens);
  visitor("reuse_prefix", options.reuse_prefix);
  visitor("end", request.result.end);
  visitor("forward_passes", request.result.forward_passes);
  visitor("reused", request.result.reused);
  visitor("tree_cycles", request.result.tree_cycles);
  visitor("tree_drafts", request.result.tree_drafts);
  visitor("other_branches", request.result.other_branches);
}

/// What a request has of arrays, without those in arrays.
struct request_arrays {
  std::vector<token_t> prompt, tokens, stop_tokens;
  std::vector<double> log_probabilities;
  std::vector<token_t> stop;               // sequences, one after the other
  std::vector<std::int64_t> stop_lengths;  // of each
  std::vector<token_t> bias_tokens;
  std::vector<float> bias;  // of each of these
  std::vector<token_t> best_tokens;
  std::vector<double> best_log_probabilities;
  std::vector<std::int64_t> drafted, accepted, cycles;  // [D], [D], [D + 1]
  std::vector<std::int64_t> tree_parents, tree_ranks;   // of rows 1 .., where rows are fixed
  std::vector<std::int64_t> tree_by_confidence;         // rows and width, where they are not
  std::vector<double> typical;        // epsilon, delta, temperature; none: exact acceptance
  std::vector<std::uint8_t> failure;  // its bytes
};

/// visitor(name, array) for every array, constant or not.
template <class Arrays, class Visitor>
void visit_arrays(Arrays& arrays, const Visitor& visitor) {
  visitor("prompt", arrays.prompt);
  visitor("tokens", arrays.tokens);
  visitor("log_probabilities", arrays.log_probabilities);
  visitor("stop_tokens", arrays.stop_tokens);
  visitor("stop", arrays.stop);
  visitor("stop_lengths", arrays.stop_lengths);
  visitor("bias_tokens", arrays.bias_tokens);
  visitor("bias", arrays.bias);
  visitor("best_token_list", arrays.best_tokens);
  visitor("best_log_probabilities", arrays.best_log_probabilities);
  visitor("drafted", arrays.drafted);
  visitor("cycles", arrays.cycles);
  visitor("accepted", arrays.accepted);
  visitor("tree_parents", arrays.tree_parents);
  visitor("tree_ranks", arrays.tree_ranks);
  visitor("tree_by_confidence", arrays.tree_by_confidence);
  visitor("typical", arrays.typical);
  visitor("failure", arrays.failure);
}

/// The arrays of a request.
template <class Request>
request_arrays arrays_of(const Request& request) {
  request_arrays arrays;
  arrays.prompt = request.prompt;
  arrays.tokens = request.result.tokens;
  arrays.log_probabilities = request.result.log_probabilities;
  arrays.stop_tokens = request.options.stop_tokens;
  for (const std::vector<token_t>& stop : request.options.stop) {
    arrays.stop.insert(arrays.stop.end(), stop.begin(), stop.end());
    arrays.stop_lengths.push_back(static_cast<std::int64_t>(stop.size()));
  }
  for (const token_bias& each : request.options.sampling.logit_bias) {
    arrays.bias_tokens.push_back(each.token);
    arrays.bias.push_back(each.bias);
  }
  arrays.best_tokens = request.result.best_tokens;
  arrays.best_log_probabilities = request.result.best_log_probabilities;
  arrays.cycles.assign(request.result.cycles.begin(), request.result.cycles.end());
  arrays.drafted.assign(request.result.drafted.begin(), request.result.drafted.end());
  arrays.accepted.assign(request.result.accepted.begin(), request.result.accepted.end());
  const draft_tree& tree = request.options.tree;
  if (tree.is_dynamic()) {
    arrays.tree_by_confidence = {tree.rows(), tree.width()};
  }
  for (index_t r = 1; r < tree.rows() && !tree.is_dynamic(); ++r) {
    arrays.tree_parents.push_back(tree.parent(r));
    arrays.tree_ranks.push_back(tree.rank(r));
  }
  if (const auto& typical = request.options.lossy_acceptance) {
    arrays.typical = {typical->epsilon, typical->delta, typical->temperature};
  }
  arrays.failure.assign(request.failure.begin(), request.failure.end());
  return arrays;
}

/// The tree of a request's drafts. Throws mtp::error for numbers that describe none.
inline draft_tree tree_of(const request_arrays& arrays) {
  const std::vector<index_t> parents(arrays.tree_parents.begin(), arrays.tree_parents.end());
  const std::vector<index_t> ranks(arrays.tree_ranks.begin(), arrays.tree_ranks.end());
  const auto& shape = arrays.tree_by_confidence;
  const bool fixed = !parents.empty() || !ranks.empty();
  check(shape.size() == (shape.empty() ? 0 : 2) && (shape.empty() || !fixed),
        "tree_by_confidence: expected 2 numbers, or none for a tree of fixed rows, got ",
        shape.size());
  return fixed           ? draft_tree::of_rows(parents, ranks)
         : shape.empty() ? draft_tree()
                         : draft_tree::by_confidence(shape[0], shape[1]);
}

/// The inverse. Throws mtp::error, with `where` in front, for lengths that do not fit together.
template <class Request>
void put_arrays(Request& request, const request_arrays& arrays, const std::string& where) {
  request.prompt = arrays.prompt;
  request.result.tokens = arrays.tokens;
  request.result.log_probabilities = arrays.log_probabilities;
  request.result.best_tokens = arrays.best_tokens;
  request.result.best_log_probabilities = arrays.best_log_probabilities;
  request.options.stop_tokens = arrays.stop_tokens;
  std::size_t from = 0;
  for (const std::int64_t length : arrays.stop_lengths) {
    const std::size_t left = arrays.stop.size() - from;
    check(length >= 0 && static_cast<std::size_t>(length) <= left,
          where,
          "stop_lengths: expected lengths of ",
          arrays.stop.size(),
          " tokens in all, got ",
          length,
          " where ",
          left,
          " are left");
    const auto begin = arrays.stop.begin() + static_cast<std::ptrdiff_t>(from);
    request.options.stop.emplace_back(begin, begin + length);
    from += static_cast<std::size_t>(length);
  }
  check(from == arrays.stop.size(), where, "stop: ", arrays.stop.size() - from, " tokens too many");
  const auto same_size = [&](std::size_t expected, std::size_t actual, const char* name) {
    check(actual == expected, where, name, ": expected ", expected, " numbers, got ", actual);
  };
  same_size(arrays.bias_tokens.size(), arrays.bias.size(), "bias");
  for (std::size_t i = 0; i < arrays.bias.size(); ++i) {
    request.options.sampling.logit_bias.push_back({arrays.bias_tokens[i], arrays.bias[i]});
  }
  same_size(request.result.drafted.size(), arrays.drafted.size(), "drafted");
  same_size(request.result.accepted.size(), arrays.accepted.size(), "accepted");
  same_size(request.result.cycles.size(), arrays.cycles.size(), "cycles");
  std::copy(arrays.cycles.begin(), arrays.cycles.end(), request.result.cycles.begin());
  for (std::size_t k = 0; k < arrays.drafted.size(); ++k) {
    request.result.drafted[k] = arrays.drafted[k];
    request.result.accepted[k] = arrays.accepted[k];
  }
  try {
    request.options.tree = tree_of(arrays);
  } catch (const error& e) {
    fail(where, e.what());
  }
  const std::vector<double>& typical = arrays.typical;
  same_size(typical.empty() ? 0 : 3, typical.size(), "typical");
  if (!typical.empty()) {
    request.options.lossy_acceptance = typical_acceptance{typical[0], typical[1], typical[2]};
  }
  request.failure.assign(arrays.failure.begin(), arrays.failure.end());
}

}  // namespace io::generation_detail
}  // namespace mtp::inline MTP_ABI
