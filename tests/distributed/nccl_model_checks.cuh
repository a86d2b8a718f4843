// Models that two GPUs have parts of, by NCCL, against the CPU: parameters, losses, gradients,
// training steps and text. With threads as GPUs and a stub of NCCL.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <vector>

#include "support/cuda_cases.hpp"
// The backend comes first.
#include "distributed/nccl_model.hpp"
#include "model/agreement_checks.hpp"
#include "mtp/distributed/nccl_tensor_ranks.cuh"
#include "mtp/distributed/thread_ranks.hpp"

namespace mtp::test {

/// What each of two GPUs computes.
template <class S>
std::vector<model_trace> trace_parts_on_gpus(reduction_order order) {
  std::vector<model_trace> all(2);
  run_ranks(2, [&](thread_communicator& hosts) {
    cuda_context context({.workspace_bytes = 1 << 22, .product_bytes = 1 << 16});
    nccl_communicator group(context, hosts);
    nccl_tensor_ranks ranks(group, order);
    context.join(ranks);
    all[static_cast<std::size_t>(hosts.rank())] = trace<config_of_parts<S>(), cuda, S>(context);
  });
  return all;
}

/// Two GPUs agree with two ranks of the CPU, and with each other to the bit where both have the
/// same.
template <class S>
void check_parts() {
  const auto expected = trace_parts_on_cpu<S>();
  const long graphs = emulation::counts().graph_launches;
  for (const auto order : {reduction_order::by_rank, reduction_order::engine}) {
    const auto actual = trace_parts_on_gpus<S>(order);
    for (std::size_t rank = 0; rank < 2; ++rank) {
      CAPTURE(rank);
      check_agreement<S>(actual[rank], expected[rank]);
    }
    // What all ranks have, all ranks have with the same bits.
    CHECK(same_bits(actual[1].losses, actual[0].losses));
    CHECK(same_bits(actual[1].step_losses, actual[0].step_losses));
    CHECK(same_bits(actual[1].gradient_norms, actual[0].gradient_norms));
    CHECK(same_text(actual[1].plain, actual[0].plain));
    CHECK(same_text(actual[1].speculative, actual[0].speculative));
    for (const auto& entry : actual[0].trained) {
      const std::string& name = entry.first;
      if (name.ends_with("norm.weight") || name.ends_with("eh_proj.weight")) {
        CAPTURE(name);
        CHECK(same_bits(actual[1].trained.at(name), entry.second));
        CHECK(same_bits(actual[1].gradients.at(name), actual[0].gradients.at(name)));
      }
    }
    if (order == reduction_order::by_rank) {
      CHECK(emulation::counts().graph_launches > graphs);  // decoding, with what it exchanges
      check_same_bits(trace_parts_on_gpus<S>(order)[1], actual[1]);
    }
  }
}

}  // namespace mtp::test
