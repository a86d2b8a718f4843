// Balances the loads of experts by the biases of their routers, without a loss (Wang et al. 2024,
// arXiv 2408.15664; DeepSeek-V3, arXiv 2412.19437, section 2.1.2).
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/view.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/train/adamw.hpp"

namespace mtp::inline MTP_ABI {

/// By how much a step moves a router's bias, as in DeepSeek-V3, section 4.2.
inline constexpr double default_bias_update_speed = 0.001;

/// How evenly the experts of a step were used. The load of an expert is how many pairs of a row and
/// one of its experts fell on it; layers whose routers have no bias do not count theirs.
struct expert_loads {
  int layers = 0;       ///< routers that were counted; 0: the model has none, or none was trained
  double largest = 0;   ///< the largest load over the mean of its layer, of all layers
  double smallest = 0;  ///< the smallest load over the mean of its layer, of all layers
};

/// The routers of a model. A backward pass counts the experts' loads where the gradients of their
/// biases would stand (parameter_role::routing_bias), so a step's loads add up like its gradients.
/// After a step, each bias moves by a fixed amount towards an even load:
///
///     bias[e] += speed sign(mean load - load[e])
template <model_config Config,
          class Backend,
          scalar S = float,
          class Model = language_model<Config, Backend, S>>
class expert_balance {
 public:
  /// The model that is trained, or what a stage of a pipeline has of it.
  using model_type = Model;
  /// The type of gradients and masters.
  using sum_type = accumulate_t<S>;

  /// Finds the routers.
  explicit expert_balance(const model_type& model) {
    model.layout.visit([&](const std::string&, const parameter& p) {
      if (p.role == parameter_role::routing_bias) {
        biases_.push_back(p);
        loads_.emplace_back(static_cast<std::size_t>(p.outputs), sum_type{0});
        most_ = (std::max)(most_, static_cast<std::size_t>(p.outputs));
      }
    });
    masters_.resize(most_);
    values_.resize(most_);
  }

  /// Takes the loads of a step from among its gradients, where they leave zeros: call it before
  /// anything reads the gradients. Waits for the device if there are routers.
  expert_loads take(context<Backend>& context, parameter_array<sum_type, Backend> gradients) {
    return take(context, gradients, 0, [](std::span<sum_type>) {});
  }

  /// The same where gradients are those from offset `begin` on, of which this process may have a
  /// part: `complete` is called with the loads of each router, where the experts of other parts
  /// have 0, and adds what the other processes have.  [E]
  template <class Complete>
  expert_loads take(context<Backend>& context,
                    parameter_array<sum_type, Backend> gradients,
                    index_t begin,
                    const Complete& complete) {
    const detail::default_environment scope;
    expert_loads report;
    for (std::size_t i = 0; i < biases_.size(); ++i) {
      std::vector<sum_type>& loads = loads_[i];
      std::fill(loads.begin(), loads.end(), sum_type{0});
      if (const auto own = part_of(biases_[i], begin, begin + gradients.count()); own.count > 0) {
        const vector_view<sum_type, Backend> counted(
            gradients.data() + biases_[i].offset + own.first - begin, dims<1>{own.count});
        backend_traits<Backend>::download(context,
                                          loads.data() + own.first,
                                          counted.data(),
                                          static_cast<std::size_t>(own.count) * sizeof(sum_type));
        fill(context, counted, sum_type{0});
      }
      complete(std::span<sum_type>(loads));
      const double mean = total_of(loads) / static_cast<double>(loads.size());
      if (mean > 0) {
        const auto [least, most] = std::minmax_element(loads.begin(), loads.end());
        const double low = static_cast<double>(*least) / mean;
        report.smallest = report.layers == 0 ? low : (std::min)(report.smallest, low);
        report.largest = (std::max)(report.largest, static_cast<double>(*most) / mean);
        ++report.layers;
      }
    }
    return report;
  }

  /// Moves the biases of the optimizer's part by what take() found; those of routers that no row
  /// met stay. Of a model in bf16 the masters move, and the model has them rounded; a bias that was
  /// changed in the model counts as it is there, as for adamw.
  void update(context<Backend>& context,
              model_type& model,
              adamw<Config, Backend, S, Model>& optimizer,
              double speed) {
    using traits = backend_traits<Backend>;
    const detail::default_environment scope;
    for (std::size_t i = 0; i < biases_.size() && speed > 0; ++i) {
      const std::vector<sum_type>& loads = loads_[i];
      const auto own = part_of(biases_[i], optimizer.begin(), optimizer.end());
      const auto count = static_cast<std::size_t>(own.count);
      const index_t place = biases_[i].offset + own.first;
      if (count == 0) {
        continue;
      }
      sum_type* const master = optimizer.master(model).data() + (place - optimizer.begin());
      [[maybe_unused]] S* const values = model.values().data() + place;
      traits::download(context, masters_.data(), master, count * sizeof(sum_type));
      if constexpr (has_master) {
        traits::download(context, values_.data(), values, count * sizeof(S));
        for (std::size_t e = 0; e < count; ++e) {
          if (S(masters_[e]).bits() != values_[e].bits()) {
            masters_[e] = static_cast<sum_type>(values_[e]);
          }
        }
      }
      const double total = total_of(loads), experts = static_cast<double>(loads.size());
      for (std::size_t e = 0; e < count; ++e) {
        const double load = static_cast<double>(loads[e + static_cast<std::size_t>(own.first)]);
        const double above = load * experts - total;  // exact
        const double sign = above > 0 ? -1 : above < 0 ? 1 : 0;
        masters_[e] += static_cast<sum_type>(speed * sign);
        values_[e] = S(masters_[e]);
      }
      traits::upload(context, master, masters_.data(), count * sizeof(sum_type));
      if constexpr (has_master) {
        traits::upload(context, values, values_.data(), count * sizeof(S));
      }
    }
  }

  /// The loads that take() found, of each router in the order of the model's parameters.  [E] each
  const std::vector<std::vector<sum_type>>& loads() const { return loads_; }

 private:
  static constexpr bool has_master = adamw<Config, Backend, S, Model>::has_master;

  /// The experts of a router whose biases are among elements [begin, end).
  struct experts_part {
    index_t first, count;
  };
  static experts_part part_of(const parameter& bias, index_t begin, index_t end) {
    const index_t first = std::clamp<index_t>(begin - bias.offset, 0, bias.outputs);
    const index_t last = std::clamp<index_t>(end - bias.offset, first, bias.outputs);
    return {first, last - first};
  }

  static double total_of(const std::vector<sum_type>& loads) {
    return std::accumulate(loads.begin(), loads.end(), 0.0);
  }

  std::vector<parameter> biases_;
  std::vector<std::vector<sum_type>> loads_;
  std::size_t most_ = 0;           // experts of a router
  std::vector<sum_type> masters_;  // of one router
  std::vector<S> values_;          // the same, rounded
};

}  // namespace mtp::inline MTP_ABI
