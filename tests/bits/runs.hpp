// What scripts/compare_bits compares: small runs of all head kinds, written into files bit by bit.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "mtp/backend/cpu.hpp"
#include "mtp/io/checkpoint.hpp"
#include "mtp/io/checksum.hpp"
#include "mtp/mtp.hpp"

namespace mtp::bits {

/// V = 61, C = 28, E = 14, F = 45. What each field does is in model_config.
constexpr model_config plain_config(head_kind head, int depth) {
  return {.vocab_size = 61,
          .hidden_size = 28,
          .num_hidden_layers = 3,
          .max_position_embeddings = 90,
          .attention = {.num_attention_heads = 2},
          .feed_forward = {.intermediate_size = 45},
          .prediction = {.kind = head,
                         .depth = depth,
                         .concat = concat_order::hidden_first,
                         .hidden_tap = norm_tap::post_norm,
                         .recycle_tap = norm_tap::pre_norm,
                         .output_norm = output_norm_kind::per_depth}};
}

/// Every option the other way, and query heads in groups: C = 35, H E = 48, G E = 16, F = 53.
constexpr model_config flipped_config(head_kind head, int depth) {
  return {.vocab_size = 67,
          .hidden_size = 35,
          .num_hidden_layers = 2,
          .max_position_embeddings = 90,
          .attention = {.num_attention_heads = 6,
                        .num_key_value_heads = 2,
                        .head_dim = 8,
                        .rope_theta = 500.0f,
                        .qkv_bias = true,
                        .qk_norm = true},
          .feed_forward = {.intermediate_size = 53},
          .prediction = {.kind = head,
                         .depth = depth,
                         .concat = concat_order::embedding_first,
                         .hidden_tap = norm_tap::pre_norm,
                         .recycle_tap = norm_tap::post_norm,
                         .output_norm = output_norm_kind::shared},
          .tie_word_embeddings = true};
}

/// The exact value: floating-point numbers in hexadecimal.
inline std::string exact(double value) {
  std::array<char, 64> digits;
  std::snprintf(digits.data(), digits.size(), "%a", value);
  return digits.data();
}

/// `count` tokens: mostly a simple rule, which a model learns within few steps, now and then noise.
inline std::vector<std::uint8_t> make_text(index_t count, int vocabulary) {
  const random_stream random(seed{5}, 17);
  std::vector<std::uint8_t> text{1};
  for (index_t i = 1; i < count; ++i) {
    const auto at = static_cast<std::uint64_t>(i);
    const auto drawn = random.below(at, 64);
    text.push_back(static_cast<std::uint8_t>(drawn < 6 ? static_cast<int>(drawn)
                                                       : (text.back() * 3 + 2) % vocabulary));
  }
  return text;
}

/// A folder for the files of one run.
class report_folder {
 public:
  explicit report_folder(std::filesystem::path path) : path_(std::move(path)) {
    std::filesystem::create_directories(path_);
  }

  std::filesystem::path operator/(const char* name) const { return path_ / name; }
  void save(const char* name, const std::string& text) const {
    std::ofstream file(path_ / name);
    file << text;
    file.close();
    check(!file.fail(), "bits: cannot write ", (path_ / name).string());
  }

 private:
  std::filesystem::path path_;
};

/// Total and losses of all depths in one line.
template <int Depth>
std::string line_of(const loss_report<Depth>& report) {
  std::string line = " total " + exact(report.total);
  for (std::size_t k = 0; k < report.depths.size(); ++k) {
    const depth_report& depth = report.depths[k];
    line += " depth " + std::to_string(k) + ": " + exact(depth.loss) + ", " +
            exact(depth.agreement) + " of " + std::to_string(depth.targets) + ";";
  }
  return line + "\n";
}

/// Trains a model, saves it, continues with what the file holds in another one, and decodes.
template <model_config Config, scalar S>
class run {
 public:
  run(const std::filesystem::path& path, gradient_scope scope)
      : folder_(path),
        scope_(scope),
        text_(make_text(2000, Config.vocab_size)),
        data_(text_,
              {0, 130, 131, 700, 1333},
              {.window = T + 1 + Config.prediction.depth, .seed = seed{3}}) {}

  void write() {
    context<cpu> context(cpu_options{.threads = 2});
    model_type first(context, seed{1});
    std::string steps = train(context, first, steps_before, "checkpoint.safetensors", "");
    model_type second(context, seed{2});
    steps += train(context, second, steps_after, "resumed.safetensors", "checkpoint.safetensors");
    folder_.save("steps.txt", steps);
    folder_.save("gradients.txt", masked_gradients(context, second));
    folder_.save("plain.txt", decode(context, second, decode_mode::plain));
    folder_.save("speculative.txt", decode(context, second, decode_mode::speculative));
  }

 private:
  using model_type = language_model<Config, cpu, S>;
  using sum_type = accumulate_t<S>;
  static constexpr index_t B = 2, T = 13;
  static constexpr int steps_before = 5, steps_after = 2;

  loss_options<Config.prediction.depth> losses() const {
    auto options = default_loss_options<Config>();
    options.scope = scope_;
    options.normalization = scope_ == gradient_scope::detached ? loss_normalization::valid_targets
                                                               : loss_normalization::positions;
    return options;
  }

  /// A line for each step; begins with what the file `from` holds, and saves into the file `to`.
  std::string train(context<cpu>& context,
                    model_type& model,
                    int steps,
                    const char* to,
                    const std::string& from) {
    train_options<Config> options;
    options.batch = B;
    options.length = T;
    options.accumulation = 2;
    options.learning_rate = {
        .peak = 2e-2, .floor = 0.2, .warmup_steps = 3, .total_steps = steps_before + steps_after};
    options.clip_norm = 0.7;
    options.optimizer.weight_decay = 0.05;
    options.loss = losses();
    trainer<Config, cpu, S> trainer(context, model, data_, options);
    if (!from.empty()) {
      io::load_checkpoint(folder_ / from.c_str(), trainer);
    }
    std::string lines;
    for (int i = 0; i < steps; ++i) {
      const auto report = trainer.step();
      lines += "step " + std::to_string(report.step) + " norm " + exact(report.gradient_norm) +
               " rate " + exact(report.learning_rate) + " lambda " + exact(report.lambda) +
               line_of(report.loss);
    }
    lines += "validation" + line_of(trainer.validate(4));
    io::save_checkpoint(folder_ / to, trainer);
    return lines;
  }

  /// The losses of a batch with documents and a mask, then a line for each parameter: the checksum
  /// of its gradient's elements, row by row.
  std::string masked_gradients(context<cpu>& context, const model_type& model) {
    constexpr index_t row = T + 1 + Config.prediction.depth;
    std::vector<token_t> tokens(text_.begin(), text_.begin() + B * row);
    std::vector<std::int32_t> segments;
    std::vector<std::uint8_t> mask;
    for (index_t n = 0; n < B * row; ++n) {
      segments.push_back(n % row > 5 + n / row ? 1 : 0);
      mask.push_back(n % 5 == 3 ? 0 : 1);
    }
    std::vector<sum_type> gradients(static_cast<std::size_t>(model_type::layout.storage));
    const parameter_array<sum_type, cpu> array(gradients.data(), model_type::layout.storage);
    model_loss<Config, cpu, S> loss(context, B, T);
    const auto report =
        loss.with_gradients(context, model, array, {tokens, segments, mask, B, T}, losses());
    std::string lines = "losses" + line_of(report);
    model_type::layout.visit([&](const std::string& name, const parameter& p) {
      io::xxh64 sum;
      for (index_t i = 0; i < p.count(); ++i) {
        const sum_type element =
            p.is_vector() ? array.vector(p)(i) : array.matrix(p)(i / p.inputs, i % p.inputs);
        sum.update(std::as_bytes(std::span(&element, 1)));
      }
      lines +=
          name + " " + std::to_string(p.count()) + " elements " + io::to_hex(sum.digest()) + "\n";
    });
    return lines;
  }

  /// A line for each prompt with passes and drafts, and one for each token with its logits.
  std::string decode(context<cpu>& context, const model_type& model, decode_mode mode) {
    generator<Config, cpu, S> generator(context, model);
    std::string lines;
    for (const index_t length : {index_t{1}, index_t{2}, index_t{31}}) {
      const std::vector<token_t> prompt(text_.begin() + 9, text_.begin() + 9 + length);
      std::string logits;
      generate_options<S, cpu> options;
      options.mode = mode;
      options.max_new_tokens = 29;
      options.on_logits = [&](index_t position, vector_view<const sum_type, cpu> row) {
        logits += "logits of position " + std::to_string(position) + ":";
        for (index_t v = 0; v < row.extent(0); ++v) {
          logits += " " + exact(static_cast<double>(row(v)));
        }
        logits += "\n";
      };
      const auto& made = generator.generate(prompt, options);
      lines += "prompt of " + std::to_string(length) + ": passes " +
               std::to_string(made.forward_passes) + ", drafts";
      for (std::size_t k = 0; k < made.drafted.size(); ++k) {
        lines += " " + std::to_string(made.accepted[k]) + " of " + std::to_string(made.drafted[k]);
      }
      lines += ", tokens";
      for (const token_t token : made.tokens) {
        lines += " " + std::to_string(token);
      }
      lines += "\n" + logits;
    }
    return lines;
  }

  report_folder folder_;
  gradient_scope scope_;
  std::vector<std::uint8_t> text_;
  dataset<std::uint8_t> data_;
};

/// The runs of one configuration, one for each gradient_scope that trains something.
template <model_config Config, scalar S>
void write_runs(const std::filesystem::path& path) {
  run<Config, S>(path / "joint", gradient_scope::joint).write();
  run<Config, S>(path / "detached", gradient_scope::detached).write();
  if (Config.prediction.kind.parameters != head_parameters::none) {
    run<Config, S>(path / "heads_only", gradient_scope::heads_only).write();
  }
}

/// The runs of a head kind: with D = 2 if it has depths, in the one configuration or the other.
template <head_kind Kind, scalar S>
void write_kind(const std::filesystem::path& path, const std::string& element) {
  constexpr int depth = Kind == head_kind::none ? 0 : 2;
  constexpr bool flipped = std::is_same_v<S, float>;
  constexpr model_config config = flipped ? flipped_config(Kind, depth) : plain_config(Kind, depth);
  write_runs<config, S>(path / Kind.name / element);
}

/// The program for one type of elements: writes the runs of all head kinds into the folder that it
/// is given.
template <scalar S>
int write_all(int count, char** arguments, const std::string& element) {
  if (count != 2) {
    std::fputs("expected one argument, a folder\n", stderr);
    return 2;
  }
  try {
    const std::filesystem::path path = arguments[1];
    write_kind<head_kind::none, S>(path, element);
    write_kind<head_kind::sequential, S>(path, element);
    write_kind<head_kind::parallel, S>(path, element);
    write_kind<head_kind::independent, S>(path, element);
    write_kind<head_kind::recurrent, S>(path, element);
    write_kind<head_kind::shared_logit, S>(path, element);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", element.c_str(), e.what());
    return 1;
  }
  return 0;
}

}  // namespace mtp::bits
