// The losses of a model over any dataset.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>

#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/loss/loss_options.hpp"
#include "mtp/loss/model_loss.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/train/dataset.hpp"
#include "mtp/train/window_batch.hpp"

namespace mtp::inline MTP_ABI {

/// The options of evaluate.
template <int Depth>
struct evaluation_options {
  index_t windows = (std::numeric_limits<index_t>::max)();  ///< at most
  index_t batch = 16;                                       ///< windows of a pass
  std::function<bool()> keep_going = {};  ///< called before each pass; false ends it
};

namespace detail {

/// The losses of passes over the first `windows` held-out windows, `batch` at a time, as one; see
/// evaluate. pass(first, rows) gives those of a pass over windows [first, first + rows).
template <model_config Config, class Element, class Pass>
loss_report<Config.prediction.depth> evaluate_passes(
    const dataset<Element>& data,
    const loss_options<Config.prediction.depth>& options,
    index_t batch,
    index_t windows,
    const std::function<bool()>& keep_going,
    const Pass& pass) {
  loss_report<Config.prediction.depth> total;
  const index_t count = (std::min)(windows, data.validation_windows());
  for (index_t first = 0; first < count; first += batch) {
    if (keep_going && !keep_going()) break;
    const auto report = pass(first, (std::min)(batch, count - first));
    for (std::size_t k = 0; k < report.depths.size(); ++k) {
      const auto targets = static_cast<double>(report.depths[k].targets);
      total.depths[k].loss += report.depths[k].loss * targets;
      total.depths[k].agreement += report.depths[k].agreement * targets;
      total.depths[k].targets += report.depths[k].targets;
      total.depths[k].agreed += report.depths[k].agreed;
    }
  }
  for (std::size_t k = 0; k < total.depths.size(); ++k) {
    const auto targets = static_cast<double>((std::max<index_t>)(total.depths[k].targets, 1));
    total.depths[k].loss /= targets;
    total.depths[k].agreement /= targets;
    total.total += options.weight(k) * total.depths[k].loss;
  }
  return total;
}

/// Loads held-out windows [first, first + rows).
template <class Element>
void load_held_out(window_batch& room, const dataset<Element>& data, index_t first, index_t rows) {
  room.make_room(data);
  for (index_t b = 0; b < rows; ++b) {
    room.load_held_out(b, data, first + b);
  }
}

/// evaluate_passes with a whole model.
template <model_config Config, class Backend, scalar S, class Element>
loss_report<Config.prediction.depth> evaluate_windows(
    context<Backend>& context,
    const language_model<Config, Backend, S>& model,
    model_loss<Config, Backend, S>& loss,
    window_batch& room,
    const dataset<Element>& data,
    loss_options<Config.prediction.depth> options,
    index_t batch,
    index_t windows,
    const std::function<bool()>& keep_going) {
  const default_environment scope;
  options.normalization = loss_normalization::valid_targets;
  const index_t length = data.window() - 1 - Config.prediction.depth;
  return evaluate_passes<Config>(
      data, options, batch, windows, keep_going, [&](index_t first, index_t rows) {
        load_held_out(room, data, first, rows);
        return loss.without_gradients(context, model, room.view(rows, length), options);
      });
}

}  // namespace detail

/// Losses and agreement of a model over the held-out windows of a dataset: for each depth, in nats
/// per valid target over all windows.
///
///     L_k = sum over windows and positions i of -log p_k[i, t[i + 1 + k]] / targets of depth k
///
/// total = sum over k of w_k L_k, with the weights of default_loss_options. The windows have T =
/// data.window() - 1 - D positions. For a text that serves only for evaluation, construct its
/// dataset with `.validation_share = 1` and `.stride = T`: then each token except the first is a
/// target of depth 0 once, up to the last whole window.
///
/// Throws mtp::error if T is not positive or exceeds max_position_embeddings, for a token outside
/// the vocabulary, and unless options.windows and options.batch are positive.
template <model_config Config, class Backend, scalar S, class Element>
[[nodiscard("evaluate: nothing but the report comes of it")]] loss_report<Config.prediction.depth>
evaluate(context<Backend>& context,
         const language_model<Config, Backend, S>& model,
         const dataset<Element>& data,
         const evaluation_options<Config.prediction.depth>& options = {}) {
  check(options.windows > 0 && options.batch > 0,
        "evaluate: expected positive windows and batch, got ",
        options.windows,
        " and ",
        options.batch);
  const index_t length = data.window() - 1 - Config.prediction.depth;
  check(length > 0,
        "evaluate: expected a dataset with windows of at least ",
        Config.prediction.depth + 2,
        " tokens (length + 1 + depth), got ",
        data.window());
  const index_t batch = std::clamp<index_t>(data.validation_windows(), 1, options.batch);
  model_loss<Config, Backend, S> loss(context, batch, length);
  detail::window_batch room(batch, data.window());
  return detail::evaluate_windows(context,
                                  model,
                                  loss,
                                  room,
                                  data,
                                  default_loss_options<Config>(),
                                  batch,
                                  options.windows,
                                  options.keep_going);
}

}  // namespace mtp::inline MTP_ABI
