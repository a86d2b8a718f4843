// A text of tokens in sequences of one length, and the hidden states of a trunk for all of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <span>
#include <sstream>
#include <type_traits>
#include <utility>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/random.hpp"
#include "mtp/io/checksum.hpp"
#include "mtp/io/describe.hpp"
#include "mtp/io/hidden_states.hpp"
#include "mtp/model/trunk_states.hpp"

namespace example {

/// Sequence w has the tokens w T .. w T + T - 1, and the T + 1 + D from w T on are what a head
/// needs of it. The last `held_out` sequences are not trained on.
struct windows {
  std::vector<mtp::token_t> tokens;
  mtp::index_t length = 0;    // T
  mtp::index_t depth = 0;     // D
  mtp::index_t held_out = 0;  // sequences

  mtp::index_t count() const {
    return (std::max<mtp::index_t>)((static_cast<mtp::index_t>(tokens.size()) - 1 - depth) / length,
                                    0);
  }
  mtp::index_t training() const { return count() - held_out; }
  /// [T + 1 + D]
  std::span<const mtp::token_t> sequence(mtp::index_t w) const {
    return part(w * length, length + 1 + depth);
  }
  /// The tokens that a draft vocabulary is chosen by.
  std::span<const mtp::token_t> training_text() const { return part(0, training() * length); }

  void validate() const {
    mtp::check(training() > 0,
               "retrofit: expected a text of more than ",
               held_out,
               " sequences of ",
               length,
               " tokens, got ",
               tokens.size(),
               " tokens");
  }

 private:
  std::span<const mtp::token_t> part(mtp::index_t first, mtp::index_t count) const {
    return std::span(tokens).subspan(static_cast<std::size_t>(first),
                                     static_cast<std::size_t>(count));
  }
};

/// A permutation of 0 .. count - 1.
inline std::vector<std::size_t> shuffled(std::size_t count,
                                         std::uint64_t seed,
                                         std::uint64_t stream) {
  const mtp::random_stream random(mtp::seed{seed}, stream);
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) {
    order[i] = i;
    std::swap(order[i], order[random.below(i, i + 1)]);
  }
  return order;
}

namespace detail {

inline std::uint64_t checksum(std::span<const std::byte> bytes) {
  mtp::io::xxh64 sum;
  sum.update(bytes);
  return sum.digest();
}

}  // namespace detail

/// What hidden states depend on.
template <mtp::model_config Config, mtp::scalar S>
mtp::io::hidden_states_origin origin_of(const mtp::language_model<Config, mtp::cpu, S>& model,
                                        const windows& text) {
  const auto trunk = static_cast<std::size_t>(model.layout.head_begin);
  auto without_head = Config;
  without_head.prediction = {};
  std::ostringstream rest;
  rest << without_head << ", length = " << text.length << ", blocks = "
       << Config.num_hidden_layers - (Config.prediction.kind.owns_last_block ? 1 : 0)
       << ", type = " << mtp::scalar_traits<S>::name;
  const std::string description = rest.str();
  return {detail::checksum(std::as_bytes(std::span(model.values().data(), trunk))),
          detail::checksum(std::as_bytes(std::span(text.tokens))),
          detail::checksum(std::as_bytes(std::span(description)))};
}

/// Rows of a block of the file: of so many sequences that products are efficient.
inline mtp::index_t block_rows(mtp::index_t length) {
  return length * (std::max<mtp::index_t>)(1024 / length, 1);
}

/// Appends what the file lacks. told(rows done, rows in all) is called behind each block.
template <mtp::model_config Config, mtp::scalar S>
void compute_states(mtp::context<mtp::cpu>& context,
                    const mtp::language_model<Config, mtp::cpu, S>& model,
                    const windows& text,
                    mtp::io::hidden_states_file& file,
                    const std::function<void(mtp::index_t, mtp::index_t)>& told) {
  if (file.complete()) return;
  const mtp::index_t T = text.length, rows = block_rows(T);
  mtp::trunk_states<Config, mtp::cpu, S> states(context, rows / T, T);
  std::vector<mtp::bf16> block;
  while (!file.complete()) {
    const mtp::index_t first = file.written() * rows, count = file.rows_of(file.written());
    const auto stream =
        states(context,
               model,
               std::span(text.tokens)
                   .subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)),
               T);  // [count, C]
    block.clear();
    for (mtp::index_t i = 0; i < stream.count(); ++i) {
      block.push_back(static_cast<mtp::bf16>(static_cast<float>(stream.data()[i])));
    }
    file.append(block);
    told(first + count, text.count() * T);
  }
}

}  // namespace example
