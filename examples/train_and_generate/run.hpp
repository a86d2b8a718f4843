// The program for one model: train, save, decode both ways, present.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "decoding.hpp"
#include "models.hpp"
#include "mtp/distributed/agreement.hpp"
#include "mtp/io/checksum.hpp"
#include "mtp/mtp.hpp"
#include "options.hpp"
#include "outcome.hpp"
#include "prompts.hpp"
#include "run_folder.hpp"
#include "run_result.hpp"
#include "together.hpp"
#include "training.hpp"

namespace example {

inline std::string checksum_of(const std::vector<std::uint8_t>& bytes) {
  mtp::io::xxh64 checksum;
  checksum.update(std::as_bytes(std::span(bytes)));
  return "xxh64:" + mtp::io::to_hex(checksum.digest());
}

/// `backend` says in a few words what the context runs on. Files, text and report are those of rank
/// 0; all ranks train.
template <mtp::model_config Config, class Backend, mtp::scalar S, class Group>
int run(const program_options& options,
        mtp::context<Backend>& context,
        const std::string& backend,
        Group& group) {
  using model_type = mtp::language_model<Config, Backend, S>;
  using trainer_type = mtp::trainer<Config, Backend, S, std::uint8_t, Group>;
  const bool is_first = group.rank() == 0;
  text_collection text = mtp::together(group, [&] {
    check_prompts(options, static_cast<long>(Config.max_position_embeddings));
    return load_texts(options);
  });
  const run_facts facts{std::string(mtp::name_of(Config.prediction.kind)),
                        Config.prediction.depth,
                        model_type::parameter_count(),
                        text.description,
                        static_cast<std::int64_t>(text.bytes.size()),
                        checksum_of(text.bytes),
                        backend};
  const mtp::dataset<> data = mtp::together(group, [&] {
    return mtp::dataset<>(
        std::move(text.bytes),
        std::move(text.document_starts),
        {.window = trainer_type::window_of(options.length), .seed = {options.seed}});
  });
  std::vector<run_result> compared;
  std::optional<run_folder> folder;  // of rank 0
  long planned_steps = 0;
  mtp::together(group, [&] {
    if (!is_first) return;
    compared = compared_runs(options, facts);
    folder.emplace(options);
    planned_steps = folder->planned_steps();
  });
  group.broadcast(std::span(&planned_steps, 1), 0);
  model_type model(context, mtp::seed{options.seed});
  trainer_type trainer(
      context, model, data, training_options<Config>(options, planned_steps, group.size()), group);
  const training_outcome trained = train(options, folder ? &*folder : nullptr, facts, trainer);
  return on_first_rank(group, [&] {
    if (trained.interrupted) {
      return present(options, *folder, facts, trained, {}, compared);
    }
    mtp::generator<Config, Backend, S> generator(context, model);
    const auto prompts = options.prompts.empty() ? held_out_prompts(data, 12, 64) : options.prompts;
    const decoding_outcome decoded = decode(options, generator, prompts);
    return present(options, *folder, facts, trained, decoded, compared);
  });
}

}  // namespace example
