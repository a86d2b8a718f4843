// Attention over latents that all heads share: how multi-head latent attention decodes
// (DeepSeek-V2, arXiv 2405.04434, section 2.1; the form with the matrices of keys and values
// absorbed).
#pragma once

#include <span>
#include <type_traits>

#include "mtp/core/cache_view.hpp"
#include "mtp/ops/attention.hpp"
#include "mtp/ops/detail.hpp"
#include "mtp/ops/operation.hpp"

namespace mtp::inline MTP_ABI {

/// For each run, rows of one sequence: writes latent [M, W] into the cache of its slot at the rows'
/// positions, then attends with all heads to the same rows: with t = positions[m], over all
/// positions s <= t of that slot,
///
///     out[m, h] = sum over s of p[m, h, s] latent[s, 0 .. R),
///     p[m, h, .] = softmax over s of scale (q[m, h] . latent[s])
///
/// q [M, H, W], out [M, H, R] with R <= W: the first R elements of a row are its value, all of them
/// its key, as in multi-query attention (Shazeer 2019, arXiv 1911.02150). Scale is positive. Runs,
/// trees of drafts and positions are those of attention_cached_forward. Row-invariant: M rows at
/// once give bit for bit what M calls with one row give. Throws mtp::error on wrong shapes and when
/// the cache is full. Where the positions lie on a device, rows outside the cache write nothing and
/// give zeros.
template <scalar S, class Backend>
void latent_attention_cached_forward(context<Backend>& context,
                                     view<S, dims<3>, Backend> out,
                                     latent_cache_view<S, Backend> cache,
                                     in_heads<S, Backend> q,
                                     in_matrix<S, Backend> latent,
                                     double scale,
                                     in_positions<Backend> positions,
                                     std::type_identity_t<std::span<const row_run>> runs) {
  const char* const name = "latent_attention_cached_forward";
  detail::check_rows(name, "out", out);
  detail::check_rows(name, "q", q);
  detail::check_rows(name, "latent", latent);
  detail::check_shape(name, "latent", latent, {q.extent(0), q.extent(2)});
  check(
      out.extent(0) == q.extent(0) && out.extent(1) == q.extent(1) && out.extent(2) <= q.extent(2),
      name,
      ": expected out of rows and heads of q, at most as wide as it is, got ",
      out.shape(),
      " and ",
      q.shape());
  check(scale > 0, name, ": expected a positive scale, got ", scale);
  check(cache.width == q.extent(2),
        name,
        ": expected a cache of rows of ",
        q.extent(2),
        " elements, got rows of ",
        cache.width);
  detail::check_runs(name, cache, q.extent(0), positions, runs);
  MTP_DISPATCH(
      latent_attention_cached_forward, context, out, cache, q, latent, scale, positions, runs);
}

/// @cond
// Overloads for tensors, and messages for calls that match no declaration above.
MTP_OPERATION(latent_attention_cached_forward,
              as_dynamic_operand,
              "expected (context, out [M, H, R], cache, q [M, H, W], latent [M, W], scale, "
              "positions [M], runs), of one backend and element type")
/// @endcond

}  // namespace mtp::inline MTP_ABI
