// Drafts from a part of the vocabulary: the output matrix is often most of what a draft reads, and
// a few thousand tokens are most of what is written.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"
#include "mtp/model/inference_model.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/model/transfer.hpp"
#include "mtp/ops/linear.hpp"
#include "mtp/ops/quantize.hpp"
#include "mtp/ops/sequence.hpp"

namespace mtp::inline MTP_ABI {

/// The tokens of a text, the most frequent first, equally frequent ones by their numbers; at most
/// `count`, and none that does not occur. Of a text that the model wrote itself they make a better
/// draft vocabulary than those of other texts (VocabTrim, arXiv 2506.22694).
inline std::vector<token_t> frequent_tokens(std::span<const token_t> text, index_t count) {
  std::map<token_t, index_t> occurrences;
  for (const token_t token : text) {
    ++occurrences[token];
  }
  std::vector<std::pair<index_t, token_t>> ranked;  // by falling frequency, rising number
  for (const auto& [token, times] : occurrences) {
    ranked.emplace_back(-times, token);
  }
  std::sort(ranked.begin(), ranked.end());
  std::vector<token_t> tokens;
  for (const auto& [times, token] : ranked) {
    if (static_cast<index_t>(tokens.size()) < count) {
      tokens.push_back(token);
    }
  }
  return tokens;
}

/// The tokens that drafts are chosen from, and copies of their rows of the output matrices (Zhao et
/// al. 2025, FR-Spec, arXiv 2502.14856). Logits of the other tokens are the lowest
/// number that there is, so they are never drafted. What is written stays the same.
template <model_config Config, class Backend, scalar S>
class draft_vocabulary {
 public:
  using model_type = inference_model<Config, Backend, S>;     ///< whose output matrices
  using matrix = matrix_view<S, Backend>;                     ///< rows of activations
  using logits_type = matrix_view<accumulate_t<S>, Backend>;  ///< rows of logits

  /// For drafts from at most `rows` rows at once. Copies rows of every parameter of the shape
  /// [V, C] that is not the embedding alone. Throws mtp::error for no tokens, tokens outside the
  /// vocabulary and tokens that are given twice, and for a model that ranks have parts of.
  draft_vocabulary(const model_type& model, std::span<const token_t> tokens, index_t rows)
      : size_(static_cast<index_t>(tokens.size())),
        tokens_(tokens.begin(), tokens.end()),
        positions_(size_),
        part_(rows * size_),
        whole_(rows * Config.vocab_size) {
    check(is_whole<Config>,
          "draft_vocabulary: expected a whole model, got one that ",
          Config.tensor_parallel_size,
          " ranks have parts of");
    std::sort(tokens_.begin(), tokens_.end());
    const std::vector<index_t> sorted(tokens_.begin(), tokens_.end());  // [R]
    check(!sorted.empty(), "draft_vocabulary: expected at least one token");
    check(sorted.front() >= 0 && sorted.back() < Config.vocab_size,
          "draft_vocabulary: expected tokens in [0, ",
          Config.vocab_size,
          "), got ",
          sorted.front() < 0 ? sorted.front() : sorted.back());
    const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
    check(twice == sorted.end(),
          "draft_vocabulary: expected each token once, got token ",
          twice == sorted.end() ? 0 : *twice,
          " twice");
    fill(positions_, sorted);
    fill(whole_,
         std::vector<accumulate_t<S>>(static_cast<std::size_t>(whole_.count()),
                                      std::numeric_limits<accumulate_t<S>>::lowest()));
    model_type::layout.visit([&](const std::string&, const parameter& p) {
      if (model_type::layout.is_output(p)) {
        const weight_view<const S, Backend> all = model.values().matrix(p);
        if (all.quantized != nullptr) {
          quantized_.emplace(p.offset, quantized_rows_of(all));
        } else {
          weights_.emplace(p.offset, rows_of(all, sorted));
        }
      }
    });
  }

  /// Tokens.
  index_t size() const { return size_; }
  /// The tokens, ascending.  [R]
  std::span<const token_t> tokens() const { return tokens_; }
  /// Their rows of an output matrix, in that order.  [R, C]
  weight_view<const S, Backend> rows(const parameter& output) const {
    const auto elements = weights_.find(output.offset);
    if (elements == weights_.end()) {
      const rows_in_bytes& found = quantized_.at(output.offset);
      return {nullptr, size_, Config.hidden_size, found.bytes.data(), found.format};
    }
    return {elements->second.data(), size_, Config.hidden_size};
  }

  /// The logits of rows [J, C] under a part of an output matrix, at most as many as the constructor
  /// was told; they live until the next call.  [J, V]
  logits_type logits(context<Backend>& context, const matrix& rows, const parameter& output) {
    const index_t J = rows.extent(0), V = Config.vocab_size;
    const logits_type part(part_.data(), {J, size_});  // [J, R]
    const logits_type whole(whole_.data(), {J, V});    // [J, V]
    linear_forward(context, part, rows, this->rows(output));
    for (index_t j = 0; j < J; ++j) {
      store_rows(context,
                 logits_type(whole_.data() + j * V, {V, 1}),
                 logits_type(part_.data() + j * size_, {size_, 1}),
                 vector_view<index_t, Backend>(positions_.data(), dims<1>{size_}));
    }
    return whole;
  }

 private:
  template <class Element>
  static void fill(buffer<Element, Backend>& to, const std::vector<Element>& from) {
    backend_traits<Backend>::copy_from_host(to.data(), from.data(), from.size() * sizeof(Element));
  }

  /// The rows of some tokens of an output matrix.
  static buffer<S, Backend> rows_of(const weight_view<const S, Backend>& w,
                                    const std::vector<index_t>& tokens) {
    using traits = backend_traits<Backend>;
    const index_t C = w.inputs, R = static_cast<index_t>(tokens.size());
    const index_t from_count = traits::template weight_storage<S>(w.outputs, C);
    const index_t to_count = traits::template weight_storage<S>(R, C);
    std::vector<S> from(static_cast<std::size_t>(from_count));
    std::vector<S> to(static_cast<std::size_t>(to_count), static_cast<S>(0.0f));
    traits::copy_to_host(from.data(), w.data, from.size() * sizeof(S));
    for (index_t r = 0; r < R; ++r) {
      const index_t token = tokens[static_cast<std::size_t>(r)];
      for (index_t c = 0; c < C; ++c) {
        to[static_cast<std::size_t>(traits::template weight_offset<S>(r, c, R, C))] =
            from[static_cast<std::size_t>(
                traits::template weight_offset<S>(token, c, w.outputs, C))];
      }
    }
    buffer<S, Backend> made(to_count);
    fill(made, to);
    return made;
  }

  /// The same of a matrix in 8 bits; the rows keep their bits.
  struct rows_in_bytes {
    buffer<std::byte, Backend> bytes;
    quantized_format format;
  };
  rows_in_bytes quantized_rows_of(const weight_view<const S, Backend>& w) const {
    using bytes_view = vector_view<std::byte, Backend>;
    using rows_view = vector_view<const index_t, Backend>;
    buffer<std::byte, Backend> made;
    if constexpr (has_quantized_weights<Backend, S>) {
      made = buffer<std::byte, Backend>(quantized_weight_bytes<Backend>(size_, w.inputs, w.format));
      auto here = backend_traits<Backend>::calling_thread();
      quantized_rows(here,
                     bytes_view(made.data(), dims<1>{made.count()}),
                     w,
                     rows_view(positions_.data(), dims<1>{size_}));
    }
    return {std::move(made), w.format};
  }

  index_t size_;                            // R
  std::vector<token_t> tokens_;             // ascending  [R]
  buffer<index_t, Backend> positions_;      // of the tokens among all  [R]
  buffer<accumulate_t<S>, Backend> part_;   // [rows, R]
  buffer<accumulate_t<S>, Backend> whole_;  // [rows, V]
  // By the parameter's offset, each [R, C]: elements, and matrices in 8 bits.
  std::map<index_t, buffer<S, Backend>> weights_;
  std::map<index_t, rows_in_bytes> quantized_;
};

/// A model as drafters see it, with a part of its vocabulary or with all of it.
template <model_config Config, class Backend, scalar S>
class drafting_model {
 public:
  using model_type = inference_model<Config, Backend, S>;        ///< whose head drafts
  using vocabulary_type = draft_vocabulary<Config, Backend, S>;  ///< a part of its vocabulary
  using logits_type = typename vocabulary_type::logits_type;     ///< rows of logits

  /// The vocabulary may be null: all of it.
  drafting_model(const model_type& model, vocabulary_type* vocabulary)
      : model_(&model), vocabulary_(vocabulary) {}

  /// Values of all parameters.
  auto values() const { return model_->values(); }
  /// The rotary table.
  auto rope() const { return model_->rope(); }
  /// Where the trunk's parameters are.
  static constexpr const auto& trunk_layout() { return model_type::trunk_layout(); }
  /// Where the head's parameters are.
  static constexpr const auto& head_layout() { return model_type::head_layout(); }

  /// The logits of rows [J, C] under an output matrix, in `logits` or where they are kept. [J, V]
  logits_type logits(context<Backend>& context,
                     const matrix_view<S, Backend>& rows,
                     const parameter& output,
                     const logits_type& logits) const {
    if (vocabulary_ != nullptr) {
      return vocabulary_->logits(context, rows, output);
    }
    mtp::vocabulary<Config>::logits(context, logits, rows, model_->values().matrix(output));
    return logits;
  }

 private:
  const model_type* model_;
  vocabulary_type* vocabulary_;
};

}  // namespace mtp::inline MTP_ABI
