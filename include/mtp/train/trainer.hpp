// Training, step by step.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <type_traits>
#include <utility>

#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/refusal.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/loss/model_loss.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/optimizer.hpp"
#include "mtp/train/adamw.hpp"
#include "mtp/train/dataset.hpp"
#include "mtp/train/evaluate.hpp"
#include "mtp/train/expert_balance.hpp"
#include "mtp/train/train_options.hpp"
#include "mtp/train/window_batch.hpp"

namespace mtp::inline MTP_ABI {

/// Trains a model on a dataset. A step accumulates the gradients of `accumulation` batches, clips
/// them to clip_norm together, and updates with AdamW. A step is a function of parameters, moments
/// and state only: it has the same bits when it is repeated or resumed, with any number of threads.
/// A steady step allocates nothing. With mixtures of experts, it also balances their loads
/// (expert_balance).
///
/// A step whose loss or gradients are not finite changes no parameter and no moment; several in a
/// row throw mtp::error.
template <model_config Config, class Backend, scalar S = float, class Element = std::uint8_t>
class trainer {
  static_assert(validate<Config>());
  static_assert(std::is_integral_v<Element> &&
                    (sizeof(Element) < sizeof(token_t) || std::is_same_v<Element, token_t>),
                "trainer: the tokens of the dataset must be integers that fit into token_t");

 public:
  using model_type = language_model<Config, Backend, S>;     ///< the model that is trained
  using dataset_type = dataset<Element>;                     ///< the dataset
  using options_type = train_options<Config>;                ///< the options of the run
  using report_type = step_report<Config.prediction.depth>;  ///< the result of a step
  using scalar_type = S;                                     ///< element type of the model
  using sum_type = accumulate_t<S>;                          ///< type of gradients and moments
  /// Tokens of a sample for sequences of `length` positions.
  static constexpr index_t window_of(index_t length) {
    return length + 1 + Config.prediction.depth;
  }

  /// Context, model and data must outlive the trainer. Throws mtp::error for invalid options, and
  /// unless the data's window is length + 1 + depth.
  trainer(context<Backend>& context,
          model_type& model,
          const dataset_type& data,
          const options_type& options);

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
  /// The moments.
  adamw<Config, Backend, S>& optimizer() { return optimizer_; }
  /// The loads of experts in the latest step.
  const expert_balance<Config, Backend, S>& balance() const { return balance_; }
  /// The model that is trained.
  model_type& model() { return *model_; }
  /// The dataset.
  const dataset_type& data() const { return *data_; }

  /// Tokens of a step.
  index_t tokens_per_step() const {
    return options_.batch * options_.length * options_.accumulation;
  }

  /// Runs one step. Throws mtp::error when max_bad_steps steps in a row had NaN or infinity;
  /// parameters and moments are then those before the first of these steps, and state() has counted
  /// them all. Also throws as own_schedule::at does, with nothing changed.
  report_type step();

  /// Losses over the first `windows` held-out windows, or all of them if there are fewer: per valid
  /// target, with the weights of options().loss and no schedule. If `keep_going` is given, it is
  /// called before each pass; when it returns false, the report covers the windows so far.
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
  static const options_type& checked(const options_type& options) {
    const detail::default_environment scope;
    check(options.batch > 0, "trainer: expected a positive batch, got ", options.batch);
    check(options.length > 0, "trainer: expected a positive length, got ", options.length);
    check(options.accumulation > 0,
          "trainer: expected a positive accumulation, got ",
          options.accumulation);
    constexpr index_t most = index_t{1} << 48;  // counts of tokens are multiplied further
    check(options.length <= most / options.batch / options.accumulation,
          "trainer: a step of batch ",
          options.batch,
          ", length ",
          options.length,
          " and accumulation ",
          options.accumulation,
          " has too many tokens");
    options.learning_rate.validate("trainer");
    options.lambda.validate("trainer");
    options.loss.validate("trainer");
    check(Config.prediction.kind.parameters != head_parameters::none ||
              options.loss.scope != gradient_scope::heads_only,
          "trainer: gradient_scope::heads_only trains nothing with the head kind ",
          name_of(Config.prediction.kind),
          ", which has no parameters");
    check(options.clip_norm >= 0,
          "trainer: expected a clip_norm of at least 0, got ",
          options.clip_norm);
    check(options.bias_update_speed >= 0 && std::isfinite(options.bias_update_speed),
          "trainer: expected a finite bias_update_speed of at least 0, got ",
          options.bias_update_speed);
    check(options.max_bad_steps > 0,
          "trainer: expected a positive max_bad_steps, got ",
          options.max_bad_steps);
    static_cast<void>(numbers_of(options, 0));
    return options;
  }

  /// The numbers of a step.
  struct step_numbers {
    double learning_rate, lambda;
    depth_weights<Config.prediction.depth> weights;
  };
  static step_numbers numbers_of(const options_type& options, index_t step) {
    return {options.learning_rate.at(step),
            options.lambda.at(step, options.learning_rate.total_steps),
            options.weights ? options.weights.at(step) : options.loss.weights};
  }

  /// The first parameter that is trained: the head's first if the trunk is frozen.
  index_t trained_from() const {
    return options_.loss.scope == gradient_scope::heads_only ? model_type::layout.head_begin : 0;
  }

  parameter_array<sum_type, Backend> gradients() { return {gradients_.data(), gradients_.count()}; }

  double norm_of_gradients(index_t begin) {
    const vector_view<sum_type, Backend> trained(gradients_.data() + begin,
                                                 dims<1>{gradients_.count() - begin});
    sum_of_squares(*context_, vector_view<double, Backend>(squares_.data(), dims<1>{1}), trained);
    double squares = 0;
    backend_traits<Backend>::download(*context_, &squares, squares_.data(), sizeof(squares));
    return std::sqrt(squares);
  }

  void load_training_batch(index_t pass) {
    windows_.make_room(*data_);  // an evaluation may have changed it
    const auto unsigned_of = [](index_t value) { return static_cast<std::uint64_t>(value); };
    const std::uint64_t passes =
        unsigned_of(state_.step) * unsigned_of(options_.accumulation) + unsigned_of(pass);
    for (index_t b = 0; b < options_.batch; ++b) {
      const std::uint64_t number = passes * unsigned_of(options_.batch) + unsigned_of(b);
      windows_.load_training(b, *data_, number);
    }
  }

  batch_view batch_of_pass() const { return windows_.view(options_.batch, options_.length); }

  /// Numbers of targets in all passes of the step.
  target_counts<Config.prediction.depth> targets_of_step() {
    target_counts<Config.prediction.depth> counts{};
    for (index_t pass = 0; pass < options_.accumulation; ++pass) {
      load_training_batch(pass);
      count_targets<Config.prediction.depth>(counts, batch_of_pass());
    }
    return counts;
  }

  /// Gradients and losses over all passes of the step, equal to those of one large batch. If losses
  /// are divided by positions, the passes have equal shares; if by targets, shares by their
  /// targets.
  loss_report<Config.prediction.depth> accumulate(loss_options<Config.prediction.depth> loss) {
    const bool equal_shares = loss.normalization == loss_normalization::positions;
    const double shares = equal_shares ? static_cast<double>(options_.accumulation) : 1.0;
    for (auto& weight : loss.weights) {
      weight /= shares;
    }
    loss.aux_loss_alpha /= static_cast<double>(options_.accumulation);
    target_counts<Config.prediction.depth> targets{};
    if (!equal_shares) {
      targets = targets_of_step();
    }
    loss_report<Config.prediction.depth> sum;
    for (index_t pass = 0; pass < options_.accumulation; ++pass) {
      load_training_batch(pass);
      const auto report = loss_.with_gradients(*context_,
                                               *model_,
                                               gradients(),
                                               batch_of_pass(),
                                               loss,
                                               equal_shares ? nullptr : &targets);
      sum.total += report.total;
      for (std::size_t k = 0; k < sum.depths.size(); ++k) {
        sum.depths[k].loss += report.depths[k].loss / shares;
        sum.depths[k].targets += report.depths[k].targets;
        sum.depths[k].agreed += report.depths[k].agreed;
      }
    }
    for (auto& depth : sum.depths) {
      depth.count_agreement();
    }
    return sum;
  }

  context<Backend>* context_;
  model_type* model_;
  const dataset_type* data_;
  options_type options_;
  model_loss<Config, Backend, S> loss_;
  adamw<Config, Backend, S> optimizer_;
  expert_balance<Config, Backend, S> balance_;
  buffer<sum_type, Backend> gradients_;
  buffer<double, Backend> squares_;  // [1]
  trainer_state state_;
  detail::window_batch windows_;
};

template <model_config Config, class Backend, scalar S, class Element>
trainer<Config, Backend, S, Element>::trainer(context<Backend>& context,
                                              model_type& model,
                                              const dataset_type& data,
                                              const options_type& options)
    : context_(&context),
      model_(&model),
      data_(&data),
      options_(checked(options)),
      loss_(context, options.batch, options.length),
      optimizer_(context, model, options.optimizer),
      gradients_(model_type::layout.storage),
      squares_(1),
      windows_(options.batch, window_of(options.length)) {
  check(data.window() == window_of(options.length),
        "trainer: expected a dataset with windows of ",
        window_of(options.length),
        " tokens (length + 1 + depth), got ",
        data.window());
  check(data.training_windows() > 0,
        "trainer: all of the dataset's text is held out (validation_share 1): there is nothing to "
        "train on; trainer::evaluate takes such a dataset");
  windows_.make_room(data);
  context.reserve(ops_of<Backend>::sum_of_squares_workspace(model_type::layout.storage));
}

template <model_config Config, class Backend, scalar S, class Element>
auto trainer<Config, Backend, S, Element>::step() -> report_type {
  const detail::default_environment scope;
  report_type report;
  const step_numbers numbers = numbers_of(options_, state_.step);
  report.learning_rate = numbers.learning_rate;
  report.lambda = numbers.lambda;
  report.weights = numbers.weights;
  fill(*context_,
       vector_view<sum_type, Backend>(gradients_.data(), dims<1>{gradients_.count()}),
       sum_type{0});
  auto loss = options_.loss;
  loss.lambda = report.lambda * options_.loss.lambda;
  loss.weights = report.weights;
  report.loss = accumulate(loss);
  report.experts = balance_.take(*context_, gradients());
  const index_t begin = trained_from();
  report.gradient_norm = norm_of_gradients(begin);
  report.skipped = !std::isfinite(report.gradient_norm) || !std::isfinite(report.loss.total);
  ++state_.step;
  report.step = state_.step;
  if (report.skipped) {
    ++state_.skipped;
    ++state_.skipped_in_a_row;
    check(state_.skipped_in_a_row < options_.max_bad_steps,
          "trainer: ",
          state_.skipped_in_a_row,
          " steps in a row had NaN or infinity (loss ",
          report.loss.total,
          ", gradient norm ",
          report.gradient_norm,
          ") at step ",
          state_.step,
          "; parameters are those before them");
    return report;
  }
  state_.skipped_in_a_row = 0;
  const double clip = options_.clip_norm;
  const double scale = clip > 0 && report.gradient_norm > clip ? clip / report.gradient_norm : 1.0;
  optimizer_.update(*context_, *model_, gradients(), report.learning_rate, scale, begin);
  balance_.update(*context_, *model_, optimizer_, options_.bias_update_speed);
  return report;
}

}  // namespace mtp::inline MTP_ABI
