// The distance between the distribution of drafts and the trunk's own, with its gradient.
#pragma once

#include <cmath>

#include "mtp/core/arena.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/core/view.hpp"
#include "mtp/ops/elementwise.hpp"
#include "mtp/ops/reduce.hpp"
#include "mtp/ops/softmax.hpp"

namespace mtp::inline MTP_ABI {

namespace detail {

/// The parts of the formulas of distillation that are computed element by element.
template <real A>
struct smaller_of {
  MTP_HOST_DEVICE A operator()(A p, A q) const { return q < p ? q : p; }
};
template <real A>
struct where_less {
  MTP_HOST_DEVICE A operator()(A p, A q) const { return q < p ? q : A{0}; }
};
template <real A>
struct log_of_sum {  // of exponentials, from the largest logit and its probability
  MTP_HOST_DEVICE A operator()(A largest, A probability) const {
    return largest - std::log(probability);
  }
};
template <real A>
struct pulled_by {  // what p adds to the gradient of a logit
  A share;
  MTP_HOST_DEVICE A operator()(A p, A q) const {
    return -share * p - (A{1} - share) * (q < p ? q : A{0});
  }
};
template <real A>
struct pushed_by {  // the factor of q in the gradient of a logit
  A share;
  MTP_HOST_DEVICE A operator()(A sum) const { return share + (A{1} - share) * sum; }
};
template <real A>
struct weighed {
  A share;
  MTP_HOST_DEVICE A operator()(A divergence, A overlap) const {
    return share * divergence + (A{1} - share) * (A{1} - overlap);
  }
};

}  // namespace detail

/// Distillation of drafts towards a trunk, row by row: with p the trunk's distribution, z the
/// logits of a draft and q = softmax(z),
///
///     loss    = s KL(p || q) + (1 - s) TV(p, q),      KL = sum of p log(p / q)
///     overlap = sum of min(p, q) = 1 - TV(p, q)
///     dz_v    = s (q_v - p_v) - (1 - s) q_v ([q_v < p_v] - sum over u of q_u [q_u < p_u])
///
/// The overlap is the share of drafts that verification by rejection accepts. s = 1 pulls from any
/// distance, s = 0 is what counts (LK losses, arXiv 2602.23881).
template <class Backend, real A>
class distillation {
 public:
  using matrix = matrix_view<A, Backend>;  ///< rows of logits or probabilities
  using vector = vector_view<A, Backend>;  ///< a number for each row

  /// Takes room for `rows` rows of V logits from an arena, or counts it with an arena_plan.
  template <class Arena>
  static constexpr distillation make(Arena& arena, index_t rows, index_t V) {
    const auto numbers = [&] { return vector(arena.template take<A>(rows), dims<1>{rows}); };
    distillation made;
    made.room_ = matrix(arena.template take<A>(rows * V), {rows, V});
    made.largest_ = numbers();
    made.first_ = numbers();
    return made;
  }

  /// The trunk's side: logits z become p = softmax(z), and negative_entropy = sum of p log p.
  /// z [N, V], negative_entropy [N], at most as many rows as there is room for.
  void prepare(context<Backend>& context, matrix z, vector negative_entropy) const {
    const index_t N = z.extent(0);
    const matrix room = room_.slice(0, 0, N);
    const vector logarithm = log_of_sum_of(context, z, [&] { copy(context, room, z); });
    multiply(context, room, room, z);
    sum(context, negative_entropy, room);
    subtract(context, negative_entropy, negative_entropy, logarithm);
  }

  /// Loss and overlap of rows: losses, overlaps (=) [N]. z [N, V] are the logits of drafts and
  /// become q; p [N, V] and negative_entropy [N] are those of prepare.
  void score(context<Backend>& context,
             vector losses,
             vector overlaps,
             matrix z,
             matrix_view<const A, Backend> p,
             vector_view<const A, Backend> negative_entropy,
             A share) const {
    const matrix room = room_.slice(0, 0, z.extent(0));
    const vector cross = first_.slice(0, 0, z.extent(0));
    const vector logarithm = log_of_sum_of(context, z, [&] { multiply(context, room, p, z); });
    sum(context, cross, room);  // of p z
    subtract(context, losses, negative_entropy, cross);
    add(context, losses, losses, logarithm);
    transform(context, room, p, z, detail::smaller_of<A>{});
    sum(context, overlaps, room);
    transform(context, losses, losses, overlaps, detail::weighed<A>{share});
  }

  /// Behind score: z [N, V], which holds q, becomes the gradient of the sum of weights [N] times
  /// losses by the logits.
  void gradient(context<Backend>& context,
                matrix z,
                matrix_view<const A, Backend> p,
                vector_view<const A, Backend> weights,
                A share) const {
    const index_t N = z.extent(0);
    const matrix room = room_.slice(0, 0, N);
    const vector factor = first_.slice(0, 0, N);
    transform(context, room, p, z, detail::where_less<A>{});
    sum(context, factor, room);
    transform(context, factor, factor, detail::pushed_by<A>{share});
    transform(context, room, p, z, detail::pulled_by<A>{share});
    multiply(context, z, z, as_column(factor));
    add(context, z, z, room);
    multiply(context, z, z, as_column(weights));
  }

 private:
  /// z becomes softmax(z); `before` is called while it is still z. Returns the logarithms of the
  /// sums of exp(z).  [N]
  template <class Before>
  vector log_of_sum_of(context<Backend>& context, const matrix& z, const Before& before) const {
    const index_t N = z.extent(0);
    const vector largest = largest_.slice(0, 0, N), probability = first_.slice(0, 0, N);
    maximum(context, largest, z);
    before();
    softmax_forward(context, z, z);
    maximum(context, probability, z);
    transform(context, largest, largest, probability, detail::log_of_sum<A>{});
    return largest;
  }

  template <class Element>
  static matrix_view<Element, Backend> as_column(const vector_view<Element, Backend>& x) {
    return {x.data(), {x.extent(0), 1}};
  }

  matrix room_{nullptr, {0, 0}};         // [rows, V]
  vector largest_{nullptr, dims<1>{0}};  // [rows]
  vector first_{nullptr, dims<1>{0}};    // [rows]
};

}  // namespace mtp::inline MTP_ABI
