// What training_peer trains besides the small model in f32. Each file is one size and one type, and
// takes minutes to compile.
#pragma once

#include <memory>

#include "models.hpp"

namespace mtp::bench {

/// 16 rows of 256 tokens. Nothing where the file has no such head.
std::unique_ptr<training_run> make_small_bf16(head_kind head, int depth, int threads);
/// 4 rows of 512 tokens.
std::unique_ptr<training_run> make_large_f32(head_kind head, int depth, int threads);
std::unique_ptr<training_run> make_large_bf16(head_kind head, int depth, int threads);

}  // namespace mtp::bench
