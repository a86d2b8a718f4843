// What the library has to know of a head kind, and where the head itself is found.
#pragma once

#include <cstddef>
#include <string_view>

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// How many sets of parameters a head has.
enum class head_parameters : unsigned char {
  none,       ///< nothing of its own
  one,        ///< one set, for all depths
  per_depth,  ///< a set for each depth
};

/// How tokens beyond the next one are predicted: a value, and part of a model's type. A kind of
/// one's own is a value with another name,
///
///     inline constexpr mtp::head_kind linear_heads{.name = "linear"};
///
/// and a specialization of head_traits; the library does not tell it from the kinds below.
struct head_kind {
  char name[24];       ///< what tells kinds apart; checkpoints hold it
  bool drafts = true;  ///< predicts tokens that the model can verify
  head_parameters parameters = head_parameters::per_depth;  ///< sets of its own
  bool owns_last_block = false;  ///< the trunk's last block and its final norm are run by the head,
                                 ///< as the ordinary next-token prediction; see parallel.hpp
  bool one_row_has_all_targets = false;  ///< one row of logits serves all depths

  static const head_kind none;          ///< next token only
  static const head_kind sequential;    ///< DeepSeek-V3: D modules one after the other, each with
                                        ///< its own block
  static const head_kind parallel;      ///< Gloeckle et al.: D extra blocks side by side on one
                                        ///< trunk output, shared output matrix
  static const head_kind independent;   ///< Medusa, blockwise decoding: a residual block and an
                                        ///< output matrix of its own per depth
  static const head_kind recurrent;     ///< FastMTP: one sequential module applied D times
  static const head_kind shared_logit;  ///< the ordinary logits scored against the next D + 1
                                        ///< targets; drafts nothing

  /// Name and facts.
  friend constexpr bool operator==(const head_kind&, const head_kind&) = default;
};

// clang 14 reads a member of class type that stands behind padding in a template argument from the
// wrong place. Aligned to a byte, a kind needs no padding in front of it in model_config.
static_assert(alignof(head_kind) == 1, "head_kind: its members must be bytes");

inline constexpr head_kind head_kind::none{
    .name = "none", .drafts = false, .parameters = head_parameters::none};
inline constexpr head_kind head_kind::sequential{.name = "sequential"};
inline constexpr head_kind head_kind::parallel{.name = "parallel", .owns_last_block = true};
inline constexpr head_kind head_kind::independent{.name = "independent"};
inline constexpr head_kind head_kind::recurrent{.name = "recurrent",
                                                .parameters = head_parameters::one};
inline constexpr head_kind head_kind::shared_logit{.name = "shared_logit",
                                                   .drafts = false,
                                                   .parameters = head_parameters::none,
                                                   .one_row_has_all_targets = true};

/// The name of a kind; lives as long as the kind.
constexpr std::string_view name_of(const head_kind& kind) {
  return kind.name;
}
/// The name of a temporary would not live.
constexpr std::string_view name_of(head_kind&&) = delete;

/// What all losses of depth >= 1 are multiplied by in training: `first` until the share `switch_at`
/// of the run, then `second`.
struct lambda_factors {
  double first = 1;      ///< before the switch
  double second = 1;     ///< after it
  double switch_at = 1;  ///< share of the run
};

/// DeepSeek-V3's: 0.3 for the first 10 of 14.8 T tokens, then 0.1 (arXiv 2412.19437, section 4.2).
inline constexpr lambda_factors deepseek_lambda{0.3, 0.1, 10.0 / 14.8};

namespace detail {
template <head_kind Kind>
inline constexpr bool head_is_known = false;
}  // namespace detail

/// The head of a kind; specialized beside each head:
///
///     template <>
///     struct mtp::head_traits<linear_heads> {
///       // loss_options::weights[k] unless a program says otherwise, 1 <= k <= D
///       static double default_weight(std::size_t k, std::size_t D);
///       // train_options::lambda unless a program says otherwise; without it, 1 throughout
///       static constexpr mtp::lambda_factors default_lambda{0.3, 0.1, 0.7};
///       // what prediction_head in heads/head.hpp asks for
///       template <mtp::model_config Config, class Backend, mtp::scalar S>
///       using head = linear_head<Config, Backend, S>;
///     };
template <head_kind Kind>
struct head_traits {
  static_assert(detail::head_is_known<Kind>,
                "head_traits: this head kind has no head; include the header that specializes "
                "mtp::head_traits for it, or <mtp/model/heads/head.hpp> for the library's own");
};

}  // namespace mtp::inline MTP_ABI
