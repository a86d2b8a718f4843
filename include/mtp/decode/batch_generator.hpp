// Generation of many sequences at once.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/core/refusal.hpp"
#include "mtp/core/turn.hpp"
#include "mtp/decode/cycle.hpp"
#include "mtp/decode/draft_lengths.hpp"
#include "mtp/decode/generate_options.hpp"
#include "mtp/decode/generation_progress.hpp"
#include "mtp/decode/generation_snapshot.hpp"
#include "mtp/decode/prefix_sharing.hpp"
#include "mtp/decode/request_state.hpp"

namespace mtp::inline MTP_ABI {

/// Generates with a model for many requests at once. Each has a prompt, options and a seed of its
/// own, and takes a slot while it is at work; when one ends, the request that has waited longest
/// takes its slot, while the others go on ("continuous batching": Yu et al. 2022, Orca). A cycle
/// runs one piece of one prompt and one step of every sequence that is being written, so nobody
/// waits for a long prompt.
///
/// What a request gets depends on nothing but itself: it is, bit for bit, what generator gives for
/// its prompt and options.
template <model_config Config, class Backend, scalar S = float>
class batch_generator {
  static_assert(validate<Config>());

 public:
  using cycle_type = decoding_cycle<Config, Backend, S>;        ///< what runs cycles
  using decoder_type = decoder<Config, Backend, S>;             ///< caches of all slots
  using model_type = inference_model<Config, Backend, S>;       ///< the model that writes
  using options_type = generate_options<S, Backend>;            ///< how to generate
  using generation_type = generation<Config.prediction.depth>;  ///< what a request gets
  using snapshot_type =
      generation_snapshot<S, Backend, Config.prediction.depth>;  ///< all requests, as data
  using request_number = index_t;                                ///< counts from 0

  /// With `slots` slots. Context and model must outlive it, and the model's parameters must not
  /// change while requests are at work. Throws mtp::error as decoder does.
  batch_generator(context<Backend>& context, const model_type& model, index_t slots)
      : cycle_(context, model, slots), lengths_(slots) {
    for (index_t slot = 0; slot < slots; ++slot) {
      slots_.push_back(std::make_unique<slot_state>());
    }
    steps_.reserve(slots_.size());
    for (auto& numbers : submitted_) {
      numbers.reserve(slots_.size());
    }
  }

  /// Refuses temporaries, which would not outlive the generator.
  template <class Context, class Model>
  requires(detail::temporary<Context, context<Backend>> || detail::temporary<Model, model_type>)
      batch_generator(Context&&, Model&&, index_t)
      : batch_generator(
            detail::refused<context<Backend>&>(), detail::refused<const model_type&>(), 1) {
    static_assert(detail::never<Context>,
                  "batch_generator: the context and the model must outlive the generator, so they "
                  "need names");
  }

  /// Puts a request in the queue. Callbacks may do so, too. Throws mtp::error as
  /// generator::generate does; nothing has changed then.
  request_number submit(std::span<const token_t> prompt, options_type options) {
    detail::check_generation(prompt,
                             options,
                             Config.vocab_size,
                             Config.max_position_embeddings,
                             Config.prediction.depth,
                             refusals_of_trees<Config, Backend, S>);
    cycle_.sequences().check_tree_rows(options.tree.rows());
    const request_number number = next_;
    request& made = requests_[number];
    made.prompt.assign(prompt.begin(), prompt.end());
    made.options = std::move(options);
    queue_.push_back(number);
    ++next_;
    return number;
  }

  /// Runs one cycle. Returns whether there is anything left to do. Throws mtp::error when it is
  /// called from a callback, and what the backend throws. What a callback throws ends its request
  /// alone: see result.
  bool run_cycle() {
    const detail::turn working(at_work_, "batch_generator: called from one of its own callbacks");
    fill_slots();
    read_prompts();
    const bool reads_logits = std::any_of(slots_.begin(), slots_.end(), [](const auto& slot) {
      return slot->owner != nullptr && slot->progress.reads_logits();
    });
    const std::size_t ahead = reads_logits ? 0 : places - 1;
    const bool writes = collect_steps();
    if (writes) {
      submit_steps();
    }
    while (cycle_.in_flight() > (writes ? ahead : 0)) {
      read_cycle();
    }
    empty_slots();
    return !queue_.empty() || std::any_of(slots_.begin(), slots_.end(), [](const auto& slot) {
      return slot->owner != nullptr;
    });
  }

  /// Runs cycles until nothing is left to do. Throws as run_cycle does.
  void run() {
    while (run_cycle()) {
    }
  }

  /// Ends a request, unless it has come to its end. What it has written stays, and its callbacks
  /// are told nothing more. Throws mtp::error for a number that no request has.
  void cancel(request_number number) {
    request& cancelled = find(requests_, number);
    if (cancelled.state == request_state::waiting) {
      queue_.erase(std::find(queue_.begin(), queue_.end(), number));
      cancelled.result.end = end_reason::cancelled;
      cancelled.state = request_state::done;
    } else if (cancelled.state != request_state::done) {
      cancelled.slot->progress.end(end_reason::cancelled);
    }
  }

  /// Where a request stands. Throws mtp::error for a number that no request has.
  request_state state(request_number number) const { return find(requests_, number).state; }

  /// What a request has got so far; complete when it is done. Lives until the next cycle, or, when
  /// it is done, until it is taken. Throws mtp::error for a number that no request has, and what
  /// ended the request: what a callback threw, or that no logit was a number.
  const generation_type& result(request_number number) const {
    const request& asked = find(requests_, number);
    if (asked.failure) {
      std::rethrow_exception(asked.failure);
    }
    return asked.slot != nullptr ? asked.slot->progress.result() : asked.result;
  }

  /// Gives the result of a request that is done, and forgets the request. Throws as result does,
  /// and mtp::error if it is not done; nothing has changed then, but that a request that failed is
  /// forgotten.
  generation_type take(request_number number) {
    request& taken = find(requests_, number);
    check(taken.state == request_state::done,
          "batch_generator::take: request ",
          number,
          " is not done");
    request gone = std::move(taken);
    requests_.erase(number);
    if (gone.failure) {
      std::rethrow_exception(gone.failure);
    }
    return std::move(gone.result);
  }

  /// All requests that were not taken, as they are between two cycles. Throws mtp::error when it is
  /// called from a callback.
  snapshot_type snapshot() const {
    check(!at_work_, "batch_generator::snapshot: called from one of the generator's own callbacks");
    snapshot_type made{next_, {}};
    for (const auto& [number, each] : requests_) {
      const bool at_work = each.slot != nullptr;
      const bool ended = at_work ? !each.slot->progress.going() : each.state == request_state::done;
      made.requests.push_back({number,
                               each.failure ? request_progress::failed
                               : ended      ? request_progress::ended
                                            : request_progress::unfinished,
                               each.prompt,
                               each.options,
                               at_work ? each.slot->progress.result() : each.result,
                               each.failure ? detail::message_of(each.failure) : std::string(),
                               !ended && static_cast<bool>(each.options.sampling.mask)});
    }
    return made;
  }

  /// Goes on from a snapshot, of a generator with as many slots or others: each request gets the
  /// bits that it would have got there. Those that are unfinished wait for slots, in the order of
  /// their numbers; what had a slot runs its tokens again, which rebuilds its caches. One that
  /// failed throws mtp::error with the message of what it failed with. Throws mtp::error unless the
  /// generator is as it was made, and for a snapshot that makes no sense with the model; nothing
  /// has changed then.
  void restore(snapshot_type snapshot) {
    check(next_ == 0, "batch_generator::restore: requests have been submitted already");
    detail::check_snapshot(snapshot,
                           Config.vocab_size,
                           Config.max_position_embeddings,
                           refusals_of_trees<Config, Backend, S>);
    for (const auto& each : snapshot.requests) {
      cycle_.sequences().check_tree_rows(each.options.tree.rows());
    }
    std::map<request_number, request> restored;
    std::deque<request_number> waiting;
    for (auto& each : snapshot.requests) {
      request& made = restored[each.number];
      made.prompt = std::move(each.prompt);
      made.options = std::move(each.options);
      made.result = std::move(each.result);
      if (each.progress == request_progress::unfinished) {
        waiting.push_back(each.number);
      } else {
        made.state = request_state::done;
      }
      if (each.progress == request_progress::failed) {
        made.failure = std::make_exception_ptr(error(each.failure));
      }
    }
    requests_.swap(restored);
    queue_.swap(waiting);
    next_ = snapshot.next;
  }

  /// As generator::set_draft_vocabulary, for all requests, those at work too. Throws mtp::error
  /// when it is called from a callback.
  void set_draft_vocabulary(std::span<const token_t> tokens) {
    check(!at_work_, "batch_generator::set_draft_vocabulary: called from one of its own callbacks");
    cycle_.set_draft_vocabulary(tokens);
  }

  index_t slots() const { return static_cast<index_t>(slots_.size()); }    ///< slots
  index_t waiting() const { return static_cast<index_t>(queue_.size()); }  ///< requests without one
  decoder_type& sequences() { return cycle_.sequences(); }  ///< their caches, for inspection

 private:
  struct slot_state;

  struct request {
    std::vector<token_t> prompt;
    options_type options;
    request_state state = request_state::waiting;
    slot_state* slot = nullptr;  // while it has one
    generation_type result;      // when it has none
    std::exception_ptr failure;
  };

  struct slot_state {
    request* owner = nullptr;
    request_number number = 0;
    generation_progress<Config, Backend, S> progress;
  };

  static constexpr std::size_t places =
      static_cast<std::size_t>(backend_traits<Backend>::cycles_ahead) + 1;

  template <class Requests>
  static auto& find(Requests& requests, request_number number) {
    const auto found = requests.find(number);
    check(
        found != requests.end(),
        "batch_generator: expected the number of a request that was submitted and not taken, got ",
        number);
    return found->second;
  }

  /// Whatever `function` throws ends the request in a slot.
  template <class Function>
  void guarded(slot_state& slot, const Function& function) {
    try {
      function();
    } catch (...) {
      slot.owner->failure = std::current_exception();
      slot.progress.end(end_reason::callback);
    }
  }

  /// Requests that wait take free slots, the first one first.
  void fill_slots() {
    while (!queue_.empty()) {
      const request_number number = queue_.front();
      request& taken = requests_.at(number);
      const bool reuses = taken.options.reuse_prefix;
      const std::size_t i = detail::free_slot(slots_, taken.prompt, reuses);
      if (i == slots_.size()) {
        return;
      }
      slot_state& slot = *slots_[i];
      const index_t common = reuses ? detail::share_prefix(cycle_, slots_, i, taken.prompt) : 0;
      slot.progress.start(
          cycle_, static_cast<index_t>(i), taken.prompt, taken.options, common, taken.result);
      queue_.pop_front();
      slot.owner = &taken;
      slot.number = number;
      taken.slot = &slot;
      taken.state = request_state::reading;
    }
  }

  /// One piece of the prompt of the next slot that has any left, and of those behind it as long as
  /// there are not more rows in all.
  void read_prompts() {
    index_t room = decoder_type::max_step_rows;
    const std::size_t first = next_reader_;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      const std::size_t at = (first + i) % slots_.size();
      slot_state& slot = *slots_[at];
      if (slot.owner == nullptr || slot.owner->state != request_state::reading ||
          !slot.progress.going()) {
        continue;
      }
      const index_t rows = slot.progress.next_piece();
      if (rows > room) {
        return;
      }
      room -= rows;
      if (!slot.progress.prefill(cycle_)) {
        slot.owner->state = request_state::writing;
        lengths_.begin(static_cast<index_t>(at), slot.progress.count());
      }
      next_reader_ = (at + 1) % slots_.size();
    }
  }

  /// The next step of each sequence that is being written. Returns whether there is any.
  bool collect_steps() {
    steps_.clear();
    for (const auto& slot : slots_) {
      if (slot->owner != nullptr && slot->owner->state == request_state::writing &&
          slot->progress.going()) {
        const slot_step step = slot->progress.next_step();
        if (slot->progress.going()) {
          steps_.push_back(step);
        }
      }
    }
    return !steps_.empty();
  }

  void submit_steps() {
    lengths_.prepare(
        cycle_, steps_, [&](index_t slot) -> const auto& {
          return slots_[static_cast<std::size_t>(slot)]->progress;
        });
    cycle_.submit(steps_);
    lengths_.observe(cycle_, steps_);
    for (const slot_step& step : steps_) {
      slots_[static_cast<std::size_t>(step.slot)]->progress.add_seconds(cycle_.seconds(),
                                                                        steps_.size());
    }
    auto& numbers = submitted_[submits_++ % places];
    numbers.clear();
    for (const slot_step& step : steps_) {
      numbers.push_back(slots_[static_cast<std::size_t>(step.slot)]->number);
    }
  }

  /// Reads a cycle. Steps of requests that have ended meanwhile are left out.
  void read_cycle() {
    const auto& numbers = submitted_[reads_++ % places];
    std::size_t i = 0;
    cycle_.read([&](const slot_step& step, const step_outcome& outcome) {
      slot_state& slot = *slots_[static_cast<std::size_t>(step.slot)];
      const request_number number = numbers[i++];
      if (slot.owner != nullptr && slot.number == number && slot.progress.going()) {
        guarded(slot, [&] {
          const index_t count = slot.progress.count();
          slot.progress.take(cycle_, step, outcome);
          lengths_.observe(cycle_, step, outcome.accepted, count, slot.progress);
        });
      }
    });
  }

  /// Requests that have ended give back their slots.
  void empty_slots() {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (slot_state& slot = *slots_[i]; slot.owner != nullptr && !slot.progress.going()) {
        cycle_.sequences().set_length(slot.progress.cached_positions(), static_cast<index_t>(i));
        slot.owner->result = slot.progress.result();
        slot.owner->state = request_state::done;
        std::exchange(slot.owner, nullptr)->slot = nullptr;
      }
    }
  }

  cycle_type cycle_;
  draft_lengths<Config, Backend, S> lengths_;
  std::vector<std::unique_ptr<slot_state>> slots_;
  std::map<request_number, request> requests_;
  std::deque<request_number> queue_;
  request_number next_ = 0;
  std::size_t next_reader_ = 0;
  std::vector<slot_step> steps_;
  std::array<std::vector<request_number>, places> submitted_;  // requests of cycles in flight
  std::size_t submits_ = 0, reads_ = 0;
  bool at_work_ = false;
};

}  // namespace mtp::inline MTP_ABI
