#include <benchmark/benchmark.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <string>

#include "models.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/decode/generate.hpp"

namespace mtp::bench {
namespace {

template <model_config Config>
class decoded_model : public decoding_run {
 public:
  explicit decoded_model(int threads)
      : context_({.threads = threads}), model_(context_, seed{1}), generator_(context_, model_) {}

  const model_config& config() const override { return language_model<Config, cpu>::config; }

  decoded generate(std::span<const token_t> prompt, index_t count, bool speculative) override {
    const auto& result =
        generator_.generate(prompt,
                            {.mode = speculative ? decode_mode::speculative : decode_mode::plain,
                             .max_new_tokens = count});
    return {result.tokens, result.forward_passes, result.decode_seconds};
  }

  void prefill(std::span<const token_t> tokens) override {
    auto& sequence = generator_.sequence();
    sequence.reset();
    const auto piece = static_cast<std::size_t>(sequence.max_step_rows);
    for (std::size_t begin = 0; begin < tokens.size(); begin += piece) {
      sequence.prefill(tokens.subspan(begin, std::min(piece, tokens.size() - begin)),
                       hidden_states::dropped);
    }
    tokens_.assign(tokens.begin(), tokens.end());
  }

  double pass(index_t rows) override {
    auto& sequence = generator_.sequence();
    const index_t length = sequence.length();
    const auto start = std::chrono::steady_clock::now();
    benchmark::DoNotOptimize(sequence.step(std::span(tokens_).first(static_cast<std::size_t>(rows)),
                                           hidden_states::dropped));
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    sequence.roll_back(length);
    return spent.count();
  }

  void write_parameters(std::ostream& out) const override {
    static_assert(std::endian::native == std::endian::little);
    const auto& layout = language_model<Config, cpu>::layout;
    layout.visit([&](const std::string& name, const parameter& p) {
      out << name << ' ' << p.outputs << ' ' << p.inputs << '\n';
    });
    out << '\n';
    const auto put = [&](float element) {
      out.write(reinterpret_cast<const char*>(&element), sizeof(element));
    };
    const auto values = model_.values();
    layout.visit([&](const std::string&, const parameter& p) {
      for (index_t n = 0; n < p.outputs; ++n) {
        if (p.is_vector()) {
          put(values.vector(p)(n));
        }
        for (index_t k = 0; k < p.inputs; ++k) {
          put(values.matrix(p)(n, k));
        }
      }
    });
  }

 private:
  cpu_context context_;
  language_model<Config, cpu> model_;
  generator<Config, cpu> generator_;
  std::vector<token_t> tokens_;
};

template <model_config Config>
void try_model(std::unique_ptr<decoding_run>& made, const model_config& wanted, int threads) {
  if (wanted == Config) {
    made = std::make_unique<decoded_model<Config>>(threads);
  }
}

}  // namespace

std::unique_ptr<decoding_run> make_decoding(const model_config& config, int threads) {
  std::unique_ptr<decoding_run> made;
  try_model<small(head_kind::shared_logit, 7)>(made, config, threads);
  try_model<large(head_kind::shared_logit, 7)>(made, config, threads);
  try_model<large(head_kind::sequential, 4)>(made, config, threads);
  try_model<large(head_kind::recurrent, 4)>(made, config, threads);
  try_model<large(head_kind::parallel, 4)>(made, config, threads);
  try_model<large(head_kind::independent, 4)>(made, config, threads);
  return made;
}

}  // namespace mtp::bench
