// The parameters of a language model with a multi-token prediction head.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "mtp/core/default_environment.hpp"
#include "mtp/core/error.hpp"
#include "mtp/core/random.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/tensor_group.hpp"
#include "mtp/model/divided_parameters.hpp"
#include "mtp/model/inference_model.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/random.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// The deviation of a parameter's first values; 0: they are zero.
template <model_config Config>
double deviation_of(const parameter& p) {
  const double plain = p.is_vector() ? 0 : 1 / std::sqrt(static_cast<double>(p.inputs));
  switch (p.role) {
    case parameter_role::residual:
      return plain / std::sqrt(2.0 * Config.num_hidden_layers);
    case parameter_role::zero:
      return 0;
    default:
      return plain;
  }
}

/// The first values of a parameter, in memory that starts as zero; so biases, matrices without a
/// deviation, and padding stay zero.
template <model_config Config, class Backend, scalar S>
void initialize_parameter(context<Backend>& context,
                          parameter_array<S, Backend> values,
                          const parameter& p,
                          const random_stream& random) {
  if (p.role == parameter_role::norm) {
    fill(context, values.vector(p), accumulate_t<S>{1});
  } else if (const double deviation = deviation_of<Config>(p); deviation > 0) {
    fill_normal(context, values.matrix(p), deviation, random);
  }
}

}  // namespace detail

/// The parameters of a model, and tables that follow from the configuration.
///
///     mtp::context<mtp::cpu> context;
///     mtp::language_model<config, mtp::cpu> model{context, mtp::seed{42}};
template <model_config Config, class Backend, scalar S = float>
class language_model : public inference_model<Config, Backend, S> {
  using base = inference_model<Config, Backend, S>;

 public:
  using base::layout;

  /// Random parameters. Matrices are normal with variance 1 / inputs, those that write into the
  /// residual stream smaller by sqrt(2 L); embeddings are normal with variance 1 / C. Norms are
  /// one, biases and Medusa's residual matrices zero. One seed gives the same parameters in any
  /// layout of a backend; fill_normal says how exactly backends agree. A model with a
  /// tensor_parallel_size is the part of this rank, of the same values, and the context must have
  /// joined its ranks; all of them make it at the same time. Throws mtp::error if it has not, or if
  /// their seeds differ.
  language_model(context<Backend>& context, seed seed);

  using base::values;
  /// Mutable.
  parameter_array<S, Backend> values() { return {this->values_.data(), this->values_.count()}; }

 private:
  void initialize(context<Backend>& context, seed seed) {
    if constexpr (Config.tensor_parallel_size > 1) {
      initialize_part(context, seed);
      return;
    }
    std::uint64_t stream = 0;
    layout.visit([&](const std::string&, const parameter& p) {
      detail::initialize_parameter<Config>(context, values(), p, random_stream(seed, stream++));
    });
  }

  /// This rank's part of each parameter, which exists as a whole for a moment.
  void initialize_part(context<Backend>& context, seed seed) {
    tensor_group& ranks = detail::ranks_of("language_model", context, Config.tensor_parallel_size);
    const auto seeds = detail::from_all_ranks(ranks, seed.value);
    for (std::size_t rank = 1; rank < seeds.size(); ++rank) {
      check(seeds[rank] == seeds[0],
            "language_model: expected one seed on all ranks of a model, got ",
            seeds[0],
            " on rank 0 and ",
            seeds[rank],
            " on rank ",
            rank);
    }
    std::vector<S> part(static_cast<std::size_t>(layout.storage)), host;
    std::uint64_t stream = 0;
    detail::for_each_divided<language_model>([&](parameter p, const parameter& own) {
      p.offset = 0;
      buffer<S, Backend> whole(p.storage);
      detail::initialize_parameter<Config>(context,
                                           parameter_array<S, Backend>(whole.data(), whole.count()),
                                           p,
                                           random_stream(seed, stream++));
      host.resize(static_cast<std::size_t>(p.storage));
      backend_traits<Backend>::copy_to_host(host.data(), whole.data(), host.size() * sizeof(S));
      for (index_t i = 0; i < own.count(); ++i) {
        const index_t from = detail::index_in_whole(own, i, ranks.rank(), ranks.size());
        part[static_cast<std::size_t>(detail::place_of<Backend, S>(own, i))] =
            host[static_cast<std::size_t>(detail::place_of<Backend, S>(p, from))];
      }
    });
    backend_traits<Backend>::copy_from_host(values().data(), part.data(), part.size() * sizeof(S));
  }
};

template <model_config Config, class Backend, scalar S>
language_model<Config, Backend, S>::language_model(context<Backend>& context, mtp::seed seed)
    : base(base::layout.storage) {
  const detail::default_environment scope;
  initialize(context, seed);
  this->fill_rope();  // waits for the operations submitted, so that any context may use the
                      // parameters
}

}  // namespace mtp::inline MTP_ABI
