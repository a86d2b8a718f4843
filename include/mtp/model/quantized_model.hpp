// Models whose linear maps have weights in 8 bits, for inference.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "mtp/core/arena.hpp"
#include "mtp/core/default_environment.hpp"
#include "mtp/core/view.hpp"
#include "mtp/model/inference_model.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/quantize.hpp"

namespace mtp::inline MTP_ABI {

/// Which weights of a model become 8 bits.
struct quantize_options {
  /// Output matrices, of all depths, as well as the weights of blocks and heads. They are most of
  /// what a small model reads for a token.
  bool output_matrix = true;
};

/// A language_model with weights in 8 bits (ops/quantize.hpp) in place of the matrices that linear
/// maps read; norms, biases and the embedding keep their element type. With tied embeddings the
/// output matrix is the embedding in 8 bits, beside the embedding itself.
///
///     mtp::quantized_model quantized = mtp::quantize(context, model);
///     mtp::generator<config, mtp::cpu> generator(context, quantized);
///
/// Everything in decode/ takes it where it takes a language_model, and promises the same: drafts
/// leave text and logits as they are. It cannot be trained. A layer of one's own may read matrices
/// by linear maps alone.
template <model_config Config, class Backend, scalar S = float>
class quantized_model : public inference_model<Config, Backend, S> {
  using base = inference_model<Config, Backend, S>;
  using bytes_view = vector_view<std::byte, Backend>;
  static_assert(has_quantized_weights<Backend, S>,
                "quantized_model: the backend has no operation quantize_weight for this element "
                "type, so it has no weights in 8 bits");

 public:
  static constexpr bool inference_only = true;  ///< there is nothing to train

  /// The weights of a model as they are now; the model is not needed afterwards. Throws mtp::error
  /// where memory is used up.
  quantized_model(context<Backend>& context,
                  const language_model<Config, Backend, S>& model,
                  const quantize_options& options = {})
      : quantized_model(plan(options)) {
    const detail::default_environment scope;
    copy(context, this->rope_.view(), model.rope());
    std::size_t next = 0;
    base::layout.visit([&](const std::string&, const parameter& p) {
      const parameter_place& at = this->places_[next++];
      if (at.elements >= 0) {
        const vector_view<S, Backend> to(this->values_.data() + at.elements, dims<1>{p.storage});
        copy(context, to, model.values().storage(p));
      }
      if (at.quantized >= 0) {
        const bytes_view to(this->quantized_.data() + at.quantized, dims<1>{bytes_of(p)});
        quantize_weight(context, to, model.values().matrix(p));
      }
    });
    backend_traits<Backend>::synchronize(context);
  }

  /// Bytes of all parameters.
  std::size_t bytes() const { return this->values_.bytes() + this->quantized_.bytes(); }

 private:
  /// Where all parameters go.
  struct places {
    index_t elements = 0;
    index_t quantized = 0;
    std::vector<parameter_place> list{};
  };

  explicit quantized_model(places where)
      : base(where.elements, where.quantized, std::move(where.list)) {}

  static index_t bytes_of(const parameter& p) {
    return quantized_weight_bytes<Backend>(p.outputs, p.inputs);
  }

  static places plan(const quantize_options& options) {
    places made;
    base::layout.visit([&](const std::string&, const parameter& p) {
      const bool embeds = p.offset == base::layout.trunk.embedding.offset;
      const bool becomes_bytes =
          !p.is_vector() && (base::layout.is_output(p) ? options.output_matrix : !embeds);
      parameter_place at{.offset = p.offset};
      if (embeds || !becomes_bytes) {
        at.elements = made.elements;
        made.elements += round_up(p.storage, arena_alignment / static_cast<index_t>(sizeof(S)));
      }
      if (becomes_bytes) {
        at.quantized = made.quantized;
        made.quantized += round_up(bytes_of(p), arena_alignment);
      }
      made.list.push_back(at);
    });
    return made;
  }
};

/// A quantized_model with the weights of a model as they are now. Throws mtp::error where memory is
/// used up.
template <model_config Config, class Backend, scalar S>
quantized_model<Config, Backend, S> quantize(context<Backend>& context,
                                             const language_model<Config, Backend, S>& model,
                                             const quantize_options& options = {}) {
  return quantized_model<Config, Backend, S>(context, model, options);
}

}  // namespace mtp::inline MTP_ABI
