// What a run is, as text: for checkpoints, and for ranks that have to be started alike.
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "mtp/core/backend.hpp"
#include "mtp/core/checksum.hpp"
#include "mtp/core/config.hpp"
#include "mtp/core/scalar.hpp"
#include "mtp/model/config_text.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/train/own_schedule.hpp"
#include "mtp/train/train_options.hpp"

namespace mtp::inline MTP_ABI::detail {

using text_map = std::map<std::string, std::string>;

/// Numbers as text that reads back to the same bits.
template <class Number>
std::string to_text(Number value) {
  std::array<char, 64> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  return {digits.data(), end};
}

/// The settings that a resumed run must share with the saved one to give the same bits.
template <class Trainer>
text_map describe_run(const Trainer& trainer) {
  const auto& o = trainer.options();
  const auto& data = trainer.data();
  xxh64 text;
  text.update(std::as_bytes(data.text()));
  text.update(std::as_bytes(data.document_starts()));
  text_map run{
      {"run.elements", scalar_traits<typename Trainer::scalar_type>::file_name},
      {"run.batch", to_text(o.batch)},
      {"run.length", to_text(o.length)},
      {"run.accumulation", to_text(o.accumulation)},
      {"run.learning_rate.total_steps", to_text(o.learning_rate.total_steps)},
      {"run.beta1", to_text(o.optimizer.beta1)},
      {"run.beta2", to_text(o.optimizer.beta2)},
      {"run.epsilon", to_text(o.optimizer.epsilon)},
      {"run.weight_decay", to_text(o.optimizer.weight_decay)},
      {"run.clip_norm", to_text(o.clip_norm)},
      {"run.max_bad_steps", to_text(o.max_bad_steps)},
      {"run.loss.lambda", to_text(o.loss.lambda)},
      {"run.loss.normalization", to_text(static_cast<int>(o.loss.normalization))},
      {"run.loss.scope", to_text(static_cast<int>(o.loss.scope))},
      {"run.data.seed", to_text(data.options().seed.value)},
      {"run.data.validation_share", to_text(data.options().validation_share)},
      {"run.data.text", to_hex(text.digest())},
  };
  for (std::size_t k = 0; k < o.loss.weights.size(); ++k) {
    run.emplace("run.loss.weight." + to_text(k), to_text(o.loss.weights[k]));
  }
  if (!o.learning_rate.own) {
    run.emplace("run.learning_rate.peak", to_text(o.learning_rate.peak));
    run.emplace("run.learning_rate.floor", to_text(o.learning_rate.floor));
    run.emplace("run.learning_rate.warmup_steps", to_text(o.learning_rate.warmup_steps));
  }
  if (!o.lambda.own) {
    run.emplace("run.lambda.first", to_text(o.lambda.first));
    run.emplace("run.lambda.second", to_text(o.lambda.second));
    run.emplace("run.lambda.switch_at", to_text(o.lambda.switch_at));
  }
  return run;
}

/// The name of a schedule in a checkpoint. Names from programs are quoted, so that none equals one
/// of the library's.
template <class Value>
std::string schedule_name(const own_schedule<Value>& own, const char* otherwise) {
  return own ? "own schedule \"" + own.name() + '"' : otherwise;
}

/// The checksum of a mask, or "none".
inline std::string mask_name(std::span<const std::uint8_t> mask) {
  if (mask.empty()) {
    return "none";
  }
  xxh64 sum;
  sum.update(std::as_bytes(mask));
  return to_hex(sum.digest());
}

/// An entry that earlier checkpoints lack, and its meaning when it is missing.
struct later_entry {
  std::string key, value, where_missing;
};

/// The entries that describe_run does not have: names of schedules, the mask, and how experts are
/// balanced.
template <class Trainer>
std::vector<later_entry> later_entries(const Trainer& trainer) {
  const auto& o = trainer.options();
  constexpr auto rate = "warm-up and cosine", lambda = "switch", weights = "constant";
  return {
      {"run.learning_rate.schedule", schedule_name(o.learning_rate.own, rate), rate},
      {"run.lambda.schedule", schedule_name(o.lambda.own, lambda), lambda},
      {"run.loss.weights.schedule", schedule_name(o.weights, weights), weights},
      {"run.data.mask", mask_name(trainer.data().mask()), mask_name({})},
      {"run.loss.aux_loss_alpha", to_text(o.loss.aux_loss_alpha), to_text(0.0)},
      {"run.bias_update_speed", to_text(o.bias_update_speed), to_text(default_bias_update_speed)},
  };
}

/// The checksum of the values of all parameters.
template <class S, class Backend>
std::string checksum_of(const parameter_array<S, Backend>& values) {
  std::vector<S> host(static_cast<std::size_t>(values.count()));
  backend_traits<Backend>::copy_to_host(host.data(), values.data(), host.size() * sizeof(S));
  xxh64 sum;
  sum.update(std::as_bytes(std::span(host)));
  return to_hex(sum.digest());
}

/// What ranks that train together must have in common, apart from parameters.
template <class Trainer>
text_map describe_program(const Trainer& trainer) {
  text_map start = describe_run(trainer);
  start.merge(config_entries(Trainer::model_type::config));
  for (const auto& entry : later_entries(trainer)) {
    start.emplace(entry.key, entry.value);
  }
  start.emplace("mtp.version",
                to_text(MTP_VERSION_MAJOR) + "." + to_text(MTP_VERSION_MINOR) + "." +
                    to_text(MTP_VERSION_PATCH));
  return start;
}

/// The same, with the options of ranks.
template <class Trainer>
text_map describe_options(const Trainer& trainer) {
  text_map start = describe_program(trainer);
  const auto& o = trainer.options();
  start.emplace("options.sharding", to_text(static_cast<int>(o.sharding)));
  start.emplace("options.reduction", to_text(static_cast<int>(o.reduction)));
  start.emplace("options.bucket_elements", to_text(o.bucket_elements));
  return start;
}

/// What ranks that train parts of one model must have in common.
template <class Trainer>
text_map describe_part(const Trainer& trainer) {
  text_map start = describe_options(trainer);
  start.emplace("group.rank", to_text(trainer.group().rank()));
  start.emplace("group.size", to_text(trainer.group().size()));
  return start;
}

/// What ranks that train copies of a model together must have in common.
template <class Trainer>
text_map describe_start(Trainer& trainer) {
  text_map start = describe_options(trainer);
  start.emplace("model.parameters", checksum_of(trainer.model().values()));
  return start;
}

}  // namespace mtp::inline MTP_ABI::detail
