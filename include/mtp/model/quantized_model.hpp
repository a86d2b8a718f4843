// Models whose linear maps have weights in 8 bits, for inference.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <optional>
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
/// maps read; norms, biases, the embedding, and matrices that are read otherwise (parameter_use)
/// keep their element type. Weights are integers made of elements (quantize), or numbers in FP8 as
/// a checkpoint has them, also of matrices that heads read (io::load_quantized). With integers and
/// tied embeddings the output matrix is the embedding in 8 bits, beside the embedding itself.
///
///     mtp::quantized_model quantized = mtp::quantize(context, model);
///     mtp::generator<config, mtp::cpu> generator(context, quantized);
///
/// Everything in decode/ takes it where it takes a language_model, and promises the same: drafts
/// leave text and logits as they are. It cannot be trained. A layer of one's own may read matrices
/// by linear maps alone, but for those that it places as parameter::in_elements().
template <model_config Config, class Backend, scalar S = float>
class quantized_model : public inference_model<Config, Backend, S> {
  using base = inference_model<Config, Backend, S>;
  using bytes_view = vector_view<std::byte, Backend>;
  static_assert(is_whole<Config>,
                "quantized_model: ranks have parts of this model (tensor_parallel_size); "
                "gather_parameters in <mtp/model/divide.hpp> makes a whole one of them");
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
      : quantized_model(
            plan([&](const std::string&, const parameter& p) { return choose(p, options); })) {
    const detail::default_environment scope;
    copy(context, this->rope_.view(), model.rope());
    base::layout.visit([&](const std::string&, const parameter& p) {
      if (const auto to = elements(p); to.data() != nullptr) {
        copy(context, to, model.values().storage(p));
      }
      if (const auto to = bytes_of(p); to.data() != nullptr) {
        quantize_weight(context, to, model.values().matrix(p));
      }
    });
    backend_traits<Backend>::synchronize(context);
  }

  /// A model to be filled by elements() and bytes_of(), all of it zero: matrices with an e4m3_form
  /// are weights in FP8 where is_e4m3(name, parameter) says so, and all other parameters are
  /// elements. No more memory is taken than that. Throws mtp::error where
  /// memory is used up.
  template <class Predicate>
  requires(std::predicate<Predicate,
                          const std::string&,
                          const parameter&>) explicit quantized_model(const Predicate& is_e4m3)
      : quantized_model(plan([&](const std::string& name, const parameter& p) {
          const std::optional<quantized_format> form = e4m3_form(p);
          return form && is_e4m3(name, p) ? choice{false, form} : choice{};
        })) {
    const detail::default_environment scope;
    this->fill_rope();
  }

  /// Parameters that are there, such as those of a file in memory (io::map_model): a place for each
  /// parameter, in the order of the layout, in memory that the model takes. Throws mtp::error for
  /// another number or order of places, for one that is neither in elements nor in 8 bits, a vector
  /// or an embedding without elements, and places that do not end within the memory.
  quantized_model(buffer<S, Backend> elements,
                  buffer<std::byte, Backend> quantized,
                  std::vector<parameter_place> where)
      : base(std::move(elements), std::move(quantized), std::move(where)) {
    const detail::default_environment scope;
    check_places();
    this->fill_rope();
  }

  /// Whether all that reads a parameter takes it in this format, so that it may have no elements.
  static constexpr bool may_lack_elements(const parameter& p, quantized_format format) {
    return p.fits(format) && p.offset != base::layout.trunk.embedding.offset;
  }
  /// The form that numbers in FP8 have for what reads a parameter; none if elements are read.
  static constexpr std::optional<quantized_format> e4m3_form(const parameter& p) {
    for (const auto form : {quantized_format::e4m3, quantized_format::e4m3_transposed}) {
      if (may_lack_elements(p, form)) {
        return form;
      }
    }
    return {};
  }

  /// The elements of a parameter, with padding; empty if it is in 8 bits.  [p.storage]
  vector_view<S, Backend> elements(const parameter& p) {
    const parameter_place& at = place(p);
    if (at.elements < 0) {
      return {nullptr, dims<1>{0}};
    }
    return {this->values_.data() + at.elements, dims<1>{p.storage}};
  }
  /// The bytes of a parameter in 8 bits, else empty.  [quantized_weight_bytes of its format]
  bytes_view bytes_of(const parameter& p) {
    const parameter_place& at = place(p);
    if (at.quantized < 0) {
      return {nullptr, dims<1>{0}};
    }
    return {this->quantized_.data() + at.quantized, dims<1>{byte_count(p, at.format)}};
  }

  /// Bytes of all parameters.
  std::size_t bytes() const { return this->values_.bytes() + this->quantized_.bytes(); }

 private:
  /// What becomes of a parameter.
  struct choice {
    bool elements = true;
    std::optional<quantized_format> format{};
  };
  /// Where all parameters go.
  struct places {
    index_t elements = 0;
    index_t quantized = 0;
    std::vector<parameter_place> list{};
  };

  explicit quantized_model(places where)
      : base(where.elements, where.quantized, std::move(where.list)) {}

  static index_t byte_count(const parameter& p, quantized_format format) {
    return quantized_weight_bytes<Backend>(p.outputs, p.inputs, format);
  }

  const parameter_place& place(const parameter& p) const {
    return *std::find_if(this->places_.begin(), this->places_.end(), [&](const auto& at) {
      return at.offset == p.offset;
    });
  }

  void check_places() const {
    std::size_t next = 0;
    const auto inside = [](index_t begin, index_t count, index_t all) {
      return begin >= 0 && begin <= all && count <= all - begin;
    };
    base::layout.visit([&](const std::string& name, const parameter& p) {
      const auto require = [&](bool holds, const auto&... parts) {
        check(holds, "quantized_model: ", name, ": ", parts...);
      };
      require(next < this->places_.size() && this->places_[next].offset == p.offset,
              "there is no place for it, or not in the order of the layout");
      const parameter_place& at = this->places_[next++];
      require(at.elements >= 0 || (at.quantized >= 0 && may_lack_elements(p, at.format)),
              "expected a place among the elements");
      require(at.quantized < 0 || p.fits(at.format), "nothing reads it in this format");
      require(at.elements < 0 || inside(at.elements, p.storage, this->values_.count()),
              "its ",
              p.storage,
              " elements do not end within the memory");
      require(at.quantized < 0 ||
                  inside(at.quantized, byte_count(p, at.format), this->quantized_.count()),
              "its bytes do not end within the memory");
    });
    check(next == this->places_.size(),
          "quantized_model: expected ",
          next,
          " places, got ",
          this->places_.size());
  }

  static choice choose(const parameter& p, const quantize_options& options) {
    const bool embeds = p.offset == base::layout.trunk.embedding.offset;
    const bool becomes_bytes = p.fits(quantized_format::int8) &&
                               (base::layout.is_output(p) ? options.output_matrix : !embeds);
    return becomes_bytes ? choice{embeds, quantized_format::int8} : choice{};
  }

  /// Places for what choice_of(name, parameter) says.
  template <class Choices>
  static places plan(const Choices& choice_of) {
    places made;
    base::layout.visit([&](const std::string& name, const parameter& p) {
      const choice what = choice_of(name, p);
      parameter_place at{.offset = p.offset};
      if (what.elements) {
        at.elements = made.elements;
        made.elements += round_up(p.storage, arena_alignment / static_cast<index_t>(sizeof(S)));
      }
      if (what.format) {
        at.quantized = made.quantized;
        at.format = *what.format;
        made.quantized += round_up(byte_count(p, at.format), arena_alignment);
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
