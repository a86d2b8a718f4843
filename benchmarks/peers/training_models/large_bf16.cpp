#include "trained_model.hpp"
#include "training_models.hpp"

namespace mtp::bench {

std::unique_ptr<training_run> make_large_bf16(head_kind head, int depth, int threads) {
  return training_choice(head, depth, threads)
      .offer<large, bf16, 4, 512, head_kind::none, 0>()
      .offer<large, bf16, 4, 512, head_kind::sequential, 4>()
      .offer<large, bf16, 4, 512, head_kind::parallel, 4>()
      .offer<large, bf16, 4, 512, head_kind::recurrent, 4>()
      .offer<large, bf16, 4, 512, head_kind::independent, 4>()
      .take();
}

}  // namespace mtp::bench
