// Text as training windows. The tokens of a step are a function of seed and step.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/random.hpp"
#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// How a text is divided into windows.
struct dataset_options {
  index_t window = 0;              ///< tokens of a sample: T + 1 + D
  double validation_share = 0.05;  ///< share that is held out; 1: all, nothing to train on
  mtp::seed seed{0};               ///< of the order of samples
  index_t stride = 0;              ///< tokens from one held-out window to the next; 0: window - 1
};

/// A text of tokens, divided into documents, with a part held out for validation. A resumed run
/// needs no saved state: sample n of a run is always the same.
///
/// Element is the type in which tokens are stored: std::uint8_t for bytes.
template <class Element = std::uint8_t>
class dataset {
 public:
  /// `document_starts` are the positions at which documents begin, ascending from 0; empty means
  /// one document. `mask` has 0 for each token that is never a target, such as those of a prompt;
  /// empty means that all are targets. Throws mtp::error if the text is shorter than one window for
  /// training and one for validation, for invalid starts, for a mask of another size than the text,
  /// a window below 2, a share outside [0, 1] and a negative stride.
  dataset(std::vector<Element> text,
          std::vector<std::int64_t> document_starts,
          const dataset_options& options,
          std::vector<std::uint8_t> mask = {})
      : text_(std::move(text)),
        starts_(std::move(document_starts)),
        mask_(std::move(mask)),
        options_(options) {
    const detail::default_environment scope;
    const index_t n = size();
    check(options.window > 1,
          "dataset: expected a window of at least 2 tokens, got ",
          options.window);
    check(options.validation_share >= 0 && options.validation_share <= 1,
          "dataset: expected a validation share in [0, 1], got ",
          options.validation_share);
    check(options.stride >= 0, "dataset: expected a stride of at least 0, got ", options.stride);
    check(mask_.empty() || mask_.size() == text_.size(),
          "dataset: expected a mask for each of ",
          n,
          " tokens, got ",
          mask_.size());
    // By division, because so many windows may have more tokens than index_t can count.
    const bool both = options.validation_share > 0 && options.validation_share < 1;
    const index_t windows = both ? 2 : 1;
    check(options.window <= n / windows,
          "dataset: expected a text of at least ",
          windows,
          windows == 1 ? " window of " : " windows of ",
          options.window,
          " tokens, got ",
          n,
          " tokens");
    if (starts_.empty()) {
      starts_.push_back(0);
    }
    check(starts_.front() == 0 && std::is_sorted(starts_.begin(), starts_.end()) &&
              starts_.back() <= n,
          "dataset: document starts must begin with 0 and ascend up to the text's ",
          n,
          " tokens");
    split();
  }

  /// Tokens of the text.
  index_t size() const { return static_cast<index_t>(text_.size()); }
  /// Tokens of a sample.
  index_t window() const { return options_.window; }
  /// How the text was divided into windows.
  const dataset_options& options() const { return options_; }
  /// The text.
  std::span<const Element> text() const { return text_; }
  /// Where documents begin; the first at 0.
  std::span<const std::int64_t> document_starts() const { return starts_; }
  /// 0 for each token that is never a target; empty where all are.
  std::span<const std::uint8_t> mask() const { return mask_; }

  /// Number of positions at which a training window may begin.
  index_t training_windows() const { return training_total_; }
  /// Number of held-out windows. With the default stride their inputs do not overlap.
  index_t validation_windows() const { return static_cast<index_t>(validation_.size()); }

  /// Writes sample `number` of the run, a window that begins anywhere in the training text, and the
  /// document number of each token. tokens, segments (=) [window]; mask (=) [window], or empty if
  /// not wanted. Throws mtp::error unless the sizes are those of a window, and if the whole text is
  /// held out.
  void training_sample(std::uint64_t number,
                       std::span<token_t> tokens,
                       std::span<std::int32_t> segments,
                       std::span<std::uint8_t> mask = {}) const {
    check(
        training_total_ > 0,
        "dataset: all of the text is held out (validation_share 1): there is nothing to train on");
    const random_stream order(options_.seed, order_stream);
    const auto pick =
        static_cast<index_t>(order.below(number, static_cast<std::uint64_t>(training_total_)));
    const auto after = std::upper_bound(
        training_.begin(), training_.end(), pick, [](index_t value, const interval& part) {
          return value < part.windows_before;
        });
    const interval& part = *std::prev(after);
    copy_window(part.begin + pick - part.windows_before, tokens, segments, mask);
  }

  /// Writes window `number` of the held-out text, like training_sample. Also throws mtp::error for
  /// a number outside [0, validation_windows()).
  void validation_sample(index_t number,
                         std::span<token_t> tokens,
                         std::span<std::int32_t> segments,
                         std::span<std::uint8_t> mask = {}) const {
    check(number >= 0 && number < validation_windows(),
          "dataset: validation window ",
          number,
          " does not lie in [0, ",
          validation_windows(),
          ")");
    copy_window(validation_[static_cast<std::size_t>(number)], tokens, segments, mask);
  }

 private:
  static constexpr std::uint64_t order_stream = 0x6f72646572;

  struct interval {
    index_t begin;
    index_t windows_before;  // training windows in the intervals before this one
  };

  // Spreads the held-out pieces over the text, so that both parts contain all kinds of text. No
  // window crosses a border.
  void split() {
    const index_t n = size(), window = options_.window;
    const auto held = (std::max)(
        window,
        static_cast<index_t>(std::llround(options_.validation_share * static_cast<double>(n))));
    if (options_.validation_share == 0) {
      add_training(0, n);
      return;
    }
    if (options_.validation_share == 1) {
      add_held_out(0, n);
      return;
    }
    const index_t pieces = std::clamp<index_t>(held / (4 * window), 1, 64);
    const index_t piece = held / pieces, stretch = n / pieces;
    for (index_t i = 0; i < pieces; ++i) {
      const index_t end = i + 1 == pieces ? n : (i + 1) * stretch;
      add_training(i * stretch, end - piece);
      add_held_out(end - piece, end);
    }
    check(training_total_ > 0,
          "dataset: no training window of ",
          window,
          " tokens is left of ",
          n,
          " tokens with a validation share of ",
          options_.validation_share);
  }

  void add_training(index_t begin, index_t end) {
    if (end - begin >= options_.window) {
      training_.push_back({begin, training_total_});
      training_total_ += end - begin - options_.window + 1;
    }
  }

  void add_held_out(index_t begin, index_t end) {
    const index_t stride = options_.stride > 0 ? options_.stride : options_.window - 1;
    for (index_t at = begin; at <= end - options_.window; at += (std::min)(stride, end - at)) {
      validation_.push_back(at);
    }
  }

  void copy_window(index_t at,
                   std::span<token_t> tokens,
                   std::span<std::int32_t> segments,
                   std::span<std::uint8_t> mask) const {
    const auto window = static_cast<std::size_t>(options_.window);
    check(tokens.size() == window && segments.size() == window,
          "dataset: expected room for ",
          window,
          " tokens and segments, got ",
          tokens.size(),
          " and ",
          segments.size());
    check(mask.empty() || mask.size() == window,
          "dataset: expected room for the masks of ",
          window,
          " tokens or none, got ",
          mask.size());
    auto document = std::upper_bound(starts_.begin(), starts_.end(), at) - starts_.begin() - 1;
    for (std::size_t i = 0; i < window; ++i) {
      const auto position = at + static_cast<index_t>(i);
      while (static_cast<std::size_t>(document) + 1 < starts_.size() &&
             starts_[static_cast<std::size_t>(document) + 1] <= position) {
        ++document;
      }
      tokens[i] = static_cast<token_t>(text_[static_cast<std::size_t>(position)]);
      segments[i] = static_cast<std::int32_t>(document);
      if (!mask.empty()) {
        mask[i] = mask_.empty() ? std::uint8_t{1} : mask_[static_cast<std::size_t>(position)];
      }
    }
  }

  std::vector<Element> text_;
  std::vector<std::int64_t> starts_;
  std::vector<std::uint8_t> mask_;
  dataset_options options_;
  std::vector<interval> training_;
  std::vector<index_t> validation_;
  index_t training_total_ = 0;
};

}  // namespace mtp::inline MTP_ABI
