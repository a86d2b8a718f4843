// What inference needs of a model: its parameters, to be read, and tables that follow from the
// configuration.
#pragma once

#include <cmath>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "mtp/core/tensor.hpp"
#include "mtp/core/view.hpp"
#include "mtp/model/heads/head.hpp"
#include "mtp/model/model_config.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/model/trunk.hpp"
#include "mtp/model/vocabulary.hpp"

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

  /// Whether a parameter is an output matrix, of any depth; of tied embeddings, the embedding.
  constexpr bool is_output(const parameter& p) const {
    const bool embeds = p.offset == trunk.embedding.offset;
    return !p.is_vector() && p.outputs == vocabulary<Config>::rows &&
           p.inputs == Config.hidden_size && (!embeds || p.offset == trunk.output.offset);
  }

  /// Calls visitor(name, parameter) for every parameter, by ascending offset.
  template <class Visitor>
  void visit(Visitor&& visitor) const {
    trunk.visit(visitor);
    head.visit(visitor);
  }
};

/// The part of a model that everything in decode/ reads: language_model and quantized_model are
/// two, which differ in how parameters are stored. Not an object of its own.
template <model_config Config, class Backend, scalar S = float>
class inference_model {
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

  /// Offsets of the trunk's parameters.
  static constexpr const typename trunk_type::layout& trunk_layout() { return layout.trunk; }
  /// Offsets of the head's parameters.
  static constexpr const typename head_type::layout& head_layout() { return layout.head; }

  /// Values of all parameters.
  parameter_array<const S, Backend> values() const {
    return {values_.data(), values_.count(), quantized_.data(), places_};
  }

  /// cos and sin of every position: the table of ops/rope.hpp, as wide as the attention layer asks
  /// for. [P, E]
  matrix_view<const sum_type, Backend> rope() const { return rope_.view(); }

  /// Number of parameters, without padding.
  static index_t parameter_count() {
    index_t count = 0;
    layout.visit([&](const std::string&, const parameter& p) { count += p.count(); });
    return count;
  }

 protected:
  /// E of the rotary table.
  static constexpr index_t rotary_width = attention_of<Config, Backend, S>::rotary_width;

  /// Memory for `elements` elements and `quantized` bytes of weights in 8 bits, at these places;
  /// no places: all parameters are elements, at their own offsets.
  explicit inference_model(index_t elements,
                           index_t quantized = 0,
                           std::vector<parameter_place> places = {})
      : inference_model(buffer<S, Backend>(elements),
                        buffer<std::byte, Backend>(quantized),
                        std::move(places)) {}
  /// The same, of memory that is there.
  inference_model(buffer<S, Backend> elements,
                  buffer<std::byte, Backend> quantized,
                  std::vector<parameter_place> places)
      : values_(std::move(elements)),
        quantized_(std::move(quantized)),
        places_(std::move(places)),
        rope_(dims<2>{Config.max_position_embeddings, rotary_width}) {}
  /// Takes the memory.
  inference_model(inference_model&&) noexcept = default;
  /// Swaps the memory.
  inference_model& operator=(inference_model&&) noexcept = default;
  ~inference_model() = default;

  /// Computes the rotary table, after everything that has been submitted to any context.
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

  buffer<S, Backend> values_;                ///< elements
  buffer<std::byte, Backend> quantized_;     ///< weights in 8 bits
  std::vector<parameter_place> places_;      ///< where they are, by offset
  tensor<sum_type, dims<2>, Backend> rope_;  ///< rotary table  [P, E]
};

namespace detail {
/// A model that only inference reads: it has no parameters that could be trained.
template <class Model>
concept inference_only = requires {
  requires std::remove_cvref_t<Model>::inference_only;
};
}  // namespace detail

}  // namespace mtp::inline MTP_ABI
