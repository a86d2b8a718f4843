// The tag of a backend of one's own, what its operations run on, and where its memory lies: that of
// the host, weights row by row. It computes in double precision, in plain loops.
#pragma once

#include <span>

#include "mtp/backend/host.hpp"
#include "mtp/core/cache_view.hpp"
#include "mtp/core/view.hpp"
#include "mtp/core/weight.hpp"

struct naive {};
struct naive_ops;  // in backend.hpp, behind the operations

/// One thread, and no memory of its own: operations here may take a std::vector.
struct naive_context {
  int threads() const { return 1; }
  void reserve(mtp::index_t) {}
};

// Complete before the first operation is compiled, because weight_view asks it where elements lie.
template <>
struct mtp::backend_traits<naive> : mtp::host_backend<naive_context> {
  using ops = naive_ops;
};
static_assert(mtp::backend<naive>);

namespace naive_types {
using mtp::index_t;
using mtp::token_t;
using context = naive_context;
using vector = mtp::vector_view<double, naive>;
using in_vector = mtp::vector_view<const double, naive>;
using matrix = mtp::matrix_view<double, naive>;
using in_matrix = mtp::matrix_view<const double, naive>;
using heads = mtp::view<double, mtp::dims<3>, naive>;
using in_heads = mtp::view<const double, mtp::dims<3>, naive>;
using weight = mtp::weight_view<double, naive>;
using in_weight = mtp::weight_view<const double, naive>;
using cache = mtp::cache_view<double, naive>;
using tokens = mtp::vector_view<token_t, naive>;
using in_tokens = mtp::vector_view<const token_t, naive>;
using in_positions = mtp::vector_view<const index_t, naive>;
using runs = std::span<const mtp::row_run>;
}  // namespace naive_types
