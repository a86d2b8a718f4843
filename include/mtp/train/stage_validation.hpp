// Held-out text through the stages of a pipeline, forward alone.
#pragma once

#include <algorithm>
#include <vector>

#include "mtp/core/default_environment.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/distributed/pipeline_schedule.hpp"
#include "mtp/loss/loss_options.hpp"
#include "mtp/loss/model_loss.hpp"
#include "mtp/model/stage_model.hpp"
#include "mtp/train/dataset.hpp"
#include "mtp/train/evaluate.hpp"
#include "mtp/train/stage_blocks.hpp"
#include "mtp/train/stage_boxes.hpp"
#include "mtp/train/train_options.hpp"
#include "mtp/train/window_batch.hpp"

namespace mtp::inline MTP_ABI::detail {

/// evaluate_windows, in which each rank of a copy runs what it has. Returns the report on the rank
/// with the head, elsewhere an empty one.
///
/// Blocks run passes of all B windows, also where fewer are left: streams have one size, and a row
/// does not depend on others. With the head on the first rank, its passes come as many behind those
/// of blocks as a stream takes stations.
template <model_config Config, class Backend, scalar S, class Element, class Communicator>
loss_report<Config.prediction.depth> validate_stages(
    context<Backend>& context,
    const stage_model<Config, Backend, S>& model,
    const dataset<Element>& data,
    const train_options<Config>& run,
    index_t windows,
    const pipeline_schedule& schedule,
    int rank,
    stage_blocks<Config, Backend, S>& blocks,
    std::vector<model_loss<Config, Backend, S, stage_model<Config, Backend, S>>>& loss,
    stage_links<S, Backend, Communicator>& links,
    window_batch& room) {
  const default_environment scope;
  auto options = run.loss;
  options.normalization = loss_normalization::valid_targets;
  const index_t B = run.batch, T = run.length;
  const index_t count = (std::min)(windows, data.validation_windows());
  const index_t passes = (count + B - 1) / B;
  const bool has_blocks = schedule.has_blocks(rank);
  links.expect_streams(passes);

  index_t next = 0;  // forward pass of blocks
  const auto forward = [&](index_t end) {
    for (; has_blocks && next < (std::min)(end, passes); ++next) {
      if (model.stage.embeds) {
        load_held_out(room, data, next * B, (std::min)(B, count - next * B));
        blocks.load(context, next, room.view(B, T));
      } else {
        links.streams_in.take(context, blocks.input(next));
      }
      links.streams_out.send(context, blocks.forward(context, model, next, options));
    }
  };
  loss_report<Config.prediction.depth> report;
  if (!loss.empty()) {
    report =
        evaluate_passes<Config>(data, options, B, windows, {}, [&](index_t first, index_t rows) {
          forward(first / B + schedule.stations());
          load_held_out(room, data, first, rows);
          if (schedule.stations() > 1) {
            links.head_in.take(context, loss.front().input(rows * T));
          }
          return loss.front().without_gradients(context, model, room.view(rows, T), options);
        });
  }
  forward(passes);
  links.finish();
  return report;
}

}  // namespace mtp::inline MTP_ABI::detail
