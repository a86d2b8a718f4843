// Attention over a sliding window and a sink, a kind that the library does not have: position i
// attends to positions 0 .. Sinks - 1 and to i - Window + 1 .. i (Xiao et al. 2023, arXiv
// 2309.17453). So a sequence needs a ring of rows rather than all of them, and a decoder can go
// back as far as the ring reaches.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>

#include "mtp/model/layers/layer.hpp"
#include "mtp/ops/rope.hpp"

inline constexpr mtp::attention_kind sink_window{.name = "sink_window"};

/// y = residual + W_o attended,  [q ; k ; v] = W_qkv x,  q and k rotated. Every row is computed on
/// its own and in one order, so it has the same bits in any company.
template <mtp::model_config Config,
          class Backend,
          mtp::scalar S,
          mtp::index_t Window,
          mtp::index_t Sinks>
struct sink_window_attention {
  static_assert(mtp::host_accessible<Backend>,
                "sink_window_attention: the host computes it, so the backend's memory must be the "
                "host's");
  using index_t = mtp::index_t;
  using sum_type = mtp::accumulate_t<S>;
  using matrix = mtp::matrix_view<S, Backend>;
  using input_matrix = mtp::matrix_view<const S, Backend>;
  using sum_matrix = mtp::matrix_view<sum_type, Backend>;

  static constexpr index_t C = Config.hidden_size, E = Config.head_dim();
  static constexpr index_t H = Config.attention.num_attention_heads;
  static constexpr index_t G = Config.num_key_value_heads();
  static constexpr index_t qkv_size = (H + 2 * G) * E;
  static constexpr index_t most_keys = Sinks + Window;  // that a row attends to
  static constexpr index_t rotary_width = E;

  struct layout {
    mtp::parameter qkv;     // [(H + 2G) E, C]: queries, keys, values
    mtp::parameter output;  // [C, H E]

    template <class Cursor>
    static constexpr layout make(Cursor& cursor) {
      layout at;
      at.qkv = cursor.matrix(qkv_size, C);
      at.output = cursor.matrix(C, H * E, mtp::parameter_role::residual);
      return at;
    }
    template <class Visitor>
    void visit(const std::string& prefix, Visitor&& visitor) const {
      visitor(prefix + "self_attn.qkv_proj.weight", qkv);
      visitor(prefix + "self_attn.o_proj.weight", output);
    }
  };

  struct activations {
    matrix qkv;          // [N, (H + 2G) E], rotated
    matrix attended;     // [N, H E]
    sum_matrix weights;  // [N, H (Sinks + Window)]: of the keys of each query, in their order

    template <class Arena>
    static constexpr activations make(Arena& arena, index_t N) {
      const matrix qkv(arena.template take<S>(N * qkv_size), {N, qkv_size});
      const matrix attended(arena.template take<S>(N * H * E), {N, H * E});
      const index_t keys = H * most_keys;
      return {qkv, attended, {arena.template take<sum_type>(N * keys), {N, keys}}};
    }
  };

  struct scratch {
    matrix qkv;       // [N, (H + 2G) E]
    matrix attended;  // [N, H E]
    sum_matrix sums;  // [N, 2 G E]: gradients of keys and values, before they are rounded

    template <class Arena>
    static constexpr scratch make(Arena& arena, index_t N) {
      const matrix qkv(arena.template take<S>(N * qkv_size), {N, qkv_size});
      const matrix attended(arena.template take<S>(N * H * E), {N, H * E});
      return {qkv, attended, {arena.template take<sum_type>(N * 2 * G * E), {N, 2 * G * E}}};
    }
  };

  /// As little as decoding allows: the ring holds the window of the first position that may be
  /// decoded again, up to the last one that was.
  static constexpr index_t rewindable = mtp::row_limits<Config, Backend>::taken_back;
  static constexpr index_t ring = Window + rewindable - 1;

  struct cache {
    matrix rows;  // [slots (Sinks + ring), 2 G E]: keys and values

    /// Those of a position of the sequence in a slot.  [2 G E]
    S* at(index_t slot, index_t position) const {
      const index_t row = position < Sinks ? position : Sinks + (position - Sinks) % ring;
      return rows.data() + (slot * (Sinks + ring) + row) * 2 * G * E;
    }
  };
  template <class Arena>
  static constexpr cache make_cache(Arena& arena, index_t slots) {
    const index_t rows = slots * (Sinks + ring);
    return {matrix(arena.template take<S>(rows * 2 * G * E), {rows, 2 * G * E})};
  }

  template <class Context>
  static void copy_cache(Context&, const cache& kept, index_t to, index_t from) {
    std::copy_n(kept.at(from, 0), (Sinks + ring) * 2 * G * E, kept.at(to, 0));
  }

  static constexpr index_t workspace(index_t N, index_t, index_t threads) {
    using ops = mtp::ops_of<Backend>;
    return (std::max)({ops::template linear_workspace<S>(N, qkv_size, C, threads),
                       ops::template linear_workspace<S>(N, C, H * E, threads),
                       ops::template row_workspace<S>(N, qkv_size, threads)});
  }
  static constexpr index_t decode_workspace(index_t M, index_t threads) {
    using ops = mtp::ops_of<Backend>;
    return (std::max)({ops::template linear_forward_workspace<S>(M, qkv_size, C, threads),
                       ops::template linear_forward_workspace<S>(M, C, H * E, threads),
                       ops::template row_workspace<S>(M, qkv_size, threads)});
  }

  template <class Pass>
  static void forward(const Pass& pass,
                      const layout& at,
                      const activations& a,
                      matrix y,
                      input_matrix x,
                      input_matrix residual) {
    linear_forward(pass.context, a.qkv, x, pass.w.matrix(at.qkv));
    rope_forward(pass.context, queries_and_keys(a.qkv), pass.rope, pass.length, 0);
    for (index_t n = 0; n < a.qkv.extent(0); ++n) {
      const index_t begin = n - n % pass.length;
      attend(a, n, n - begin, [&](index_t p) { return row(a.qkv, begin + p) + H * E; });
    }
    linear_add_forward(pass.context, y, a.attended, pass.w.matrix(at.output), residual);
  }

  template <class Pass>
  static void decode(const Pass& pass,
                     const layout& at,
                     const activations& a,
                     const cache& kept,
                     matrix y,
                     input_matrix x,
                     input_matrix residual) {
    linear_forward(pass.context, a.qkv, x, pass.w.matrix(at.qkv));
    index_t m = 0;
    for (const mtp::row_run& run : pass.runs) {
      for (const index_t end = m + run.rows; m < end; ++m) {
        const index_t position = pass.positions(m);
        const auto turned = queries_and_keys(a.qkv).slice(0, m, 1);
        rope_forward(pass.context, turned, pass.rope, 1, position);
        // A row enters the ring when those before it have read.
        std::copy_n(row(a.qkv, m) + H * E, 2 * G * E, kept.at(run.slot, position));
        attend(a, m, position, [&](index_t p) { return kept.at(run.slot, p); });
      }
    }
    linear_add_forward(pass.context, y, a.attended, pass.w.matrix(at.output), residual);
  }

  template <class Pass>
  static void backward(const Pass& pass,
                       const layout& at,
                       const activations& a,
                       const scratch& d,
                       matrix dx,
                       input_matrix dy,
                       input_matrix x) {
    const index_t N = a.qkv.extent(0);
    linear_backward_weight(pass.context, pass.g.matrix(at.output), dy, a.attended);
    linear_backward_input(pass.context, d.attended, dy, pass.w.matrix(at.output));
    std::fill_n(d.sums.data(), N * 2 * G * E, sum_type{0});
    for (index_t n = 0; n < N; ++n) {
      attend_backward(a, d, n, n % pass.length);
    }
    for (index_t n = 0; n < N; ++n) {
      std::transform(row(d.sums, n), row(d.sums, n) + 2 * G * E, row(d.qkv, n) + H * E, rounded);
    }
    rope_backward(pass.context, queries_and_keys(d.qkv), pass.rope, pass.length, 0);
    linear_backward_weight(pass.context, pass.g.matrix(at.qkv), d.qkv, x);
    linear_backward_input(pass.context, dx, d.qkv, pass.w.matrix(at.qkv));
  }

 private:
  static S rounded(sum_type value) { return static_cast<S>(value); }
  static sum_type scale() { return 1 / std::sqrt(static_cast<sum_type>(E)); }

  template <class T>
  static T* row(const mtp::matrix_view<T, Backend>& rows, index_t n) {
    return rows.data() + n * rows.stride(0);
  }
  /// The columns of qkv that are rotated, as heads.  [N, H + G, E]
  static mtp::view<S, mtp::dims<3>, Backend> queries_and_keys(matrix qkv) {
    return {qkv.data(), {qkv.extent(0), H + G, E}, {qkv.stride(0), E, 1}};
  }

  /// The positions that `position` attends to: the sinks in front of its window, then the window.
  struct seen {
    index_t first;  // of the window
    index_t sinks;
    index_t count;

    explicit seen(index_t position)
        : first((std::max<index_t>)(position - Window + 1, 0)),
          sinks((std::min)(first, Sinks)),
          count(sinks + position - first + 1) {}
    index_t operator[](index_t j) const { return j < sinks ? j : first + j - sinks; }
  };

  static sum_type dot(const S* a, const S* b) {
    sum_type sum = 0;
    for (index_t e = 0; e < E; ++e)
      sum += static_cast<sum_type>(a[e]) * static_cast<sum_type>(b[e]);
    return sum;
  }

  /// Row n of a.attended and of a.weights; at(p) points to keys and values of position p.
  template <class At>
  static void attend(const activations& a, index_t n, index_t position, const At& at) {
    const seen positions(position);
    const S* kept[most_keys];
    for (index_t j = 0; j < positions.count; ++j) kept[j] = at(positions[j]);
    for (index_t h = 0; h < H; ++h) {
      attend(row(a.attended, n) + h * E,
             row(a.weights, n) + h * most_keys,
             row(a.qkv, n) + h * E,
             kept,
             h / (H / G) * E,
             positions.count);
    }
  }
  /// y [E] and weights [count] of a query q [E]; keys stand at kept[j] + head, values G E behind.
  static void attend(
      S* y, sum_type* weights, const S* q, const S* const* kept, index_t head, index_t count) {
    for (index_t j = 0; j < count; ++j) weights[j] = scale() * dot(q, kept[j] + head);
    const sum_type largest = *std::max_element(weights, weights + count);
    sum_type total = 0;
    for (index_t j = 0; j < count; ++j) total += weights[j] = std::exp(weights[j] - largest);
    sum_type sums[E] = {};
    for (index_t j = 0; j < count; ++j) {
      weights[j] /= total;
      const S* const v = kept[j] + head + G * E;
      for (index_t e = 0; e < E; ++e) sums[e] += weights[j] * static_cast<sum_type>(v[e]);
    }
    std::transform(sums, sums + E, y, rounded);
  }

  /// With weights w_j and da the gradient of what row n attended to:
  ///     dv_j += w_j da,  ds_j = w_j (da v_j - sum_l w_l da v_l) / sqrt(E),  dq = sum_j ds_j k_j,
  ///     dk_j += ds_j q
  static void attend_backward(const activations& a, const scratch& d, index_t n, index_t position) {
    const seen positions(position);
    for (index_t h = 0; h < H; ++h) {
      const index_t head = h / (H / G) * E;
      const S* const q = row(a.qkv, n) + h * E;
      const S* const da = row(d.attended, n) + h * E;
      const sum_type* const w = row(a.weights, n) + h * most_keys;
      const auto key_of = [&](index_t j) {
        return row(a.qkv, n - position + positions[j]) + H * E + head;
      };
      sum_type dw[most_keys], mean = 0, dq[E] = {};
      for (index_t j = 0; j < positions.count; ++j) {
        dw[j] = dot(da, key_of(j) + G * E);
        mean += w[j] * dw[j];
      }
      for (index_t j = 0; j < positions.count; ++j) {
        const S* const k = key_of(j);
        sum_type* const dk = row(d.sums, n - position + positions[j]) + head;
        const sum_type ds = scale() * w[j] * (dw[j] - mean);
        for (index_t e = 0; e < E; ++e) {
          dq[e] += ds * static_cast<sum_type>(k[e]);
          dk[e] += ds * static_cast<sum_type>(q[e]);
          dk[G * E + e] += w[j] * static_cast<sum_type>(da[e]);
        }
      }
      std::transform(dq, dq + E, row(d.qkv, n) + h * E, rounded);
    }
  }
};

template <>
struct mtp::attention_traits<sink_window> {
  template <mtp::model_config Config, class Backend, mtp::scalar S>
  using layer = sink_window_attention<Config, Backend, S, 16, 2>;
};
