// Training of a model whose blocks are distributed among ranks.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/view.hpp"
#include "mtp/distributed/agreement.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/pipeline_schedule.hpp"
#include "mtp/loss/model_loss.hpp"
#include "mtp/model/stage_model.hpp"
#include "mtp/train/adamw.hpp"
#include "mtp/train/check_options.hpp"
#include "mtp/train/dataset.hpp"
#include "mtp/train/expert_balance.hpp"
#include "mtp/train/pipeline_plan.hpp"
#include "mtp/train/run_description.hpp"
#include "mtp/train/stage_blocks.hpp"
#include "mtp/train/stage_boxes.hpp"
#include "mtp/train/stage_gradients.hpp"
#include "mtp/train/stage_groups.hpp"
#include "mtp/train/stage_shard.hpp"
#include "mtp/train/stage_validation.hpp"
#include "mtp/train/step_parts.hpp"
#include "mtp/train/train_options.hpp"
#include "mtp/train/window_batch.hpp"

namespace mtp::inline MTP_ABI {

/// trainer for a model in stages: each of P ranks has blocks of its own, their gradients, moments
/// and activations, and no others. The K = `accumulation` passes of a step go through the stages in
/// the order of pipeline_schedule; streams [N, C] travel forward, their gradients backward, while
/// other passes are computed.
///
/// A step computes what trainer::step does, with the same bits: parameters, moments, losses, norms
/// and checkpoints do not depend on the number of stages, nor on the placement of the head. K may
/// be smaller than P.
///
/// With D copies of the pipeline there are R = P D ranks: rank r has stage r mod P of copy r / P.
/// Copy k mod D computes pass k, and ranks with the same stage add their gradients in the order of
/// passes, so D changes no bits either. docs/distributed.md says what all this costs.
///
/// Spans and memory are those of the host. The trainer itself allocates nothing in a step.
template <model_config Config,
          class Backend,
          scalar S,
          class Element,
          host_communicator Communicator>
class pipeline_trainer {
  static_assert(validate<Config>());
  static_assert(backend_traits<Backend>::is_host_memory,
                "pipeline_trainer: the backend's memory must be that of the host");

 public:
  using model_type = stage_model<Config, Backend, S>;            ///< what a rank has of the model
  using plan_type = pipeline_plan<Config, Backend, S>;           ///< costs, and who has what
  using dataset_type = dataset<Element>;                         ///< the dataset
  using options_type = train_options<Config>;                    ///< the options of the run
  using report_type = step_report<Config.prediction.depth>;      ///< the result of a step
  using scalar_type = S;                                         ///< element type of the model
  using sum_type = accumulate_t<S>;                              ///< type of gradients and moments
  using optimizer_type = adamw<Config, Backend, S, model_type>;  ///< moments of a rank
  static constexpr bool has_all_values = false;                  ///< a rank has its stage's
  /// Tokens of a sample for sequences of `length` positions.
  static constexpr index_t window_of(index_t length) {
    return length + 1 + Config.prediction.depth;
  }
  /// The stages of a run.
  static constexpr plan_type plan_of(int ranks,
                                     const options_type& options,
                                     head_placement placement,
                                     int copies = 1) {
    return plan_type(ranks,
                     {placement,
                      options.batch,
                      options.length,
                      options.accumulation,
                      options.reduction,
                      copies,
                      options.bucket_elements,
                      options.sharding});
  }

  /// One of the ranks of `group`. All of them make it at the same time; context, model, data and
  /// group must outlive it. The model has plan_of(group.size(), ..).stage(group.rank()).
  /// With optimizer_sharding::zero1 each copy has masters and moments of a shard of its stage.
  ///
  /// Throws mtp::error for invalid options, for data with other windows, for a model of another
  /// stage, for gradient_scope::heads_only, and if ranks do not agree about configuration, options,
  /// text, placement, copies, or version of the library. What one rank refuses, all throw.
  pipeline_trainer(context<Backend>& context,
                   model_type& model,
                   const dataset_type& data,
                   const options_type& options,
                   Communicator& group,
                   head_placement placement = head_placement::last_stage,
                   int copies = 1)
      : pipeline_trainer(
            context, model, data, options, group, placement, copies, start_type(group)) {}

  /// The options of the run.
  const options_type& options() const { return options_; }
  /// The stages.
  const plan_type& plan() const { return plan_; }
  /// The state of the run.
  const trainer_state& state() const { return state_; }
  /// Sets the state of a resumed run; parameters and moments are restored separately.
  void set_state(const trainer_state& state) { state_ = state; }
  /// The moments of the parameters that this rank owns.
  optimizer_type& optimizer() { return optimizer_; }
  /// Whether ranks have different parameters, masters and moments.
  bool is_divided() const { return groups_.all().size() > 1; }
  /// What this rank has of masters and moments: embedding and blocks, and the head's side.
  std::array<parameter_range, 2> optimizer_parts() const { return shard_.parts(); }
  /// What it brings to a checkpoint: all of these, of which the first copy has everything unless
  /// they are sharded.
  std::array<parameter_range, 2> saved_parts() const {
    return copy() == 0 || plan_.is_sharded() ? optimizer_parts() : std::array<parameter_range, 2>{};
  }
  /// What it has of the parameters: the same, and the copy of the embedding.
  std::array<parameter_range, 3> value_parts() const {
    const auto& at = model_->layout;
    return {at.copy, at.own_blocks, at.own_head};
  }
  /// What this rank has of the model.
  model_type& model() { return *model_; }
  /// The dataset.
  const dataset_type& data() const { return *data_; }
  /// The ranks.
  Communicator& group() const { return groups_.all(); }

  /// Tokens of a step.
  index_t tokens_per_step() const {
    return options_.batch * options_.length * options_.accumulation;
  }
  /// The memory that this rank holds, in the parts of pipeline_plan::cost.
  stage_cost memory() const {
    stage_cost held;
    const auto sum = static_cast<index_t>(sizeof(sum_type));
    held.parameters = model_->values().count() * static_cast<index_t>(sizeof(S));
    held.gradients = gradients_.bytes();
    held.optimizer =
        (optimizer_.end() - optimizer_.begin()) * sum * (optimizer_type::has_master ? 3 : 2);
    held.activations = blocks_.bytes() + (loss_.empty() ? 0 : loss_.front().bytes());
    held.messages = links_.bytes() + gradients_.room();
    return held;
  }

  /// Runs one step; all ranks call it, get the same report, and skip a step together. Throws as
  /// trainer::step does.
  report_type step();

  /// Losses over the first `windows` held-out windows, or all of them if there are fewer, with the
  /// bits of trainer::validate; all ranks call it, and get the same report. Every copy computes all
  /// of them.
  [[nodiscard("pipeline_trainer::validate: nothing but the report comes of it")]] loss_report<
      Config.prediction.depth>
  validate(index_t windows) {
    auto report = detail::validate_stages(*context_,
                                          *model_,
                                          *data_,
                                          options_,
                                          windows,
                                          schedule(),
                                          stages().rank(),
                                          blocks_,
                                          loss_,
                                          links_,
                                          windows_);
    results_.broadcast(report, schedule().head_rank());
    return report;
  }

  /// Sends the embedding to the rank with a copy of it, after it was changed in the model of the
  /// first rank.
  void copy_embedding() { detail::copy_embedding(stages(), schedule(), *model_); }

 private:
  using start_type = detail::joint_start<Communicator>;
  pipeline_trainer(context<Backend>& context,
                   model_type& model,
                   const dataset_type& data,
                   const options_type& options,
                   Communicator& group,
                   head_placement placement,
                   int copies,
                   start_type&& start);

  using blocks_type = detail::stage_blocks<Config, Backend, S>;
  using loss_type = model_loss<Config, Backend, S, model_type>;
  using loss_options_type = loss_options<Config.prediction.depth>;
  using counts_type = target_counts<Config.prediction.depth>;
  static constexpr index_t C = Config.hidden_size;

  const pipeline_schedule& schedule() const { return plan_.schedule(); }
  Communicator& stages() const { return groups_.stages(); }
  int copy() const { return groups_.copy(); }
  bool has_head() const { return stages().rank() == schedule().head_rank(); }
  index_t rows() const { return options_.batch * options_.length; }

  index_t pass_of(index_t round) const { return plan_.copies().pass(copy(), round); }

  batch_view load(index_t pass) {
    detail::load_pass(windows_, *data_, options_, state_.step, pass);
    return windows_.view(options_.batch, options_.length);
  }

  void run_forward(index_t k, const loss_options_type& options) {
    if (model_->stage.embeds) {
      blocks_.load(*context_, k, load(pass_of(k)));
    } else {
      links_.streams_in.take(*context_, blocks_.input(k));
    }
    links_.streams_out.send(*context_, blocks_.forward(*context_, *model_, k, options));
  }

  void run_head(index_t k, const loss_options_type& options, const counts_type* targets) {
    loss_type& loss = loss_.front();
    const batch_view batch = load(pass_of(k));
    if (schedule().stations() > 1) {
      links_.head_in.take(*context_, loss.input(rows()));
    }
    gradients_.begin_head(*context_);
    results_.add(
        k, loss.with_gradients(*context_, *model_, gradients_.of_pass(), batch, options, targets));
    gradients_.end_head(*context_, k);
    links_.head_out.send(*context_, loss.input_gradient(rows()));
  }

  void run_backward(index_t k, const loss_options_type& options) {
    links_.gradients_in.take(*context_, blocks_.gradient());
    gradients_.begin_backward(*context_, k);
    results_.add_balance(blocks_.backward(*context_, *model_, gradients_.of_pass(), k, options));
    gradients_.end_backward(*context_, k);
    links_.gradients_out.send(*context_, blocks_.gradient());
  }

  void run_without(pipeline_work work, index_t k) {
    if (work == pipeline_work::forward) return;
    gradients_.without(
        *context_,
        work == pipeline_work::head ? detail::stage_part::head : detail::stage_part::blocks,
        k);
  }

  void run_passes(const loss_options_type& options, const counts_type* targets) {
    links_.expect(plan_.copies().passes_of(copy()));
    gradients_.begin(*context_);
    schedule().for_each(stages().rank(), [&](pipeline_work work, index_t k) {
      if (!plan_.copies().computes(copy(), k)) return run_without(work, k);
      switch (work) {
        case pipeline_work::forward:
          return run_forward(k, options);
        case pipeline_work::head:
          return run_head(k, options, targets);
        case pipeline_work::backward:
          return run_backward(k, options);
      }
    });
    links_.finish();
    gradients_.finish();
  }

  /// Numbers of targets in all passes of the step.
  counts_type targets_of_step() {
    counts_type counts{};
    for (index_t pass = 0; pass < options_.accumulation; ++pass) {
      count_targets<Config.prediction.depth>(counts, load(pass));
    }
    return counts;
  }

  detail::stage_groups<Communicator> groups_;  // before anything that one rank may refuse
  context<Backend>* context_;
  model_type* model_;
  const dataset_type* data_;
  options_type options_;
  plan_type plan_;
  blocks_type blocks_;
  std::vector<loss_type> loss_;  // one, where the head is
  detail::stage_gradients<sum_type, Backend, Communicator, typename model_type::layout_type>
      gradients_;
  detail::stage_shard<Communicator, typename model_type::layout_type> shard_;
  optimizer_type optimizer_;
  expert_balance<Config, Backend, S, model_type> balance_;
  detail::stage_results<Config.prediction.depth, Communicator> results_;
  trainer_state state_;
  detail::window_batch windows_;
  detail::stage_links<S, Backend, Communicator> links_;
};

/// @cond
template <model_config Config, class Backend, scalar S, class Element, host_communicator Group>
pipeline_trainer<Config, Backend, S, Element, Group>::pipeline_trainer(context<Backend>& context,
                                                                       model_type& model,
                                                                       const dataset_type& data,
                                                                       const options_type& options,
                                                                       Group& group,
                                                                       head_placement placement,
                                                                       int copies,
                                                                       start_type&& start) try
    : groups_(group, copies),
      context_(&context),
      model_(&model),
      data_(&data),
      options_(detail::checked_options(options)),
      plan_(plan_of(group.size(), options, placement, copies)),
      blocks_(context,
              model.stage,
              options.batch,
              options.length,
              schedule().in_flight(stages().rank())),
      gradients_(context,
                 stages(),
                 groups_.copies(),
                 model.layout,
                 schedule(),
                 plan_.copies(),
                 options.reduction,
                 options.bucket_elements),
      shard_(model.layout, groups_.copies(), plan_.is_sharded()),
      optimizer_(context, model, options.optimizer, shard_.begin(), shard_.end()),
      balance_(model),
      results_(groups_, plan_.copies(), has_head()),
      windows_(options.batch, window_of(options.length)),
      links_(stages(), schedule(), model.stage, rows(), C) {
  check(options.loss.scope != gradient_scope::heads_only,
        "pipeline_trainer: heads are trained without their trunk by trainer or heads_loss; the "
        "trunk's stages would have nothing to do");
  detail::check_stage(model.stage, plan_.stage(group.rank()), group.rank());
  detail::check_dataset(data, window_of(options.length));
  windows_.make_room(data);
  if (has_head()) {
    loss_.emplace_back(
        context, options.batch, options.length, plan_type::head_part(schedule(), model.stage));
  }
  start.succeeded();
  if (group.size() > 1) {
    auto entries = detail::describe_program(*this);
    entries.emplace("pipeline.placement", detail::to_text(static_cast<int>(placement)));
    entries.emplace("options.reduction", detail::to_text(static_cast<int>(options.reduction)));
    entries.emplace("options.sharding", detail::to_text(static_cast<int>(options.sharding)));
    agree(group, entries);
  }
} catch (...) {
  start.failed();
  throw;
}
/// @endcond

template <model_config Config, class Backend, scalar S, class Element, host_communicator Group>
auto pipeline_trainer<Config, Backend, S, Element, Group>::step() -> report_type {
  const detail::default_environment scope;
  report_type report = detail::begin_report(options_, state_.step);
  const detail::loss_shares<Config> shares(options_, report);
  counts_type targets{};
  if (has_head() && !shares.equal()) {
    targets = targets_of_step();
  }
  run_passes(shares.of_pass(), shares.equal() ? nullptr : &targets);
  report.experts = results_.loads_of_all(
      balance_.take(*context_, gradients_.owned(), shard_.owned(), [](std::span<sum_type>) {}));
  report.gradient_norm = gradients_.norm(*context_);
  if (has_head()) {
    results_.gather_reports();
    report.loss = shares.sum(
        options_.accumulation, [&](index_t pass) -> const auto& { return results_.of_pass(pass); });
  }
  results_.broadcast(report.loss, schedule().head_rank());
  report.loss.balance = results_.balance_of_all();
  results_.broadcast(report.gradient_norm, schedule().head_rank());
  if (!detail::count_step(report, state_, options_.max_bad_steps)) {
    return report;
  }
  const double scale = detail::clip_scale(options_.clip_norm, report.gradient_norm);
  optimizer_.update(*context_,
                    *model_,
                    shard_.of(gradients_.owned()),
                    report.learning_rate,
                    scale,
                    optimizer_.begin());
  balance_.update(*context_, *model_, optimizer_, options_.bias_update_speed);
  shard_.gather(model_->values());
  copy_embedding();
  return report;
}

}  // namespace mtp::inline MTP_ABI
