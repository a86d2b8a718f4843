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
                                            in_positions where) {
    if (q.extent(0) == 0) return;
    row_ops::rope_forward(run, q, table, q.extent(0), where(0));
    row_ops::rope_forward(run, k, table, q.extent(0), where(0));
    attention_ops::attention_cached_forward(run, out, kept, q, k, v, where);
  }
};

}  // namespace naive_types
