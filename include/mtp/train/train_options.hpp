// What a run is asked for, and what a step of it reports.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "mtp/core/reduction_order.hpp"
#include "mtp/loss/model_loss.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/train/adamw.hpp"
#include "mtp/train/expert_balance.hpp"
#include "mtp/train/own_schedule.hpp"
#include "mtp/train/schedule.hpp"

namespace mtp::inline MTP_ABI {

/// A weight for each of the depths 0 .. D.
template <int Depth>
using depth_weights = std::array<double, static_cast<std::size_t>(Depth) + 1>;

/// Where moments and masters are, if several ranks train.
enum class optimizer_sharding {
  none,   ///< all of them on every rank
  zero1,  ///< on every rank those of a part of the parameters (ZeRO-1: Rajbhandari et al. 2020,
          ///< arXiv 1910.02054, section 5.1)
};

/// The options of a run. The trainer's constructor checks them and evaluates own schedules at step
/// 0.
template <model_config Config>
struct train_options {
  index_t batch = 16;        ///< sequences of a pass, B
  index_t length = 128;      ///< positions of a sequence, T
  index_t accumulation = 1;  ///< passes of a step, on all ranks together
  learning_rate_schedule learning_rate =
      learning_rate_schedule::of_width(Config.hidden_size);  ///< by step
  lambda_schedule lambda =
      lambda_schedule::of<Config.prediction.kind>();  ///< factor of the deeper losses
  adamw_options optimizer{};                          ///< options of AdamW
  double clip_norm = 1.0;                             ///< of all gradients together; 0: no clipping
  /// By how much a step moves the biases of routers towards an even load of experts
  /// (expert_balance); 0: not at all.
  double bias_update_speed = default_bias_update_speed;
  int max_bad_steps = 5;  ///< steps in a row with NaN or infinity that end training with an error
  /// Weights of the depths. A lambda, because g++ 12 stops with an internal error at another
  /// function call here if options are designated within a class template.
  loss_options<Config.prediction.depth> loss = [] { return default_loss_options<Config>(); }();
  /// Weights of the depths as a function of the step, if set. Gradients then use these; validation
  /// still uses loss.weights.
  own_schedule<depth_weights<Config.prediction.depth>> weights{};
  optimizer_sharding sharding = optimizer_sharding::none;  ///< of moments and masters among ranks
  reduction_order reduction = reduction_order::by_rank;    ///< of gradients of several ranks
  /// Gradients that a rank sends in a message, at most; 4 MiB of f32.
  index_t bucket_elements = index_t{1} << 20;
};

/// The state of a run besides parameters and moments.
struct trainer_state {
  std::int64_t step = 0;              ///< steps done, which is also the position in the data
  std::int64_t skipped = 0;           ///< of these, skipped because of NaN or infinity
  std::int64_t skipped_in_a_row = 0;  ///< of these, since the last good step
};

/// The result of a step.
template <int Depth>
struct step_report {
  std::int64_t step = 0;           ///< steps done, this one included
  loss_report<Depth> loss;         ///< over all passes of the step
  double gradient_norm = 0;        ///< before clipping
  double learning_rate = 0;        ///< of this step
  double lambda = 0;               ///< factor of the deeper losses, of this step
  depth_weights<Depth> weights{};  ///< of the depths, of this step, without lambda
  expert_loads experts{};          ///< of all passes of the step
  bool skipped = false;            ///< loss or gradients were not finite: nothing was changed
};

}  // namespace mtp::inline MTP_ABI
