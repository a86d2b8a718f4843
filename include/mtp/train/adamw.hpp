// AdamW over all parameters of a model.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/refusal.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/optimizer.hpp"

namespace mtp::inline MTP_ABI {

/// The options of an update, without the learning rate.
struct adamw_options {
  double beta1 = 0.9;         ///< decay of the first moments
  double beta2 = 0.95;        ///< decay of the second moments
  double epsilon = 1e-8;      ///< added to the root of the second moment
  double weight_decay = 0.1;  ///< decoupled; not on norms and biases
};

/// AdamW: the moments of all parameters and the number of updates (Loshchilov and Hutter 2019,
/// arXiv 1711.05101, algorithm 2). For a model with bf16 elements it also holds the parameters in
/// f32, because a step is often smaller than the distance between two bf16 numbers.
///
/// An optimizer may have a part of this, elements [begin, end) of the model's layout. It then
/// updates that part alone, and together with the optimizers of the other parts it gives the bits
/// of one that has all (ZeRO-1: Rajbhandari et al. 2020, arXiv 1910.02054, section 5.1).
template <model_config Config,
          class Backend,
          scalar S = float,
          class Model = language_model<Config, Backend, S>>
class adamw {
 public:
  /// The model that is trained, or what a stage of a pipeline has of it.
  using model_type = Model;
  /// The type of moments, gradients and masters.
  using sum_type = accumulate_t<S>;
  /// One number per parameter of the optimizer's part, in the model's layout.
  using sum_array = parameter_array<sum_type, Backend>;
  /// Whether the parameters are also held in f32.
  static constexpr bool has_master = !std::is_same_v<S, sum_type>;

  /// Refuses models that cannot be trained.
  template <detail::inference_only Other>
  adamw(context<Backend>&, Other&&, const adamw_options& options)
      : adamw(detail::refused<context<Backend>&>(), detail::refused<model_type&>(), options) {
    static_assert(detail::never<Other>,
                  "adamw: a quantized_model is for inference, and has no parameters that an "
                  "optimizer could update");
  }

  /// Starts with moments of zero and the model's parameters as they are. Model and context must
  /// outlive the calls of the optimizer only. Throws mtp::error for betas outside [0, 1), an
  /// epsilon that is not positive or rounds to 0, or a weight decay that is negative or infinite.
  adamw(context<Backend>& context, model_type& model, const adamw_options& options)
      : adamw(context, model, options, 0, model.layout.storage) {}

  /// The same for elements [begin, end) alone. Throws mtp::error also unless they are within the
  /// model's.
  adamw(context<Backend>& context,
        model_type& model,
        const adamw_options& options,
        index_t begin,
        index_t end)
      : options_(options),
        begin_(checked(model, begin, end)),
        master_(has_master ? end - begin : 0),
        first_(end - begin),
        second_(end - begin) {
    const detail::default_environment scope;
    const auto inside = [](double value) { return value >= 0 && value < 1; };
    check(inside(options.beta1) && inside(options.beta2),
          "adamw: expected betas in [0, 1), got ",
          options.beta1,
          " and ",
          options.beta2);
    check(static_cast<sum_type>(options.epsilon) > 0 && std::isfinite(options.epsilon),
          "adamw: expected a positive epsilon that the type of the moments can hold, got ",
          options.epsilon);
    check(options.weight_decay >= 0 && std::isfinite(options.weight_decay),
          "adamw: expected a finite weight_decay of at least 0, got ",
          options.weight_decay);
    make_ranges(model);
    if constexpr (has_master) {
      copy(context,
           vector_view<sum_type, Backend>(master_.data(), dims<1>{master_.count()}),
           vector_view<const S, Backend>(std::as_const(model).values().data() + begin_,
                                         dims<1>{master_.count()}));
    }
  }

  /// The options.
  const adamw_options& options() const { return options_; }
  /// Number of updates so far; the corrections of the moments depend on it.
  std::int64_t updates() const { return updates_; }
  /// Sets the number of updates of a resumed run.
  void set_updates(std::int64_t updates) { updates_ = updates; }
  /// The first element of the optimizer's part.
  index_t begin() const { return begin_; }
  /// The element behind its last one.
  index_t end() const { return begin_ + first_.count(); }
  /// First moments, to read and to restore.
  sum_array first() { return {first_.data(), first_.count()}; }
  /// Second moments, to read and to restore.
  sum_array second() { return {second_.data(), second_.count()}; }

  /// The parameters in the precision of training: the model's own, or f32 masters for bf16. A
  /// parameter that was changed in the model since the last update still has its old value here.
  /// The next update takes the new one; master_on_host() already returns it.
  sum_array master(model_type& model) {
    if constexpr (has_master) {
      return {master_.data(), master_.count()};
    } else {
      return values_of(model);
    }
  }

  /// A copy of the masters, with new values for the parameters that were changed in the model since
  /// the last update.
  std::vector<sum_type> master_on_host(model_type& model) {
    const auto count = static_cast<std::size_t>(first_.count());
    std::vector<sum_type> masters(count);
    backend_traits<Backend>::copy_to_host(
        masters.data(), master(model).data(), count * sizeof(sum_type));
    if constexpr (has_master) {
      std::vector<S> values(count);
      backend_traits<Backend>::copy_to_host(
          values.data(), values_of(model).data(), count * sizeof(S));
      for (std::size_t i = 0; i < count; ++i) {
        if (S(masters[i]).bits() != values[i].bits()) {
          masters[i] = static_cast<sum_type>(values[i]);
        }
      }
    }
    return masters;
  }

  /// Updates the parameters of its part from offset `begin` on, but for the biases of routers,
  /// which expert_balance moves. Gradients, of the part, are multiplied by `gradient_scale` first.
  void update(context<Backend>& context,
              model_type& model,
              sum_array gradients,
              double learning_rate,
              double gradient_scale,
              index_t begin) {
    const detail::default_environment scope;
    ++updates_;
    const adamw_coefficients k{learning_rate,
                               options_.beta1,
                               options_.beta2,
                               options_.epsilon,
                               options_.weight_decay,
                               gradient_scale,
                               1 - std::pow(options_.beta1, static_cast<double>(updates_)),
                               1 - std::pow(options_.beta2, static_cast<double>(updates_))};
    const auto all = [](const auto& array) {
      return vector_view<std::remove_pointer_t<decltype(array.data())>, Backend>(
          array.data(), dims<1>{array.count()});
    };
    const auto skipped = static_cast<index_t>(
        std::lower_bound(begins_.begin(), begins_.end(), begin) - begins_.begin());
    const vector_view<const adamw_range, Backend> ranges(ranges_.data(), dims<1>{ranges_.count()});
    adamw_update(context,
                 all(values_of(model)),
                 all(master(model)),
                 all(first()),
                 all(second()),
                 all(gradients),
                 ranges.slice(0, skipped, ranges_.count() - skipped),
                 k);
  }

 private:
  static index_t checked(const model_type& model, index_t begin, index_t end) {
    check(begin >= 0 && begin <= end && end <= model.layout.storage,
          "adamw: expected elements within [0, ",
          model.layout.storage,
          "), got [",
          begin,
          ", ",
          end,
          ")");
    return begin;
  }

  parameter_array<S, Backend> values_of(model_type& model) const {
    return {model.values().data() + begin_, first_.count()};
  }

  /// Divides the parameters into ranges of at most adamw_range_elements, relative to the part's
  /// beginning.
  void make_ranges(const model_type& model) {
    std::vector<adamw_range> ranges;
    model.layout.visit([&](const std::string&, const parameter& p) {
      if (p.role == parameter_role::routing_bias) {
        return;  // it has no gradient
      }
      for (index_t first = 0; first < p.storage; first += adamw_range_elements) {
        const index_t count = (std::min)(adamw_range_elements, p.storage - first);
        const index_t from = (std::max)(p.offset + first, begin_);
        const index_t to = (std::min)(p.offset + first + count, end());
        if (from < to) {
          ranges.push_back(
              {from - begin_, static_cast<std::int32_t>(to - from), p.decays() ? 1 : 0});
          begins_.push_back(from);
        }
      }
    });
    ranges_ = buffer<adamw_range, Backend>(static_cast<index_t>(ranges.size()));
    backend_traits<Backend>::copy_from_host(ranges_.data(), ranges.data(), ranges_.bytes());
  }

  adamw_options options_;
  index_t begin_;
  std::vector<index_t> begins_;  // of the ranges, ascending
  buffer<adamw_range, Backend> ranges_;
  buffer<sum_type, Backend> master_;
  buffer<sum_type, Backend> first_;
  buffer<sum_type, Backend> second_;
  std::int64_t updates_ = 0;
};

}  // namespace mtp::inline MTP_ABI
