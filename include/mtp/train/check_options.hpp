// The checks of the options of a run.
#pragma once

#include <cmath>

#include "mtp/core/error.hpp"
#include "mtp/model/head_kind.hpp"
#include "mtp/train/train_options.hpp"

namespace mtp::inline MTP_ABI::detail {

/// Throws mtp::error for options that no trainer can have.
template <model_config Config>
void check_options(const train_options<Config>& options) {
  check(options.batch > 0, "trainer: expected a positive batch, got ", options.batch);
  check(options.length > 0, "trainer: expected a positive length, got ", options.length);
  check(options.accumulation > 0,
        "trainer: expected a positive accumulation, got ",
        options.accumulation);
  constexpr index_t most = index_t{1} << 48;  // counts of tokens are multiplied further
  check(options.length <= most / options.batch / options.accumulation,
        "trainer: a step of batch ",
        options.batch,
        ", length ",
        options.length,
        " and accumulation ",
        options.accumulation,
        " has too many tokens");
  options.learning_rate.validate("trainer");
  options.lambda.validate("trainer");
  options.loss.validate("trainer");
  check(Config.prediction.kind.parameters != head_parameters::none ||
            options.loss.scope != gradient_scope::heads_only,
        "trainer: gradient_scope::heads_only trains nothing with the head kind ",
        name_of(Config.prediction.kind),
        ", which has no parameters");
  check(options.clip_norm >= 0,
        "trainer: expected a clip_norm of at least 0, got ",
        options.clip_norm);
  check(options.bias_update_speed >= 0 && std::isfinite(options.bias_update_speed),
        "trainer: expected a finite bias_update_speed of at least 0, got ",
        options.bias_update_speed);
  check(options.max_bad_steps > 0,
        "trainer: expected a positive max_bad_steps, got ",
        options.max_bad_steps);
  check(options.bucket_elements > 0,
        "trainer: expected positive bucket_elements, got ",
        options.bucket_elements);
}

}  // namespace mtp::inline MTP_ABI::detail
