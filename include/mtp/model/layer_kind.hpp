// Kinds of layers, and the traits that name the layer of each kind.
#pragma once

#include <string_view>

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// How the positions of a sequence attend to each other: a value, and part of a model's type. A
/// program adds a kind of its own by a value with another name,
///
///     inline constexpr mtp::attention_kind sliding_window{.name = "sliding_window"};
///
/// and a specialization of attention_traits. The library treats it like its own.
struct attention_kind {
  char name[24];  ///< unique; checkpoints hold it

  static const attention_kind grouped_query;  ///< H query heads share G heads of keys and values
                                              ///< (Ainslie et al. 2023, arXiv 2305.13245)
  static const attention_kind multi_head_latent;  ///< keys and values of all heads come from one
                                                  ///< latent (DeepSeek-V2, arXiv 2405.04434)

  /// Compares names.
  friend constexpr bool operator==(const attention_kind&, const attention_kind&) = default;
};

/// How each position is transformed by itself, between two attention layers. Added like an
/// attention_kind, with feed_forward_traits.
struct feed_forward_kind {
  char name[24];  ///< unique; checkpoints hold it

  static const feed_forward_kind swiglu;  ///< a gated product (Shazeer 2020, arXiv 2002.05202)
  static const feed_forward_kind mixture_of_experts;  ///< a few of many such (DeepSeekMoE, Dai et
                                                      ///< al. 2024, arXiv 2401.06066)

  /// Compares names.
  friend constexpr bool operator==(const feed_forward_kind&, const feed_forward_kind&) = default;
};

// As for head_kind: no padding before a kind in model_config.
static_assert(alignof(attention_kind) == 1 && alignof(feed_forward_kind) == 1,
              "layer kinds: their members must be bytes");

inline constexpr attention_kind attention_kind::grouped_query{.name = "grouped_query"};
inline constexpr attention_kind attention_kind::multi_head_latent{.name = "multi_head_latent"};
inline constexpr feed_forward_kind feed_forward_kind::swiglu{.name = "swiglu"};
inline constexpr feed_forward_kind feed_forward_kind::mixture_of_experts{.name =
                                                                             "mixture_of_experts"};

/// The name of a kind, valid as long as the kind.
constexpr std::string_view name_of(const attention_kind& kind) {
  return kind.name;
}
/// The name of a kind, valid as long as the kind.
constexpr std::string_view name_of(const feed_forward_kind& kind) {
  return kind.name;
}
/// Refuses a temporary, whose name would not outlive the call.
constexpr std::string_view name_of(attention_kind&&) = delete;
/// Refuses a temporary, whose name would not outlive the call.
constexpr std::string_view name_of(feed_forward_kind&&) = delete;

namespace detail {
template <auto Kind>
inline constexpr bool layer_is_known = false;
}  // namespace detail

/// The layer of a kind of attention, specialized next to each layer:
///
///     template <>
///     struct mtp::attention_traits<sliding_window> {
///       // what attention_layer in layers/layer.hpp asks for
///       template <mtp::model_config Config, class Backend, mtp::scalar S>
///       using layer = sliding_window_attention<Config, Backend, S>;
///     };
template <attention_kind Kind>
struct attention_traits {
  static_assert(detail::layer_is_known<Kind>,
                "attention_traits: this kind of attention has no layer; include the header that "
                "specializes mtp::attention_traits for it, or <mtp/model/layers/layer.hpp> for the "
                "library's own");
};

/// The layer of a kind of feed-forward layer, specialized likewise; see feed_forward_layer.
template <feed_forward_kind Kind>
struct feed_forward_traits {
  static_assert(detail::layer_is_known<Kind>,
                "feed_forward_traits: this kind of feed-forward layer has no layer; include the "
                "header that specializes mtp::feed_forward_traits for it, or "
                "<mtp/model/layers/layer.hpp> for the library's own");
};

}  // namespace mtp::inline MTP_ABI
