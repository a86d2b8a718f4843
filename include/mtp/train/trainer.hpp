// Training, step by step.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/refusal.hpp"
#include "mtp/distributed/agreement.hpp"
#include "mtp/distributed/alone.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/distributed/host_collectives.hpp"
#include "mtp/distributed/shards.hpp"
#include "mtp/loss/model_loss.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/train/adamw.hpp"
#include "mtp/train/dataset.hpp"
#include "mtp/train/evaluate.hpp"
#include "mtp/train/expert_balance.hpp"
#include "mtp/train/run_description.hpp"
#include "mtp/train/step_gradients.hpp"
#include "mtp/train/step_parts.hpp"
#include "mtp/train/tensor_parallel.hpp"
#include "mtp/train/train_options.hpp"
#include "mtp/train/window_batch.hpp"

namespace mtp::inline MTP_ABI {

/// Trains a model on a dataset. A step adds the gradients of K = `accumulation` passes, each of a
/// batch of its own and computed from zero, clips the sum to clip_norm, and updates with AdamW:
///
///     g = ((0 + p_0) + p_1) + ... + p_(K-1)
///
/// A step is a function of parameters, moments and state only: it has the same bits when it is
/// repeated or resumed, with any number of threads. A steady step allocates nothing. With mixtures
/// of experts, it also balances their loads (expert_balance). With K > 1 there is a second array of
/// gradients.
///
/// A step whose loss or gradients are not finite changes no parameter and no moment; several in a
/// row throw mtp::error.
///
/// With a communicator of R <= K ranks, rank k mod R computes pass k. Models, data and options are
/// alike on all ranks, and all of them make the same calls. The sum above does not depend on R, so
/// parameters, losses and checkpoints have the bits of one process; docs/distributed.md says what
/// is sent. What an engine needs to send may be allocated in a step.
///
/// Of a model with a tensor_parallel_size, the ranks that the context has joined all make a trainer
/// and the same calls. Each trains its part; losses, norms and reports are those of the whole
/// model. The communicator's group are then the ranks that have the same part of copies of the
/// model.
template <model_config Config,
          class Backend,
          scalar S = float,
          class Element = std::uint8_t,
          communicator Communicator = alone>
class trainer {
  static_assert(validate<Config>());
  static_assert(std::is_integral_v<Element> &&
                    (sizeof(Element) < sizeof(token_t) || std::is_same_v<Element, token_t>),
                "trainer: the tokens of the dataset must be integers that fit into token_t");
  static constexpr bool is_alone = std::is_same_v<Communicator, alone>;

 public:
  using model_type = language_model<Config, Backend, S>;     ///< the model that is trained
  using dataset_type = dataset<Element>;                     ///< the dataset
  using options_type = train_options<Config>;                ///< the options of the run
  using report_type = step_report<Config.prediction.depth>;  ///< the result of a step
  using scalar_type = S;                                     ///< element type of the model
  using sum_type = accumulate_t<S>;                          ///< type of gradients and moments
  using communicator_type = Communicator;                    ///< what carries data between ranks
  static constexpr bool has_all_values = true;               ///< every rank has all parameters
  /// Tokens of a sample for sequences of `length` positions.
  static constexpr index_t window_of(index_t length) {
    return length + 1 + Config.prediction.depth;
  }

  /// Context, model and data must outlive the trainer. Throws mtp::error for invalid options, and
  /// unless the data's window is length + 1 + depth.
  trainer(context<Backend>& context,
          model_type& model,
          const dataset_type& data,
          const options_type& options) requires(is_alone)
      : trainer(context, model, data, options, detail::nobody_else) {}

  /// One of the ranks of `group`, which must outlive the trainer. All ranks make it at the same
  /// time. Throws mtp::error also if there are more ranks than passes, and if they do not agree
  /// about configuration, options, text, parameters, or version of the library. What one rank
  /// refuses or has no memory for, all throw, with its number (all_succeeded); GPUs do not.
  trainer(context<Backend>& context,
          model_type& model,
          const dataset_type& data,
          const options_type& options,
          Communicator& group)
      : trainer(context, model, data, options, group, start_type(group)) {}

  /// Refuses temporaries, which would not outlive the trainer; a dataset in braces is one too.
  template <class Context, class Model, class Data = dataset_type>
  requires(detail::temporary<Context, context<Backend>> || detail::temporary<Model, model_type> ||
           detail::temporary<Data, dataset_type>)
      trainer(Context&&, Model&&, Data&&, const options_type& options)
      : trainer(detail::refused<context<Backend>&>(),
                detail::refused<model_type&>(),
                detail::refused<const dataset_type&>(),
                options) {
    static_assert(detail::never<Context>,
                  "trainer: the context, the model and the dataset must outlive the trainer, so "
                  "they need names");
  }

  /// Refuses models that cannot be trained.
  template <detail::inference_only Model>
  trainer(context<Backend>& context, Model&&, const dataset_type& data, const options_type& options)
      : trainer(context, detail::refused<model_type&>(), data, options) {
    static_assert(detail::never<Model>, "trainer: a quantized_model is for inference alone");
  }

  /// Refuses other models and datasets.
  template <class Call = void>
  trainer(detail::any, detail::any, detail::any, const options_type& options)
      : trainer(detail::refused<context<Backend>&>(),
                detail::refused<model_type&>(),
                detail::refused<const dataset_type&>(),
                options) {
    static_assert(detail::never<Call>,
                  "trainer: expected a context, a language_model and a dataset of the trainer's "
                  "own configuration, backend, element type and token type");
  }

  /// The options of the run.
  const options_type& options() const { return options_; }
  /// The state of the run.
  const trainer_state& state() const { return state_; }
  /// Sets the state of a resumed run; parameters and moments are restored separately.
  void set_state(const trainer_state& state) { state_ = state; }
  /// The moments; with ZeRO-1 those of this rank's part.
  adamw<Config, Backend, S>& optimizer() { return optimizer_; }
  /// Whether ranks have different masters and moments.
  bool is_divided() const {
    return group_->size() > 1 && options_.sharding == optimizer_sharding::zero1;
  }
  /// What this rank has of masters and moments.
  std::array<parameter_range, 1> optimizer_parts() const {
    return {{{optimizer_.begin(), 0, optimizer_.end() - optimizer_.begin()}}};
  }
  /// What it brings to a checkpoint.
  std::array<parameter_range, 1> saved_parts() const { return optimizer_parts(); }
  /// What it has of the parameters: all of them.
  std::array<parameter_range, 1> value_parts() const {
    return {{{0, 0, model_type::layout.storage}}};
  }
  /// The loads of experts in the latest step.
  const expert_balance<Config, Backend, S>& balance() const { return balance_; }
  /// The model that is trained.
  model_type& model() { return *model_; }
  /// The dataset.
  const dataset_type& data() const { return *data_; }
  /// The ranks that train together.
  Communicator& group() const { return *group_; }
  /// The ranks that have the parts of a model with a tensor_parallel_size.
  tensor_group& ranks() const requires(Config.tensor_parallel_size > 1) {
    return detail::ranks_of("trainer", *context_, Config.tensor_parallel_size);
  }

  /// Tokens of a step, on all ranks together.
  index_t tokens_per_step() const {
    return options_.batch * options_.length * options_.accumulation;
  }

  /// Runs one step. Throws mtp::error when max_bad_steps steps in a row had NaN or infinity;
  /// parameters and moments are then those before the first of these steps, and state() has counted
  /// them all. Also throws as own_schedule::at does, with nothing changed. The report is that of
  /// the whole step on every rank, and all ranks skip a step together. If a rank throws, those that
  /// wait for it throw as well; then every rank has to go on from a checkpoint.
  report_type step();

  /// Losses over the first `windows` held-out windows, or all of them if there are fewer: per valid
  /// target, with the weights of options().loss and no schedule. Every rank computes all of them.
  /// If `keep_going` is given, it is called before each pass; when it returns false, the report
  /// covers the windows so far.
  [[nodiscard("trainer::validate: nothing but the report comes of it")]] loss_report<
      Config.prediction.depth>
  validate(index_t windows, const std::function<bool()>& keep_going = {}) {
    return evaluate(*data_, windows, keep_going);
  }

  /// Like validate, but over the held-out windows of any dataset with windows of the trainer's
  /// size; its tokens may have another type. See mtp::evaluate, which needs no trainer. Throws
  /// mtp::error for windows of another size and for tokens outside the vocabulary.
  template <class Other>
  [[nodiscard("trainer::evaluate: nothing but the report comes of it")]] loss_report<
      Config.prediction.depth>
  evaluate(const dataset<Other>& data,
           index_t windows,
           const std::function<bool()>& keep_going = {}) {
    check(data.window() == window_of(options_.length),
          "trainer::evaluate: expected a dataset with windows of ",
          window_of(options_.length),
          " tokens (length + 1 + depth), got ",
          data.window());
    return detail::evaluate_windows(*context_,
                                    std::as_const(*model_),
                                    loss_,
                                    windows_,
                                    data,
                                    options_.loss,
                                    options_.batch,
                                    windows,
                                    keep_going);
  }

 private:
  using start_type = detail::joint_start<Communicator>;
  trainer(context<Backend>& context,
          model_type& model,
          const dataset_type& data,
          const options_type& options,
          Communicator& group,
          start_type&& start);

  /// The first parameter that is trained: the head's first if the trunk is frozen.
  index_t trained_from() const {
    return options_.loss.scope == gradient_scope::heads_only ? model_type::layout.head_begin : 0;
  }

  static Communicator& checked(Communicator& group, const options_type& options) {
    check(group.size() <= options.accumulation,
          "trainer: expected at most as many ranks as a step has passes (accumulation ",
          options.accumulation,
          "), got ",
          group.size());
    check(host_communicator<Communicator> || group.size() == 1 ||
              options.reduction == reduction_order::engine,
          "trainer: ranks whose memory is a device's add gradients in the order of the engine; ask "
          "for reduction_order::engine");
    return group;
  }

  /// The most passes of a rank.
  std::size_t rounds() const {
    return static_cast<std::size_t>((options_.accumulation - 1) / group_->size() + 1);
  }
  /// Where pass k stands among the reports of all ranks, rank by rank.
  std::size_t place_of(index_t k) const {
    const index_t ranks = group_->size();
    return static_cast<std::size_t>(k % ranks) * rounds() + static_cast<std::size_t>(k / ranks);
  }

  void load_training_batch(index_t pass) {
    detail::load_pass(windows_, *data_, options_, state_.step, pass);
  }

  batch_view batch_of_pass() const { return windows_.view(options_.batch, options_.length); }

  /// Numbers of targets in all passes of the step, those of other ranks included.
  target_counts<Config.prediction.depth> targets_of_step() {
    target_counts<Config.prediction.depth> counts{};
    for (index_t pass = group_->rank(); pass < options_.accumulation; pass += group_->size()) {
      load_training_batch(pass);
      count_targets<Config.prediction.depth>(counts, batch_of_pass());
    }
    host_.all_reduce(*context_, *group_, std::span<index_t>(counts), reduction::sum);
    return counts;
  }

  /// Gradients and losses over all passes of the step, equal to those of one large batch, whoever
  /// computes them.
  loss_report<Config.prediction.depth> accumulate(const detail::loss_shares<Config>& shares) {
    target_counts<Config.prediction.depth> targets{};
    if (!shares.equal()) {
      targets = targets_of_step();
    }
    gradients_.run(*context_, [&](index_t pass, auto gradients, gradient_observer* observer) {
      load_training_batch(pass);
      reports_[place_of(pass)] = loss_.with_gradients(*context_,
                                                      *model_,
                                                      gradients,
                                                      batch_of_pass(),
                                                      shares.of_pass(),
                                                      shares.equal() ? nullptr : &targets,
                                                      observer);
    });
    const auto all = std::span<loss_report<Config.prediction.depth>>(reports_);
    const shards parts(static_cast<index_t>(all.size()), group_->size());
    host_.all_gather(*context_, *group_, all, parts);
    return shares.sum(
        options_.accumulation, [&](index_t pass) -> const auto& {
          return reports_[place_of(pass)];
        });
  }

  context<Backend>* context_;
  model_type* model_;
  const dataset_type* data_;
  options_type options_;
  Communicator* group_;
  model_loss<Config, Backend, S> loss_;
  detail::step_gradients<sum_type, Backend, Communicator> gradients_;
  adamw<Config, Backend, S> optimizer_;
  expert_balance<Config, Backend, S> balance_;
  detail::host_collectives<Backend, Communicator> host_;
  std::vector<loss_report<Config.prediction.depth>> reports_;  // of all passes, rank by rank
  trainer_state state_;
  detail::window_batch windows_;
};

/// @cond
template <model_config Config, class Backend, scalar S, class Element, communicator Communicator>
trainer<Config, Backend, S, Element, Communicator>::trainer(context<Backend>& context,
                                                            model_type& model,
                                                            const dataset_type& data,
                                                            const options_type& options,
                                                            Communicator& group,
                                                            start_type&& start) try
    : context_(&context),
      model_(&model),
      data_(&data),
      options_(detail::checked_options(options)),
      group_(&checked(group, options)),
      loss_(context, options.batch, options.length),
      gradients_(context,
                 group,
                 model_type::layout.storage,
                 trained_from(),
                 options,
                 detail::counted_ranges<model_type>(context)),
      optimizer_(context, model, options.optimizer, gradients_.part_begin(), gradients_.part_end()),
      balance_(model),
      reports_(rounds() * static_cast<std::size_t>(group.size())),
      windows_(options.batch, window_of(options.length)) {
  detail::check_dataset(data, window_of(options.length));
  windows_.make_room(data);
  start.succeeded();
  if constexpr (!is_alone && host_communicator<Communicator>) {
    if (group.size() > 1) {
      agree(group, detail::describe_start(*this));
    }
  }
  if constexpr (Config.tensor_parallel_size > 1) {
    agree(detail::ranks_of("trainer", context), detail::describe_part(*this));
  }
} catch (...) {
  start.failed();
  throw;
}
/// @endcond

template <model_config Config, class Backend, scalar S, class Element, communicator Communicator>
auto trainer<Config, Backend, S, Element, Communicator>::step() -> report_type {
  const detail::default_environment scope;
  report_type report = detail::begin_report(options_, state_.step);
  report.loss = accumulate(detail::loss_shares<Config>(options_, report));
  const auto complete = [&](std::span<sum_type> loads) {
    if (!gradients_.whole()) {
      host_.all_reduce(*context_, *group_, loads, reduction::sum);
    }
  };
  report.experts = balance_.take(*context_, gradients_.part(), gradients_.part_begin(), complete);
  report.gradient_norm = std::sqrt(detail::add_over_ranks<Config.tensor_parallel_size>(
      "trainer", *context_, gradients_.squares(*context_, host_)));
  if (!detail::count_step(report, state_, options_.max_bad_steps)) {
    return report;
  }
  const double scale = detail::clip_scale(options_.clip_norm, report.gradient_norm);
  optimizer_.update(
      *context_, *model_, gradients_.part(), report.learning_rate, scale, trained_from());
  balance_.update(*context_, *model_, optimizer_, options_.bias_update_speed);
  gradients_.gather(*context_, model_->values());
  return report;
}

}  // namespace mtp::inline MTP_ABI
