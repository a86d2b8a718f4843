// Bytes as a history of a batch_generator: requests of every kind that arrive, are run, watched,
// cancelled, taken, saved and restored at any moment, by callbacks, too; and what should become of
// each.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "fuzz/input.hpp"
#include "fuzz/naive_generation.hpp"
#include "mtp/decode/batch_generator.hpp"
#include "mtp/io/generation.hpp"
#include "support/decoding.hpp"

namespace mtp::fuzz::generation_harness {

/// Longer than a piece of a prompt.
constexpr int positions = 72;

/// What a callback does when the token comes that it waits for.
enum class deed { nothing, end, raise, submit, cancel_self, cancel_other, take_other, run };
constexpr int deeds = 8;

/// What a callback of a request throws.
struct raised : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A request, and what should become of it.
struct expectation {
  naive_generation alone;
  generate_options<float, cpu> options;  // without callbacks
  deed on_token = deed::nothing, on_logits = deed::nothing;
  std::size_t at = 0;  // generated tokens in front of the one at which it is done
  bool in_callback = false;

  request_state state = request_state::waiting;  // when it was looked at last
  std::vector<token_t> streamed;
  bool has_raised = false;
  bool is_ended = false;                // by a callback or from outside, before it came to its end
  end_reason end = end_reason::length;  // why

  bool has_all_tokens() const { return streamed.size() == alone.tokens.size(); }
  /// Whether it may end as soon as a cycle sees that it has all tokens, which nothing tells.
  bool ends_unseen() const {
    return has_all_tokens() && (alone.has_no_choice || alone.tokens.empty());
  }
  /// The end that comes first stays.
  void end_with(end_reason reason, request_state now) {
    const bool is_complete = now != request_state::waiting && !in_callback && has_all_tokens();
    if (!is_ended && (!is_complete || ends_unseen())) {
      is_ended = true;
      end = reason;
    }
  }
};

/// A file that is removed in the end.
class test_file {
 public:
  ~test_file() { std::filesystem::remove(path_); }
  const std::filesystem::path& path() const { return path_; }

  /// Changes bits of a byte. Returns which byte: `at`, or what is left of it in the file.
  std::uint64_t flip(std::uint64_t at, std::uint8_t difference) const {
    std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
    const auto place = static_cast<std::streamoff>(at % std::filesystem::file_size(path_));
    const int byte = file.seekg(place).get();
    file.seekp(place).put(static_cast<char>(byte ^ difference));
    return static_cast<std::uint64_t>(place);
  }

 private:
  std::filesystem::path path_ = std::filesystem::temp_directory_path() /
                                ("mtp-fuzz-generation-" + std::to_string(::getpid()));
};

template <model_config Config>
class history {
 public:
  using batch_type = batch_generator<Config, cpu>;
  using model_type = language_model<Config, cpu>;
  static constexpr index_t V = Config.vocab_size, D = Config.prediction.depth;

  history(cpu_context& context, const model_type& model, decoder<Config, cpu>& steps, input& in)
      : in_(in), context_(context), model_(model), steps_(steps) {
    batch_ = make_batch();
  }

  void run() {
    for (int commands = 0; commands < 32 && !in_.empty(); ++commands) {
      const auto command = in_.take<std::uint8_t>();
      switch (command % 10) {
        case 0:
        case 1:
          submit(command / 10 % 8 == 0);
          break;
        case 2:
          cancel(any_number());
          break;
        case 3:
          take(any_number());
          break;
        case 4:
          if (command / 10 % 13 == 0) {  // a file is written for good, which takes long
            restore_file(in_.take<std::uint8_t>() % 4);
          } else {
            restore_snapshot();
          }
          break;
        default:
          for (int i = 0; i <= command / 10 % 4; ++i) {
            cycle();
          }
      }
      look();
    }
    finish();
  }

 private:
  using request_map = std::map<index_t, std::unique_ptr<expectation>>;

  /// Runs to the end and takes everything.
  void finish() {
    index_t left = 1;
    for (const auto& [number, request] : requests_) {
      left += static_cast<index_t>(request->alone.tokens.size()) + 4;
    }
    is_last_ = true;
    while (cycle()) {
      promise(left-- > 0, "every request ends");
      look();
    }
    look();
    while (!requests_.empty()) {
      const index_t number = requests_.begin()->first;
      promise(batch_->state(number) == request_state::done, "nothing is left behind");
      take(number);
    }
    promise(batch_->waiting() == 0, "nobody waits for nothing");
  }

  std::unique_ptr<batch_type> make_batch() {
    return std::make_unique<batch_type>(context_, model_, 1 + in_.take<std::uint8_t>() % 5);
  }

  /// Mostly a number that was submitted, at times one that is taken or was never.
  index_t any_number() { return in_.take<std::uint8_t>() % (next_ + 2); }

  std::vector<token_t> take_tokens(std::size_t count) {
    std::vector<token_t> tokens(count);
    for (token_t& token : tokens) {
      token = static_cast<token_t>(in_.take<std::uint8_t>() % V);
    }
    return tokens;
  }

  void take_sampling(sampling_options& sampling) {
    constexpr double temperatures[] = {0, 0.3, 1, 2.5};
    constexpr double shares[] = {1, 0.9, 0.5, 0.05};
    constexpr float biases[] = {1.5f, -1.5f, 8, -std::numeric_limits<float>::infinity()};
    const auto which = in_.take<std::uint8_t>();
    sampling.temperature = temperatures[which % 4];
    sampling.top_p = which & 4 ? shares[in_.take<std::uint8_t>() % 4] : 1;
    sampling.min_p = which & 8 ? 1 - shares[in_.take<std::uint8_t>() % 4] : 0;
    sampling.top_k = which & 16 ? in_.take<std::uint8_t>() % (V + 2) : 0;
    if (which & 32) {
      sampling.repetition_penalty = 0.25 + in_.take<std::uint8_t>() / 64.0;
      sampling.frequency_penalty = in_.take<std::int8_t>() / 64.0;
      sampling.presence_penalty = in_.take<std::int8_t>() / 64.0;
    }
    if (which & 64) {
      const int count = in_.take<std::uint8_t>() % 24;
      for (int i = 0; i < count; ++i) {
        const auto bias = in_.take<std::uint8_t>();
        sampling.logit_bias.push_back({static_cast<token_t>(bias % V), biases[bias / V % 4]});
      }
    }
    sampling.drafts = which & 128 ? draft_choice::most_likely : draft_choice::shared_noise;
    sampling.seed = seed{in_.take<std::uint8_t>()};
    sampling.sequence = static_cast<std::uint32_t>(sampling.seed.value % 3);
  }

  generate_options<float, cpu> take_options() {
    generate_options<float, cpu> options;
    const auto which = in_.take<std::uint8_t>();
    options.mode = which & 1 ? decode_mode::plain : decode_mode::speculative;
    options.schedule = which & 2 ? draft_schedule::adaptive : draft_schedule::constant;
    options.log_probabilities = which & 4;
    options.num_draft_tokens = which & 8 ? in_.take<std::uint8_t>() % (D + 1) : -1;
    options.max_new_tokens = in_.take<std::uint8_t>();
    options.max_new_tokens %= options.max_new_tokens % 8 == 7 ? 128 : 16;
    if (which & 16) {
      options.min_new_tokens = in_.take<std::uint8_t>() % (options.max_new_tokens + 1);
      options.stop_tokens = take_tokens(in_.take<std::uint8_t>() % 20);
    }
    if (which & 32) {
      options.stop.resize(in_.take<std::uint8_t>() % 3);
      for (auto& stop : options.stop) {
        stop = take_tokens(in_.take<std::uint8_t>() % 4);
      }
    }
    if (which & 64) {
      take_sampling(options.sampling);
    }
    return options;
  }

  /// Makes one thing of a request meaningless.
  void spoil(std::vector<token_t>& prompt, generate_options<float, cpu>& options) {
    switch (in_.take<std::uint8_t>() % 8) {
      case 0:
        prompt.clear();
        break;
      case 1:
        prompt.resize(positions + 1);
        break;
      case 2:
        prompt.back() = static_cast<token_t>(V);
        break;
      case 3:
        options.max_new_tokens = -1;
        break;
      case 4:
        options.min_new_tokens = options.max_new_tokens + 1;
        break;
      case 5:
        options.num_draft_tokens = D + 1;
        break;
      case 6:
        options.stop_tokens.push_back(-1);
        break;
      default:
        options.sampling.temperature = -1;
    }
  }

  void submit(bool spoiled) {
    const auto length = in_.take<std::uint8_t>();
    auto prompt = take_tokens(1 + length % (length % 8 == 7 ? positions : 12));
    auto options = take_options();
    if (spoiled) {
      spoil(prompt, options);
      promise(!accepted([&] { batch_->submit(prompt, options); }), "what means nothing is refused");
      return;
    }
    auto made = std::make_unique<expectation>();
    made->options = options;
    made->alone = generate_naively(steps_, prompt, options);
    const auto callbacks = in_.take<std::uint8_t>();
    made->on_token = static_cast<deed>(callbacks % deeds);
    made->on_logits = static_cast<deed>(callbacks / deeds % deeds);
    made->at = in_.take<std::uint8_t>() % 8;
    watch(*made, options);
    promise(batch_->submit(prompt, options) == next_, "requests are counted");
    requests_[next_++] = std::move(made);
  }

  /// Gives options the callbacks of a request.
  void watch(expectation& request, generate_options<float, cpu>& options) {
    options.on_token = [this, &request](const written_token& written) {
      promise(!request.is_ended && !request.has_raised, "what has ended is told nothing");
      const std::size_t i = request.streamed.size();
      promise(i < request.alone.tokens.size() && written.token == request.alone.tokens[i],
              "each token is the one that comes alone");
      request.streamed.push_back(written.token);
      if (i == request.at && !act(request, request.on_token)) {
        request.is_ended = true;
        request.end = end_reason::callback;
        return false;
      }
      return true;
    };
    if (request.on_logits != deed::nothing) {
      options.on_logits = [this, &request](index_t, vector_view<const float, cpu> logits) {
        promise(!request.is_ended && !request.has_raised, "what has ended is shown nothing");
        promise(logits.extent(0) == V, "a row of logits has a number for each token");
        if (request.streamed.size() == request.at) {
          act(request, request.on_logits);
        }
      };
    }
  }

  /// What a callback of a request does, and whether on_token goes on.
  bool act(expectation& request, deed what) {
    request.in_callback = true;
    bool goes_on = true;
    switch (what) {
      case deed::end:
        goes_on = false;
        break;
      case deed::raise:
        request.has_raised = true;
        request.in_callback = false;
        throw raised("enough");
      case deed::submit:
        if (!is_last_) {
          submit(false);
        }
        break;
      case deed::cancel_self:
        cancel(number_of(request));
        break;
      case deed::cancel_other:
        cancel(any_number());
        break;
      case deed::take_other:
        take(any_number());
        break;
      case deed::run:
        promise(!accepted([&] { batch_->run_cycle(); }), "callbacks run nothing");
        break;
      case deed::nothing:
        break;
    }
    request.in_callback = false;
    return goes_on;
  }

  /// The options of an unfinished request get the callbacks that it had.
  void watch_again(index_t number, generate_options<float, cpu>& options) {
    options.on_token = nullptr;
    options.on_logits = nullptr;
    watch(*requests_.at(number), options);
  }

  /// Another generator goes on where this one is.
  void replace(std::unique_ptr<batch_type> other) {
    for (const auto& [number, request] : requests_) {
      const auto before = batch_->state(number), now = other->state(number);
      promise(before == request_state::waiting || before == request_state::done
                  ? now == before
                  : now == (request->is_ended ? request_state::done : request_state::waiting),
              "what is not done waits again");
      request->state = now;
    }
    batch_ = std::move(other);
  }

  /// Through a snapshot, with other drafts.
  void restore_snapshot() {
    auto snapshot = batch_->snapshot();
    auto other = make_batch();
    for (auto& each : snapshot.requests) {
      const auto which = in_.take<std::uint8_t>();
      each.options.mode = which & 1 ? decode_mode::plain : decode_mode::speculative;
      each.options.schedule = which & 2 ? draft_schedule::adaptive : draft_schedule::constant;
      each.options.num_draft_tokens = which / 4 % (D + 2) - 1;
    }
    other->restore(std::move(snapshot));
    replace(std::move(other));
  }

  /// Through a file, behind one that was damaged.
  void restore_file(int damages) {
    const test_file path;
    io::save_generation(path.path(), *batch_);
    auto other = make_batch();
    const auto load = [&] {
      io::load_generation(path.path(), *other, [&](index_t number, auto& options) {
        watch_again(number, options);
      });
    };
    for (int i = 0; i < damages; ++i) {
      const std::uint8_t difference = in_.take<std::uint8_t>() | 1;
      const std::uint64_t at = path.flip(in_.take<std::uint16_t>(), difference);
      promise(!accepted(load), "a damaged file is refused");
      promise(other->waiting() == 0, "a file that is refused changes nothing");
      path.flip(at, difference);
    }
    load();
    replace(std::move(other));
  }

  index_t number_of(const expectation& request) const {
    return std::find_if(requests_.begin(),
                        requests_.end(),
                        [&](const auto& each) { return each.second.get() == &request; })
        ->first;
  }

  void cancel(index_t number) {
    const auto found = requests_.find(number);
    const bool exists = found != requests_.end();
    const auto before = exists ? batch_->state(number) : request_state::done;
    promise(accepted([&] { batch_->cancel(number); }) == exists,
            "what was submitted and not taken can be cancelled, and nothing else");
    if (before != request_state::done) {
      found->second->end_with(end_reason::cancelled, before);
    }
  }

  void take(index_t number) {
    const auto found = requests_.find(number);
    if (found == requests_.end() || batch_->state(number) != request_state::done) {
      promise(!accepted([&] { batch_->take(number); }), "what is done can be taken, nothing else");
      return;
    }
    check_result(*found->second, request_state::done, [&] { return batch_->take(number); });
    requests_.erase(found);
    promise(!accepted([&] { batch_->state(number); }), "what is taken is forgotten");
  }

  /// result(): what the generator says of a request.
  template <class Result>
  void check_result(const expectation& request, request_state state, const Result& result) {
    const bool is_done = state == request_state::done;
    const naive_generation& alone = request.alone;
    typename batch_type::generation_type got;
    try {
      got = result();
    } catch (const raised&) {
      promise(request.has_raised, "only what a request's own callback throws ends it");
      return;
    } catch (const mtp::error& e) {
      const bool is_raised = request.has_raised && e.what() == std::string("enough");  // restored
      promise(is_raised || (is_done && alone.has_no_choice && request.has_all_tokens()),
              "generation fails where nothing is left to choose");
      return;
    }
    promise(!request.has_raised, "what a callback throws is told");
    promise(got.tokens == request.streamed, "a result has what was written");
    promise(
        got.log_probabilities.size() == (request.options.log_probabilities ? got.tokens.size() : 0),
        "there is a log-probability for each token, or none");
    for (std::size_t i = 0; i < got.log_probabilities.size(); ++i) {
      const double expected = alone.log_probabilities[i];
      promise(std::abs(got.log_probabilities[i] - expected) <= 1e-13 * (1 - expected),
              "log-probabilities are those of the logits");
    }
    if (is_done && request.is_ended) {
      promise(got.end == request.end || (request.ends_unseen() && got.end == alone.end),
              "what ends a request first is its end");
    } else if (is_done) {
      promise(!alone.has_no_choice, "where nothing is left to choose, generation fails");
      promise(request.has_all_tokens(), "a request gets all that it would get alone");
      promise(got.end == alone.end, "a request ends as it would alone");
    }
    for (std::size_t k = 0; k < got.drafted.size(); ++k) {
      promise(got.accepted[k] >= 0 && got.accepted[k] <= got.drafted[k] &&
                  got.drafted[k] <= got.forward_passes,
              "drafts are counted");
    }
  }

  /// Runs a cycle. Returns whether anything is left to do.
  bool cycle() {
    std::vector<index_t> waiting;
    std::map<index_t, std::size_t> writing;
    index_t free = batch_->slots();
    for (const auto& [number, request] : requests_) {
      switch (batch_->state(number)) {
        case request_state::waiting:
          waiting.push_back(number);
          break;
        case request_state::writing:
          writing[number] = request->streamed.size();
          [[fallthrough]];
        case request_state::reading:
          --free;
          break;
        case request_state::done:
          break;
      }
    }
    const bool is_left = batch_->run_cycle();
    for (std::size_t i = 0; i < waiting.size(); ++i) {
      const auto found = requests_.find(waiting[i]);
      if (found != requests_.end()) {
        const auto now = batch_->state(waiting[i]);
        promise(static_cast<index_t>(i) < free
                    ? now != request_state::waiting
                    : now == request_state::waiting || found->second->is_ended,
                "free slots are taken in the order of arrival, and no others");
      }
    }
    for (const auto& [number, before] : writing) {
      const auto found = requests_.find(number);
      promise(found == requests_.end() || batch_->state(number) == request_state::done ||
                  (found->second->streamed.size() > before &&
                   found->second->streamed.size() <= before + static_cast<std::size_t>(D) + 1),
              "a cycle writes 1 to D + 1 tokens");
    }
    promise(is_left == std::any_of(requests_.begin(),
                                   requests_.end(),
                                   [&](const auto& each) {
                                     return batch_->state(each.first) != request_state::done;
                                   }),
            "a cycle says whether anything is left");
    return is_left;
  }

  /// What may be seen between two commands.
  void look() {
    index_t waiting = 0, at_work = 0;
    for (const auto& [number, request] : requests_) {
      const auto state = batch_->state(number);
      promise(state >= request->state, "a request's state goes forward");
      request->state = state;
      waiting += state == request_state::waiting ? 1 : 0;
      at_work += state == request_state::reading || state == request_state::writing ? 1 : 0;
      promise(at_work == 0 || waiting == 0 || state == request_state::waiting ||
                  state == request_state::done,
              "nobody overtakes");
      check_result(*request, state, [&, at = number] { return batch_->result(at); });
    }
    promise(batch_->waiting() == waiting, "who waits is counted");
    promise(at_work <= batch_->slots(), "a slot has one request");
  }

  std::unique_ptr<batch_type> batch_;
  input& in_;
  cpu_context& context_;
  const model_type& model_;
  decoder<Config, cpu>& steps_;
  request_map requests_;
  index_t next_ = 0;
  bool is_last_ = false;  // callbacks submit nothing more
};

/// A history of a generator with a head.
template <model_config Config>
void run_history(input& in) {
  static cpu_context context({.threads = 1});
  static const language_model<Config, cpu> model = [] {
    language_model<Config, cpu> made(context, seed{5});
    test::make_perfect(made);
    test::add_noise(made, 0.3);  // some drafts are accepted, and some are not
    return made;
  }();
  static decoder<Config, cpu> steps(context, model);
  history<Config>(context, model, steps, in).run();
}

/// Up to 32 commands of a byte each, with what they take behind it.
inline void fuzz_one(std::span<const std::uint8_t> bytes) {
  input in(bytes);
  switch (in.take<std::uint8_t>() % 5) {
    case 0:
      return run_history<test::spoken_config(head_kind::none, 0, positions)>(in);
    case 1:
      return run_history<test::spoken_config(head_kind::sequential, 2, positions)>(in);
    case 2:
      return run_history<test::flipped_spoken_config(head_kind::recurrent, 3, positions)>(in);
    case 3:
      return run_history<test::spoken_config(head_kind::parallel, 2, positions)>(in);
    default:
      return run_history<test::flipped_spoken_config(head_kind::independent, 3, positions)>(in);
  }
}

}  // namespace mtp::fuzz::generation_harness

namespace mtp::fuzz {
/// What a replay and a fuzzer call. Each harness has a namespace of its own, because functions of
/// one name in several files of a program would be taken for one function.
namespace harness = generation_harness;
}  // namespace mtp::fuzz
