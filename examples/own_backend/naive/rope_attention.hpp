// Rotation and attention, one after the other; other backends gain by doing both at once.
// Contracts: mtp/ops/rope_attention.hpp.
#pragma once

#include "attention.hpp"
#include "rows.hpp"

namespace naive_types {

struct rope_attention_ops {
  static void rope_attention_forward(context& run,
                                     heads out,
                                     matrix statistics,
                                     heads q,
                                     heads k,
                                     in_heads v,
                                     in_matrix table,
                                     index_t batch) {
    row_ops::rope_forward(run, q, table, q.extent(0) / batch, 0);
    row_ops::rope_forward(run, k, table, q.extent(0) / batch, 0);
    attention_ops::attention_forward(run, out, statistics, q, k, v, batch);
  }
  static void rope_attention_backward(context& run,
                                      heads dq,
                                      heads dk,
                                      heads dv,
                                      in_heads dout,
                                      in_heads q,
                                      in_heads k,
                                      in_heads v,
                                      in_heads out,
                                      in_matrix statistics,
                                      in_matrix table,
                                      index_t batch) {
    attention_ops::attention_backward(run, dq, dk, dv, dout, q, k, v, out, statistics, batch);
    row_ops::rope_backward(run, dq, table, q.extent(0) / batch, 0);
    row_ops::rope_backward(run, dk, table, q.extent(0) / batch, 0);
  }
  static void rope_attention_cached_forward(context& run,
                                            heads out,
                                            cache kept,
                                            heads q,
                                            heads k,
                                            in_heads v,
                                            in_matrix table,
                                            in_positions where,
                                            runs sequences) {
    for (index_t m = 0; m < q.extent(0); ++m) {
      row_ops::rope_forward(run, q.slice(0, m, 1), table, 1, where(m));
      row_ops::rope_forward(run, k.slice(0, m, 1), table, 1, where(m));
    }
    attention_ops::attention_cached_forward(run, out, kept, q, k, v, where, sequences);
  }
};

}  // namespace naive_types
