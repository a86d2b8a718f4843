#include "trained_model.hpp"
#include "training_models.hpp"

namespace mtp::bench {

std::unique_ptr<training_run> make_small_bf16(head_kind head, int depth, int threads) {
  return training_choice(head, depth, threads)
      .offer<small, bf16, 16, 256, head_kind::none, 0>()
      .offer<small, bf16, 16, 256, head_kind::sequential, 4>()
      .offer<small, bf16, 16, 256, head_kind::parallel, 3>()
      .offer<small, bf16, 16, 256, head_kind::recurrent, 4>()
      .offer<small, bf16, 16, 256, head_kind::independent, 4>()
      .take();
}

}  // namespace mtp::bench
