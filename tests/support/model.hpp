// Small models with random parameters, and what tests look at: parameters row by row, logits,
// losses and gradients.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/core/random.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/loss/model_loss.hpp"
#include "mtp/model/language_model.hpp"
#include "support/batches.hpp"
#include "support/compare.hpp"

namespace mtp::test {

/// body(i, offset) for every element of a parameter in row-major order: offset is its place in the
/// array of all parameters.
template <class S, class Body>
void for_each_element(const parameter& p, const Body& body) {
  const index_t inputs = p.is_vector() ? 1 : p.inputs;
  for (index_t i = 0; i < p.count(); ++i) {
    const index_t place = p.is_vector() ? i
                                        : backend_traits<cpu>::weight_offset<S>(
                                              i / inputs, i % inputs, p.outputs, p.inputs);
    body(static_cast<std::size_t>(i), static_cast<std::size_t>(p.offset + place));
  }
}

/// The elements of a parameter without padding, row by row, out of an array of all parameters.
template <class S>
std::vector<S> rows_of(std::span<const S> all, const parameter& p) {
  std::vector<S> rows(static_cast<std::size_t>(p.count()));
  for_each_element<S>(p, [&](std::size_t i, std::size_t at) { rows[i] = all[at]; });
  return rows;
}

template <class S>
std::vector<double> to_double(const std::vector<S>& x) {
  return {x.begin(), x.end()};
}

/// A model with random parameters, none of which is at a special value, and a context to run it.
template <model_config Config, class S>
class subject {
 public:
  using model_type = language_model<Config, cpu, S>;
  using loss_type = model_loss<Config, cpu, S>;
  using options_type = loss_options<Config.prediction.depth>;
  using report_type = loss_report<Config.prediction.depth>;
  static constexpr auto& layout = model_type::layout;

  explicit subject(int threads = 2, index_t batch = 2, index_t length = 7)
      : context({.threads = threads}), model(context, seed{5}), loss(context, batch, length) {
    std::uint64_t stream = 100;
    model.layout.visit([&](const std::string&, const parameter& p) { shift(p, stream++); });
  }

  std::span<S> values() {
    return {model.values().data(), static_cast<std::size_t>(model.values().count())};
  }
  std::vector<S> rows(const parameter& p) { return rows_of<S>(values(), p); }
  void set(const parameter& p, std::span<const double> rows) {
    for_each_element<S>(
        p, [&](std::size_t i, std::size_t at) { values()[at] = static_cast<S>(rows[i]); });
  }
  /// Adds noise to every element of a parameter.
  void shift(const parameter& p, std::uint64_t stream) {
    const random_stream random(seed{3}, stream);
    const double deviation = 0.3 / std::sqrt(static_cast<double>(p.is_vector() ? 1 : p.inputs));
    for_each_element<S>(p, [&](std::size_t i, std::size_t at) {
      values()[at] += static_cast<S>(deviation * random.normal(i));
    });
  }

  /// [N, V] each, for the depths that have logits of their own, 0 first.
  std::vector<std::vector<S>> logits(const token_batch& batch) {
    std::vector<std::vector<S>> all;
    loss.visit_logits(context, model, batch.view(), [&](std::size_t k, const auto& logits) {
      if (k == all.size()) {
        all.push_back(elements(logits));
      }
    });
    return all;
  }

  report_type losses(const token_batch& batch, const options_type& options) {
    return loss.without_gradients(context, model, batch.view(), options);
  }

  /// += the gradients; as many elements as the model stores.
  report_type add_gradients(std::span<S> all,
                            const token_batch& batch,
                            const options_type& options) {
    return loss.with_gradients(
        context,
        model,
        parameter_array<S, cpu>(all.data(), static_cast<index_t>(all.size())),
        batch.view(),
        options);
  }
  std::vector<S> gradients(const token_batch& batch, const options_type& options) {
    std::vector<S> all(static_cast<std::size_t>(layout.storage), S{0});
    add_gradients(all, batch, options);
    return all;
  }

  cpu_context context;
  model_type model;
  loss_type loss;
};

}  // namespace mtp::test
