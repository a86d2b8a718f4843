// A batch of windows of a dataset, in the form that a loss takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "mtp/core/scalar.hpp"
#include "mtp/loss/batch.hpp"
#include "mtp/train/dataset.hpp"

namespace mtp::inline MTP_ABI::detail {

/// Storage for B windows of T + 1 + D tokens on the host.
class window_batch {
 public:
  window_batch(index_t batch, index_t window)
      : window_(static_cast<std::size_t>(window)),
        tokens_(static_cast<std::size_t>(batch) * window_),
        segments_(tokens_.size()) {}

  /// Makes room for the mask of a dataset, if it has one. Call it before windows are loaded.
  template <class Element>
  void make_room(const dataset<Element>& data) {
    if (!data.mask().empty()) {
      mask_.resize(tokens_.size());
    }
    masked_ = !data.mask().empty();
  }

  /// Loads sample `number` of a run into row b, from the dataset that was passed to make_room.
  template <class Element>
  void load_training(index_t b, const dataset<Element>& data, std::uint64_t number) {
    data.training_sample(number, row(tokens_, b), row(segments_, b), mask_row(b));
  }
  /// Loads a held-out window into row b.
  template <class Element>
  void load_held_out(index_t b, const dataset<Element>& data, index_t number) {
    data.validation_sample(number, row(tokens_, b), row(segments_, b), mask_row(b));
  }

  /// The first `rows` windows, with `length` positions each.
  batch_view view(index_t rows, index_t length) const {
    const auto count = static_cast<std::size_t>(rows) * window_;
    return {std::span(tokens_).first(count),
            std::span(segments_).first(count),
            std::span(mask_).first(masked_ ? count : 0),
            rows,
            length};
  }

 private:
  template <class T>
  std::span<T> row(std::vector<T>& all, index_t b) const {
    return std::span(all).subspan(static_cast<std::size_t>(b) * window_, window_);
  }
  std::span<std::uint8_t> mask_row(index_t b) {
    return masked_ ? row(mask_, b) : std::span<std::uint8_t>();
  }

  std::size_t window_;
  std::vector<token_t> tokens_;         // [B, T + 1 + D]
  std::vector<std::int32_t> segments_;  // [B, T + 1 + D]
  std::vector<std::uint8_t> mask_;      // [B, T + 1 + D], empty until a dataset has one
  bool masked_ = false;
};

}  // namespace mtp::inline MTP_ABI::detail
