// Head kinds: the facts that the rest of the library needs, and the traits that name the head.
#pragma once

#include <cstddef>
#include <string_view>

#include "mtp/core/scalar.hpp"

namespace mtp::inline MTP_ABI {

/// How many sets of parameters a head has.
enum class head_parameters : unsigned char {
  none,       ///< no parameters of its own
  one,        ///< one set for all depths
  per_depth,  ///< one set for each depth
};

/// How tokens beyond the next one are predicted: a value, and part of a model's type. A program
/// adds a kind of its own by a value with another name,
///
///     inline constexpr mtp::head_kind linear_heads{.name = "linear"};
///
/// and a specialization of head_traits. The library treats it like the kinds below.
struct head_kind {
  char name[24];       ///< unique; checkpoints hold it
  bool drafts = true;  ///< whether it predicts tokens to verify
  head_parameters parameters = head_parameters::per_depth;  ///< its parameter sets
  bool owns_last_block = false;  ///< the head runs the trunk's last block and final norm as the
                                 ///< ordinary next-token prediction; see parallel.hpp
  bool one_row_has_all_targets = false;  ///< one row of logits serves all depths

  static const head_kind none;          ///< next token only
  static const head_kind sequential;    ///< DeepSeek-V3: D modules one after the other, each with
                                        ///< its own block
  static const head_kind parallel;      ///< Gloeckle et al.: D extra blocks side by side on one
                                        ///< trunk output, shared output matrix
  static const head_kind independent;   ///< Medusa, blockwise decoding: a residual block and an
                                        ///< output matrix of its own per depth
  static const head_kind recurrent;     ///< FastMTP: one sequential module applied D times
  static const head_kind shared_logit;  ///< the ordinary logits, scored against the next D + 1
                                        ///< targets; drafts nothing

  /// Compares name and facts.
  friend constexpr bool operator==(const head_kind&, const head_kind&) = default;
};

// In a template argument, clang 14 reads a member of class type that follows padding from the wrong
// address. A kind that is aligned to a byte needs no padding before it in model_config.
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

/// The name of a kind, valid as long as the kind.
constexpr std::string_view name_of(const head_kind& kind) {
  return kind.name;
}
/// Refuses a temporary, whose name would not outlive the call.
constexpr std::string_view name_of(head_kind&&) = delete;

/// The factor of all losses of depth >= 1 in training: `first` up to the share `switch_at` of the
/// run, then `second`.
struct lambda_factors {
  double first = 1;      ///< before the switch
  double second = 1;     ///< after it
  double switch_at = 1;  ///< when, as a share of the run
};

/// DeepSeek-V3: 0.3 for the first 10 of 14.8 T tokens, then 0.1 (arXiv 2412.19437, section 4.2).
inline constexpr lambda_factors deepseek_lambda{0.3, 0.1, 10.0 / 14.8};

namespace detail {
template <head_kind Kind>
inline constexpr bool head_is_known = false;
}  // namespace detail

/// The head of a kind, specialized next to each head:
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
