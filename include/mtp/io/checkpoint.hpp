// Saves and resumes runs. All of a run is in one safetensors file, which is written whole or not at
// all.
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/checksum.hpp"
#include "mtp/io/describe.hpp"
#include "mtp/io/parameters.hpp"
#include "mtp/io/safetensors.hpp"
#include "mtp/model/language_model.hpp"
#include "mtp/model/parameter.hpp"
#include "mtp/train/trainer.hpp"

namespace mtp::inline MTP_ABI::io {

namespace checkpoint_detail {

using text_map = std::map<std::string, std::string>;

/// Numbers as text that reads back to the same bits.
template <class Number>
std::string to_text(Number value) {
  std::array<char, 64> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  return {digits.data(), end};
}

/// Throws unless the values are the same.
inline void check_value(const std::filesystem::path& path,
                        const std::string& key,
                        const std::string& expected,
                        const std::string& found) {
  check(found == expected,
        "checkpoint: ",
        path.string(),
        ": ",
        key,
        " differs: expected ",
        expected,
        ", got ",
        found);
}

/// Throws unless the file has every entry of `wanted` with the same value; the message names the
/// first that differs.
inline void check_entries(const safetensors_file& file,
                          const std::filesystem::path& path,
                          const text_map& wanted) {
  for (const auto& [key, value] : wanted) {
    const auto found = file.metadata().find(key);
    check(found != file.metadata().end(),
          "checkpoint: ",
          path.string(),
          " has no entry \"",
          key,
          "\"; is it a checkpoint?");
    check_value(path, key, value, found->second);
  }
}

/// Throws unless the file describes `config`; the message names every entry that differs.
inline void check_configuration(const safetensors_file& file,
                                const std::filesystem::path& path,
                                const model_config& config) {
  std::ostringstream lines;
  visit_differences(config,
                    file.metadata(),
                    [&](const char* name, const std::string& expected, const std::string& got) {
                      check(!got.empty(),
                            "checkpoint: ",
                            path.string(),
                            " has no entry \"config.",
                            name,
                            "\"; is it a checkpoint?");
                      lines << "\n  config." << name << " differs: expected " << expected
                            << ", got " << got;
                    });
  check(lines.str().empty(), "checkpoint: ", path.string(), " is of another model:", lines.str());
}

inline std::int64_t read_count(const safetensors_file& file,
                               const std::filesystem::path& path,
                               const std::string& key) {
  const auto found = file.metadata().find(key);
  std::int64_t value = -1;
  if (found != file.metadata().end()) {
    const std::string& text = found->second;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
    value = result.ec == std::errc() && result.ptr == text.data() + text.size() ? value : -1;
  }
  check(value >= 0,
        "checkpoint: ",
        path.string(),
        ": the entry \"",
        key,
        "\" is not a number of steps");
  return value;
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
      {"run.elements", std::string(element_name(element_of<typename Trainer::scalar_type>()))},
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

/// save_checkpoint with additional entries.
template <model_config Config, class Backend, scalar S, class Element>
void save(const std::filesystem::path& path,
          trainer<Config, Backend, S, Element>& run,
          text_map metadata) {
  namespace detail = checkpoint_detail;
  using model_type = language_model<Config, Backend, S>;
  using sum_type = accumulate_t<S>;
  std::vector<tensor_source> sources;
  const auto add = [&](const std::string& prefix, std::vector<sum_type> array) {
    auto host = std::make_shared<const std::vector<sum_type>>(std::move(array));
    detail::add_sources<sum_type, Backend>(sources, model_type::layout, prefix, std::move(host));
  };
  const auto on_host = [](parameter_array<sum_type, Backend> array) {
    return detail::host_copy<sum_type, Backend>(array.data(), model_type::layout.storage);
  };
  add("", run.optimizer().master_on_host(run.model()));
  add("optimizer.first.", on_host(run.optimizer().first()));
  add("optimizer.second.", on_host(run.optimizer().second()));
  metadata.merge(detail::describe_run(run));
  metadata.merge(describe(Config));
  for (const auto& entry : detail::later_entries(run)) {
    metadata.emplace(entry.key, entry.value);
  }
  metadata.emplace("format", "mtp checkpoint 1");
  metadata.emplace("state.step", detail::to_text(run.state().step));
  metadata.emplace("state.updates", detail::to_text(run.optimizer().updates()));
  metadata.emplace("state.skipped", detail::to_text(run.state().skipped));
  metadata.emplace("state.skipped_in_a_row", detail::to_text(run.state().skipped_in_a_row));
  write_safetensors(path, sources, metadata);
}

/// Throws unless a file is a checkpoint of this model and this run, at any step.
template <model_config Config, class Backend, scalar S, class Element>
void check_run(const safetensors_file& file,
               const std::filesystem::path& path,
               const trainer<Config, Backend, S, Element>& run) {
  namespace detail = checkpoint_detail;
  check(file.verify(), "checkpoint: ", path.string(), " has no checksum; is it a checkpoint?");
  detail::check_entries(file, path, {{"format", "mtp checkpoint 1"}});
  detail::check_configuration(file, path, Config);
  detail::check_tensors<accumulate_t<S>>(file,
                                         path,
                                         language_model<Config, Backend, S>::layout,
                                         {"", "optimizer.first.", "optimizer.second."},
                                         false);
  for (const auto& entry : detail::later_entries(run)) {
    const auto found = file.metadata().find(entry.key);
    detail::check_value(path,
                        entry.key,
                        entry.value,
                        found != file.metadata().end() ? found->second : entry.where_missing);
  }
  detail::check_entries(file, path, detail::describe_run(run));
}

}  // namespace checkpoint_detail

/// Writes parameters, moments and state of a run. The same run gives the same bytes. Parameters are
/// written in the precision of training: f32 for a model with bf16 elements. Throws mtp::error if
/// writing fails; an earlier checkpoint is then unchanged.
template <model_config Config, class Backend, scalar S, class Element>
void save_checkpoint(const std::filesystem::path& path, trainer<Config, Backend, S, Element>& run) {
  checkpoint_detail::save(path, run, {});
}

/// Restores a run that save_checkpoint wrote: its next steps have the bits of a run that was never
/// interrupted. Throws mtp::error, with nothing changed, for a file that is damaged or of another
/// model, and for a run with other settings, other names of schedules or another text. A file from
/// any backend is accepted. A file without names of schedules is taken to use the library's own.
template <model_config Config, class Backend, scalar S, class Element>
void load_checkpoint(const std::filesystem::path& path, trainer<Config, Backend, S, Element>& run) {
  namespace detail = checkpoint_detail;
  using model_type = language_model<Config, Backend, S>;
  using sum_type = accumulate_t<S>;
  const safetensors_file file(path);
  detail::check_run(file, path, run);
  const trainer_state restored{detail::read_count(file, path, "state.step"),
                               detail::read_count(file, path, "state.skipped"),
                               detail::read_count(file, path, "state.skipped_in_a_row")};
  const std::int64_t updates = detail::read_count(file, path, "state.updates");
  const auto read = [&](const std::string& prefix) {
    return detail::read_array<sum_type, Backend>(file, model_type::layout, prefix);
  };
  const auto values = read("");
  const auto first = read("optimizer.first.");
  const auto second = read("optimizer.second.");
  detail::put(run.model().values(), values);
  detail::put(run.optimizer().master(run.model()), values);
  detail::put(run.optimizer().first(), first);
  detail::put(run.optimizer().second(), second);
  run.optimizer().set_updates(updates);
  run.set_state(restored);
}

/// @cond
// Messages for calls that match no declaration above.
template <class Call = void>
void save_checkpoint(mtp::detail::any, mtp::detail::any) {
  static_assert(mtp::detail::never<Call>,
                "save_checkpoint: expected a path and a trainer that may change");
}
template <class Call = void>
void load_checkpoint(mtp::detail::any, mtp::detail::any) {
  static_assert(mtp::detail::never<Call>,
                "load_checkpoint: expected a path and a trainer; a model alone is read by "
                "load_parameters");
}
/// @endcond

}  // namespace mtp::inline MTP_ABI::io
