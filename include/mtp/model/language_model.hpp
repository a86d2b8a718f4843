// The parameters of a language model with a multi-token prediction head.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "mtp/core/default_environment.hpp"
#include "mtp/core/random.hpp"
#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"
#include "mtp/model/heads/head.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/random.hpp"

namespace mtp::inline MTP_ABI {

/// Offsets of all parameters of a model, known at compile time: first the trunk's, then the head's.
template <model_config Config, class Backend, scalar S>
struct model_layout {
  typename mtp::trunk<Config, Backend, S>::layout trunk;  ///< parameters of the trunk
  typename head_of<Config, Backend, S>::layout head;      ///< parameters of the head
  index_t head_begin;  ///< elements before the first parameter of the head
  index_t storage;     ///< elements in all, padding included

  /// The layout, which depends only on configuration, backend and element type.
  static constexpr model_layout make() {
    parameter_cursor<Backend, S> cursor;
    const auto trunk = mtp::trunk<Config, Backend, S>::layout::make(cursor);
    const index_t head_begin = cursor.offset();
    const auto head = head_of<Config, Backend, S>::layout::make(cursor);
    return {trunk, head, head_begin, cursor.offset()};
  }

  /// Calls visitor(name, parameter) for every parameter, by ascending offset.
  template <class Visitor>
  void visit(Visitor&& visitor) const {
    trunk.visit(visitor);
    head.visit(visitor);
  }
};

/// The parameters of a model, and tables that follow from the configuration.
///
///     mtp::context<mtp::cpu> context;
///     mtp::language_model<config, mtp::cpu> model{context, mtp::seed{42}};
template <model_config Config, class Backend, scalar S = float>
class language_model {
  static_assert(backend<Backend>,
                "language_model: include the backend's header first, e.g. <mtp/backend/cpu.hpp>; "
                "one of your own must complete backend_traits");
  static_assert(validate<Config>());

 public:
  static constexpr model_config config = Config;         ///< the configuration
  using backend_type = Backend;                          ///< the backend of the parameters
  using scalar_type = S;                                 ///< their element type
  using sum_type = accumulate_t<S>;                      ///< accumulator type
  using trunk_type = mtp::trunk<Config, Backend, S>;     ///< embedding, blocks, norm
  using head_type = head_of<Config, Backend, S>;         ///< the head that the configuration names
  using layout_type = model_layout<Config, Backend, S>;  ///< offsets of all parameters
  static_assert(prediction_head<head_type, Config, Backend, S>,
                "language_model: the head that head_traits names lacks something of what "
                "prediction_head in <mtp/model/heads/head.hpp> asks for");

  /// The layout.
  static constexpr layout_type layout = layout_type::make();

  /// Random parameters. Matrices are normal with variance 1 / inputs, those that write into the
  /// residual stream smaller by sqrt(2 L); embeddings are normal with variance 1 / C. Norms are
  /// one, biases and Medusa's residual matrices zero. One seed gives the same parameters in any
  /// layout of a backend; fill_normal says how exactly backends agree.
  language_model(context<Backend>& context, seed seed);

  /// Offsets of the trunk's parameters.
  static constexpr const typename trunk_type::layout& trunk_layout() { return layout.trunk; }
  /// Offsets of the head's parameters.
  static constexpr const typename head_type::layout& head_layout() { return layout.head; }

  /// Values of all parameters.
  parameter_array<const S, Backend> values() const { return {values_.data(), values_.count()}; }
  /// Mutable.
  parameter_array<S, Backend> values() { return {values_.data(), values_.count()}; }

  /// cos and sin of every position: the table of ops/rope.hpp, as wide as the attention layer asks
  /// for. [P, E]
  matrix_view<const sum_type, Backend> rope() const { return rope_.view(); }

  /// Number of parameters, without padding.
  static index_t parameter_count() {
    index_t count = 0;
    layout.visit([&](const std::string&, const parameter& p) { count += p.count(); });
    return count;
  }

 private:
  // The memory starts as zero, so biases, matrices without a deviation, and padding stay zero.
  void initialize(context<Backend>& context, seed seed) {
    std::uint64_t stream = 0;
    layout.visit([&](const std::string&, const parameter& p) {
      const random_stream random(seed, stream++);
      if (p.role == parameter_role::norm) {
        fill(context, values().vector(p), sum_type{1});
      } else if (const double deviation = deviation_of(p); deviation > 0) {
        fill_normal(context, values().matrix(p), deviation, random);
      }
    });
  }

  static double deviation_of(const parameter& p) {
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

  static constexpr index_t rotary_width = attention_of<Config, Backend, S>::rotary_width;  // E

  void fill_rope() {
    constexpr index_t P = Config.max_position_embeddings, E = rotary_width;
    constexpr index_t R = E == Config.head_dim() ? Config.rotary_dim() : E;
    std::vector<sum_type> table(static_cast<std::size_t>(P * E));  // [P, E]
    const double magnitude = rope_magnitude(Config.attention.rope_scaling);
    for (index_t e = 0; e < E / 2; ++e) {
      const bool rotated = e < R / 2;  // the other pairs keep their values: cos 1 and sin 0
      const double frequency =
          rotated ? rope_frequency(Config.attention.rope_scaling,
                                   static_cast<double>(Config.attention.rope_theta),
                                   e,
                                   R)
                  : 0;
      const double scale = rotated ? magnitude : 1;
      for (index_t p = 0; p < P; ++p) {
        const double angle = static_cast<double>(p) * frequency;
        table[static_cast<std::size_t>(p * E + e)] = static_cast<sum_type>(scale * std::cos(angle));
        table[static_cast<std::size_t>(p * E + E / 2 + e)] =
            static_cast<sum_type>(scale * std::sin(angle));
      }
    }
    backend_traits<Backend>::copy_from_host(
        rope_.data(), table.data(), table.size() * sizeof(sum_type));
  }

  buffer<S, Backend> values_;
  tensor<sum_type, dims<2>, Backend> rope_;  // [P, E]
};

template <model_config Config, class Backend, scalar S>
language_model<Config, Backend, S>::language_model(context<Backend>& context, mtp::seed seed)
    : values_(layout.storage), rope_(dims<2>{Config.max_position_embeddings, rotary_width}) {
  const detail::default_environment scope;
  initialize(context, seed);
  fill_rope();  // waits for the operations submitted, so that any context may use the parameters
}

}  // namespace mtp::inline MTP_ABI
