// Gradients of attention on the CPU. Contracts: ops/attention.hpp.
#pragma once

#include <algorithm>
#include <cmath>

#include "mtp/backend/cpu/attention_tile.hpp"
#include "mtp/backend/cpu/context.hpp"
#include "mtp/backend/cpu/widened.hpp"
#include "mtp/core/view.hpp"

namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail {

/// Query rows that attention_backward works on at a time.
inline constexpr index_t backward_rows = 48;

/// Scratch of attention_backward for one thread, cut into its pieces.
template <real S>
struct backward_scratch {
  index_t length, head_dim, value_dim;

  static constexpr index_t width = panel_width<S>;
  constexpr index_t columns() const { return round_up(length, width); }
  constexpr index_t head_width() const { return round_up(head_dim, width); }
  constexpr index_t value_width() const { return round_up(value_dim, width); }

  constexpr index_t keys() const { return 0; }                                // lanes are positions
  constexpr index_t values() const { return keys() + columns() * head_dim; }  // lanes are positions
  constexpr index_t key_rows() const { return values() + columns() * value_dim; }  // lanes are e
  constexpr index_t dk() const { return key_rows() + length * head_width(); }      // [T, E]
  constexpr index_t dv() const { return dk() + length * head_width(); }            // [T, V]
  constexpr index_t scores() const { return dv() + length * value_width(); }       // [rows, T]
  constexpr index_t dscores() const { return scores() + backward_rows * columns(); }
  constexpr index_t products() const { return dscores() + backward_rows * columns(); }
  constexpr index_t total() const { return products() + product_scratch<S>; }
};

struct cpu_attention_backward_ops {
  template <class S>
  using heads = view<S, dims<3>, cpu>;

  template <real S>
  static void attention_backward(cpu_context& context,
                                 heads<S> dq,
                                 heads<S> dk,
                                 heads<S> dv,
                                 heads<const S> dout,
                                 heads<const S> q,
                                 heads<const S> k,
                                 heads<const S> v,
                                 heads<const S> out,
                                 matrix_view<const S, cpu> statistics,
                                 index_t batch) {
    attention_backward(context,
                       dq,
                       dk,
                       dv,
                       dout,
                       q,
                       k,
                       v,
                       out,
                       statistics,
                       batch,
                       default_attention_scale(q.extent(2)));
  }

  template <real S>
  static void attention_backward(cpu_context& context,
                                 heads<S> dq,
                                 heads<S> dk,
                                 heads<S> dv,
                                 heads<const S> dout,
                                 heads<const S> q,
                                 heads<const S> k,
                                 heads<const S> v,
                                 heads<const S> out,
                                 matrix_view<const S, cpu> statistics,
                                 index_t batch,
                                 double scale) {
    const index_t T = q.extent(0) / batch, H = q.extent(1), G = k.extent(1), E = q.extent(2);
    if (q.empty()) {
      return;
    }
    const arena::scope scope(context.workspace());
    const index_t V = v.extent(2);
    const backward_scratch<S> plan{T, E, V};
    S* const scratch = context.workspace().template take<S>(context.threads() * plan.total());
    context.parallel(batch * G, [&](index_t task, int thread) {
      const index_t row0 = task / G * T, g = task % G;
      S* const own = scratch + thread * plan.total();
      pack_lanes(own + plan.keys(), &k(row0, g, 0), k.stride(0), T, E);
      pack_lanes(own + plan.values(), &v(row0, g, 0), v.stride(0), T, V);
      pack_features(own + plan.key_rows(), k, row0, g, T);
      std::fill_n(own + plan.dk(), T * (plan.head_width() + plan.value_width()), S{0});
      for (index_t h = g * (H / G); h < (g + 1) * (H / G); ++h) {
        for (index_t t = 0; t < T; t += backward_rows) {
          backward_block<S>(plan,
                            own,
                            (std::min)(backward_rows, T - t),
                            row0,
                            t,
                            h,
                            dq,
                            dout,
                            q,
                            out,
                            statistics,
                            static_cast<S>(scale));
        }
      }
      for (index_t t = 0; t < T; ++t) {
        std::copy_n(own + plan.dk() + t * plan.head_width(), E, &dk(row0 + t, g, 0));
        std::copy_n(own + plan.dv() + t * plan.value_width(), V, &dv(row0 + t, g, 0));
      }
    });
  }

  template <class... Views>
  requires some_widened<Views...>
  static void attention_backward(cpu_context& context, Views... views) {
    run_widened(
        context, [&](auto... each) { attention_backward(context, each...); }, views...);
  }

 protected:
  static double default_attention_scale(index_t head_dim) {
    return 1.0 / std::sqrt(static_cast<double>(head_dim));
  }

 private:
  /// [E / width][T][width]: lanes are e.
  template <real S>
  static void pack_features(S* to, heads<const S> x, index_t row0, index_t g, index_t T) {
    constexpr index_t width = panel_width<S>;
    const index_t E = x.extent(2);
    for (index_t e = 0; e < E; e += width) {
      pack_panel<S>(to + e * T, &x(row0, g, e), x.stride(0), (std::min)(width, E - e), T);
    }
  }

  /// Query rows [t, t + rows) of one head: their dq, and what they add to dk and dv.
  template <real S>
  static void backward_block(const backward_scratch<S>& plan,
                             S* own,
                             index_t rows,
                             index_t row0,
                             index_t t,
                             index_t h,
                             heads<S> dq,
                             heads<const S> dout,
                             heads<const S> q,
                             heads<const S> out,
                             matrix_view<const S, cpu> statistics,
                             S scale) {
    constexpr index_t width = panel_width<S>;
    const index_t E = plan.head_dim, V = plan.value_dim, H = q.extent(1), count = t + rows;
    const index_t columns = plan.columns();
    S* const p = own + plan.scores();
    S* const dp = own + plan.dscores();
    S* const pack = own + plan.products();
    const rows_of<S> q_rows{&q(row0 + t, h, 0), q.stride(0), 1};
    const rows_of<S> dout_rows{&dout(row0 + t, h, 0), dout.stride(0), 1};
    const auto scores_like = [&](S* to, rows_of<S> a, const S* b, index_t inner_size) {
      product<S> s;
      s.rows = rows;
      s.columns = round_up(count, width);
      s.inner_size = inner_size;
      s.a = a;
      s.b = b;
      s.b_panel = inner_size * width;
      s.c = panels_of<S>::row_major(to, columns);
      multiply_block(s, 0, rows, index_t{0}, s.panels(), pack);
    };
    scores_like(p, q_rows, own + plan.keys(), E);
    scores_like(dp, dout_rows, own + plan.values(), V);
    // p = probabilities, dp = gradient of scaled scores: p (dp - sum p dp) scale; both zero behind
    // the diagonal.
    for (index_t r = 0; r < rows; ++r) {
      const index_t valid = t + r + 1;
      S* const p_row = p + r * columns;
      S* const dp_row = dp + r * columns;
      const auto shift = broadcast<S>(-statistics(row0 + t + r, h));
      const auto inverse = broadcast<S>(statistics(row0 + t + r, H + h));
      const auto factor = broadcast<S>(scale);
      auto products = broadcast<S>(S{0});
      for_each_packet<S>(V, [&](auto read, auto) {
        products =
            multiply_add(read(&dout(row0 + t + r, h, 0)), read(&out(row0 + t + r, h, 0)), products);
      });
      const auto mean = broadcast<S>(sum_of_lanes<S>(products));
      for (index_t s = 0; s < valid; s += lanes<S>) {
        const auto probability =
            multiply(exponential<S>(multiply_add(load<S>(p_row + s), factor, shift)), inverse);
        store<S>(p_row + s, probability);
        store<S>(dp_row + s,
                 multiply(multiply(probability, subtract(load<S>(dp_row + s), mean)), factor));
      }
      std::fill(p_row + valid, p_row + round_up(count, width), S{0});
      std::fill(dp_row + valid, dp_row + round_up(count, width), S{0});
    }
    product<S> query;  // dq[t, e] = sum over s of dscores[t, s] k[s, e]
    query.rows = rows;
    query.columns = E;
    query.inner_size = count;
    query.a = {dp, columns, 1};
    query.b = own + plan.key_rows();
    query.b_panel = plan.length * width;
    query.c = panels_of<S>::row_major(&dq(row0 + t, h, 0), dq.stride(0));
    multiply_block(query, 0, rows, index_t{0}, query.panels(), pack);
    const auto accumulate = [&](S* to, index_t to_row, const S* weights, rows_of<S> b, index_t of) {
      product<S> sum;  // to[s, e] += sum over t of weights[t, s] b[t, e]
      sum.rows = count;
      sum.columns = of;
      sum.inner_size = rows;
      sum.a = {weights, 1, columns};
      sum.b = b.data;
      sum.b_panel = width;
      sum.b_step = b.row;
      sum.c = panels_of<S>::row_major(to, to_row);
      sum.init = panels_of<const S>::row_major(to, to_row);
      multiply_block(sum, 0, count, index_t{0}, sum.panels(), pack);
    };
    accumulate(own + plan.dk(), plan.head_width(), dp, q_rows, E);
    accumulate(own + plan.dv(), plan.value_width(), p, dout_rows, V);
  }
};

}  // namespace mtp::inline MTP_ABI::inline MTP_CPU_ABI::cpu_detail
