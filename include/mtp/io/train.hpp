// A training loop: steps, validation, checkpoints, and a callback that may end it.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <type_traits>

#include "mtp/core/error.hpp"
#include "mtp/distributed/agreement.hpp"
#include "mtp/distributed/communicator.hpp"
#include "mtp/io/checkpoint.hpp"
#include "mtp/io/first_rank.hpp"
#include "mtp/io/kept_checkpoints.hpp"
#include "mtp/io/safetensors.hpp"
#include "mtp/train/trainer.hpp"

namespace mtp::inline MTP_ABI::io {

/// The answer of the callback of train.
enum class after_step {
  go_on,  ///< the next step
  stop,   ///< save and return
};

/// The options of train.
struct train_loop {
  std::int64_t steps = 0;              ///< how many in all, including those before a resume
  std::int64_t validate_every = 0;     ///< steps from one validation to the next; 0: none
  index_t validation_windows = 16;     ///< the most held-out windows of a validation
  std::filesystem::path checkpoint{};  ///< the latest; empty: nothing is saved
  std::int64_t save_every = 0;         ///< steps from one save to the next; 0: only at the end
  index_t keep = 1;                    ///< the latest checkpoints, as save_and_keep counts them
};

/// The argument of the callback of train.
template <int Depth>
struct train_report {
  step_report<Depth> step;                       ///< the result of the step
  std::optional<loss_report<Depth>> validation;  ///< if there was one after this step
  bool best = false;  ///< whether it has the lowest validation loss of depth 0 so far
};

/// The result of train.
struct train_outcome {
  std::int64_t steps = 0;                                      ///< done in all
  bool stopped = false;                                        ///< by the callback
  double best_loss = std::numeric_limits<double>::infinity();  ///< lowest validation loss, nats
  std::int64_t best_step = 0;                                  ///< the step of that loss; 0: none
};

/// The file in which train keeps the run of the lowest validation loss: next to the latest one,
/// with ".best" before the extension.
inline std::filesystem::path best_checkpoint(const std::filesystem::path& latest) {
  auto name = latest.stem();
  name += ".best";
  name += latest.extension();
  return latest.parent_path() / name;
}

namespace train_detail {

/// The lowest validation loss of the run that is resumed, from its best checkpoint. On rank 0.
template <class Trainer>
void read_best(train_outcome& outcome, Trainer& run, const train_loop& loop) {
  const auto path = best_checkpoint(loop.checkpoint);
  std::error_code failure;
  if (run.state().step == 0 || !std::filesystem::exists(path, failure)) {
    return;
  }
  const safetensors_file file(path);
  checkpoint_detail::check_run(file, path, run);
  checkpoint_detail::check_entries(
      file, path, {{"validation.windows", checkpoint_detail::to_text(loop.validation_windows)}});
  const auto found = file.metadata().find("validation.loss");
  const std::string text = found != file.metadata().end() ? found->second : "";
  const char* const end = text.data() + text.size();
  double loss = 0;
  const auto read = std::from_chars(text.data(), end, loss);
  check(read.ec == std::errc() && read.ptr == end && std::isfinite(loss),
        "train: ",
        path.string(),
        ": the entry \"validation.loss\" is not a loss");
  outcome.best_loss = loss;
  outcome.best_step = checkpoint_detail::read_count(file, path, "state.step");
}

/// The same, on every rank.
template <class Trainer>
void restore_best(train_outcome& outcome, Trainer& run, const train_loop& loop) {
  auto& group = run.group();
  detail::on_first_rank(group, [&](auto&) { read_best(outcome, run, loop); });
  if (group.size() > 1) {
    group.broadcast(std::span<double>(&outcome.best_loss, 1), 0);
    group.broadcast(std::span<std::int64_t>(&outcome.best_step, 1), 0);
  }
}

/// Throws mtp::error, on all ranks, for options that one of them refuses or has different.
template <class Trainer>
void check_loop(Trainer& run, const train_loop& loop) {
  together(run.group(), [&] {
    check(loop.steps >= 0 && loop.validate_every >= 0 && loop.save_every >= 0,
          "train: expected steps, validate_every and save_every of at least 0, got ",
          loop.steps,
          ", ",
          loop.validate_every,
          " and ",
          loop.save_every);
    check(loop.validation_windows > 0,
          "train: expected a positive number of validation_windows, got ",
          loop.validation_windows);
    check(loop.validate_every == 0 || run.data().validation_windows() > 0,
          "train: validate_every is ",
          loop.validate_every,
          ", but the dataset holds nothing out");
    check(loop.keep >= 1, "train: expected keep of at least 1, got ", loop.keep);
    check(loop.save_every == 0 || !loop.checkpoint.empty(),
          "train: save_every is ",
          loop.save_every,
          ", but there is no checkpoint to save to");
  });
  if (run.group().size() == 1) return;
  using checkpoint_detail::to_text;
  agree(run.group(),
        {{"loop.steps", to_text(loop.steps)},
         {"loop.validate_every", to_text(loop.validate_every)},
         {"loop.validation_windows", to_text(loop.validation_windows)},
         {"loop.save_every", to_text(loop.save_every)},
         {"loop.saves", loop.checkpoint.empty() ? "no" : "yes"}});
}

/// Whether any rank wants to stop.
template <class Trainer>
bool any_stops(Trainer& run, bool stops) {
  std::int32_t answer = stops ? 1 : 0;
  if (run.group().size() > 1) {
    run.group().all_reduce(std::span<std::int32_t>(&answer, 1), reduction::max);
  }
  return answer != 0;
}

/// train, with any of the trainers.
template <class Trainer, class Callback>
train_outcome run_loop(Trainer& run, const train_loop& loop, Callback& callback) {
  using report_type = train_report<Trainer::model_type::config.prediction.depth>;
  using answer = std::invoke_result_t<Callback&, const report_type&>;
  static_assert(is_whole<Trainer::model_type::config>,
                "train: ranks have parts of this model (tensor_parallel_size); call step(), and "
                "save_checkpoint");
  static_assert(std::is_void_v<answer> || std::is_same_v<answer, after_step>,
                "train: the callback must return nothing or mtp::io::after_step");
  train_detail::check_loop(run, loop);
  const bool saves = !loop.checkpoint.empty();
  train_outcome outcome;
  if (saves && loop.validate_every > 0) {
    train_detail::restore_best(outcome, run, loop);
  }
  const auto due = [&](std::int64_t every) { return every > 0 && run.state().step % every == 0; };
  while (run.state().step < loop.steps && !outcome.stopped) {
    report_type report{.step = run.step(), .validation = {}};
    if (due(loop.validate_every)) {
      report.validation = run.validate(loop.validation_windows);
      const auto& next = report.validation->depths[0];
      report.best = next.targets > 0 && next.loss < outcome.best_loss;
      if (report.best) {
        if (saves) {
          checkpoint_detail::save(
              best_checkpoint(loop.checkpoint),
              run,
              {{"validation.loss", checkpoint_detail::to_text(next.loss)},
               {"validation.windows", checkpoint_detail::to_text(loop.validation_windows)}});
        }
        outcome.best_loss = next.loss;
        outcome.best_step = run.state().step;
      }
    }
    if constexpr (std::is_void_v<answer>) {
      callback(static_cast<const report_type&>(report));
    } else {
      outcome.stopped = train_detail::any_stops(
          run, callback(static_cast<const report_type&>(report)) == after_step::stop);
    }
    if (saves && (outcome.stopped || run.state().step >= loop.steps || due(loop.save_every))) {
      save_and_keep(loop.checkpoint, run, loop.keep);
    }
  }
  outcome.steps = run.state().step;
  return outcome;
}

}  // namespace train_detail

/// Trains up to loop.steps. After each step, in this order: validation if it is due, the best
/// checkpoint if its loss of depth 0 is the lowest so far, callback(report), the latest checkpoint
/// if it is due or the run ends.
///
///     const mtp::io::train_loop loop{.steps = 1000, .validate_every = 100, .checkpoint = "run"};
///     mtp::io::train(trainer, loop, [](const auto& report) {
///       return report.step.loss.total < 0.1 ? mtp::io::after_step::stop
///                                           : mtp::io::after_step::go_on;
///     });
///
/// To resume, load the latest checkpoint before the call, or with load_newest_checkpoint the newest
/// one that is whole. The best checkpoint then stays until a better one replaces it; it must be of
/// the same run and the same number of windows. A run from step 0 overwrites both. If all steps are
/// done already, nothing happens.
///
/// Throws mtp::error for invalid options and for a best checkpoint of another run, before the first
/// step. Exceptions of a step, a save or the callback pass through; the trainer has then completed
/// its last whole step and can go on.
///
/// Of several ranks all call it, with the same options; if one refuses its own, or has others, all
/// throw. The callback is called on every rank, and
/// the run stops if one of them says so; files are those of rank 0. If a save fails, all ranks
/// throw. If a step or the callback throws on one rank, the others end when they have waited for it
/// too long.
template <model_config Config,
          class Backend,
          scalar S,
          class Element,
          class Communicator,
          class Callback>
train_outcome train(trainer<Config, Backend, S, Element, Communicator>& run,
                    const train_loop& loop,
                    Callback&& callback) {
  return train_detail::run_loop(run, loop, callback);
}

/// The same without a callback.
template <model_config Config, class Backend, scalar S, class Element, class Communicator>
train_outcome train(trainer<Config, Backend, S, Element, Communicator>& run,
                    const train_loop& loop) {
  return train(run, loop, [](const train_report<Config.prediction.depth>&) {});
}

}  // namespace mtp::inline MTP_ABI::io
