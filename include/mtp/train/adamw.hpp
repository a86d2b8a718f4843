// AdamW over all parameters of a model.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "mtp/core/tensor.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/ops/optimizer.hpp"

namespace mtp {

struct adamw_options {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  ///< decoupled; not on norms and biases
};

/// Moments of all parameters, and the step (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm
/// 2).
template <model_config Config, class Backend, real S = float>
class adamw {
 public:
  using model_type = language_model<Config, Backend, S>;

  explicit adamw(const adamw_options& options)
      : options_(options), first_(model_type::layout.storage), second_(model_type::layout.storage) {
    const auto inside = [](double value) { return value >= 0 && value < 1; };
    check(inside(options.beta1) && inside(options.beta2),
          "adamw: expected betas in [0, 1), got ",
          options.beta1,
          " and ",
          options.beta2);
    check(options.epsilon > 0, "adamw: expected a positive epsilon, got ", options.epsilon);
    check(options.weight_decay >= 0,
          "adamw: expected a weight_decay of at least 0, got ",
          options.weight_decay);
    model_type::layout.visit(
        [this](const std::string&, const parameter& p) { parameters_.push_back(p); });
  }

  const adamw_options& options() const { return options_; }
  std::int64_t updates() const { return updates_; }
  void set_updates(std::int64_t updates) { updates_ = updates; }
  parameter_array<S, Backend> first() { return {first_.data(), first_.count()}; }
  parameter_array<S, Backend> second() { return {second_.data(), second_.count()}; }

  /// One update of the parameters at or behind offset `begin`; gradients are multiplied by
  /// `gradient_scale` first.
  void update(context<Backend>& context,
              model_type& model,
              parameter_array<S, Backend> gradients,
              double learning_rate,
              double gradient_scale,
              index_t begin) {
    ++updates_;
    adamw_coefficients k{learning_rate,
                         options_.beta1,
                         options_.beta2,
                         options_.epsilon,
                         0,
                         gradient_scale,
                         1 - std::pow(options_.beta1, static_cast<double>(updates_)),
                         1 - std::pow(options_.beta2, static_cast<double>(updates_))};
    const auto values = model.values();
    for (const parameter& p : parameters_) {
      if (p.offset >= begin) {
        k.weight_decay = p.decays() ? options_.weight_decay : 0;
        adamw_update(context,
                     values.storage(p),
                     first().storage(p),
                     second().storage(p),
                     gradients.storage(p),
                     k);
      }
    }
  }

 private:
  adamw_options options_;
  std::vector<parameter> parameters_;
  buffer<S, Backend> first_;
  buffer<S, Backend> second_;
  std::int64_t updates_ = 0;
};

}  // namespace mtp
