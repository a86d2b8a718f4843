// The memory of training and of decoding, known before anything runs: sizes are constexpr, so a
// budget is a static_assert. The code that lays memory out is the code that counts it, so the
// figures are those of the allocations.
#include <cstdio>

#include "mtp/backend/cpu.hpp"
#include "mtp/mtp.hpp"

using mtp::head_kind;
using mtp::index_t;

constexpr int threads = 8;                   // the workspace grows with them
constexpr index_t batch = 4, length = 1024;  // of a training pass
constexpr index_t gib = index_t{1} << 30;

/// A model of the size of Qwen3-0.6B, in bf16.
constexpr mtp::model_config config_of(head_kind head, int depth) {
  return {.vocab_size = 151936,
          .hidden_size = 1024,
          .num_hidden_layers = 28,
          .max_position_embeddings = 4096,
          .attention = {.num_attention_heads = 16,
                        .num_key_value_heads = 8,
                        .head_dim = 128,
                        .qk_norm = true},
          .feed_forward = {.intermediate_size = 3072},
          .prediction = {.kind = head, .depth = depth},
          .tie_word_embeddings = true};
}

struct plan {
  index_t parameters;   // elements, padding included
  index_t activations;  // bytes, as all below
  index_t training;
  index_t sequence;  // caches, and rows of a step
  index_t decoding;
};

template <head_kind Head, int Depth>
constexpr plan plan_of() {
  constexpr mtp::model_config config = config_of(Head, Depth);
  using element = mtp::bf16;
  using loss = mtp::model_loss<config, mtp::cpu, element>;
  using decoder = mtp::decoder<config, mtp::cpu, element>;
  // float: gradients, masters and both moments; with several passes in a step, those of one as well
  using sum = mtp::accumulate_t<element>;
  constexpr index_t parameters = mtp::language_model<config, mtp::cpu, element>::layout.storage;
  constexpr index_t weights = parameters * static_cast<index_t>(sizeof(element));
  constexpr index_t activations = loss::activation_bytes(batch, length);
  constexpr index_t sequence = decoder::memory_bytes();
  return {parameters,
          activations,
          weights + 4 * parameters * static_cast<index_t>(sizeof(sum)) + activations +
              loss::workspace_bytes(batch, length, threads),
          sequence,
          weights + sequence + decoder::workspace_bytes(threads)};
}

// A machine with 32 GiB for training, 3 GiB for decoding. A module, a context or a batch that does
// not fit does not compile.
static_assert(plan_of<head_kind::sequential, 1>().training < 32 * gib,
              "a model with one sequential module trains within 32 GiB");
static_assert(plan_of<head_kind::sequential, 4>().decoding < 2 * gib,
              "a model with four sequential modules decodes within 2 GiB");

template <head_kind Head, int Depth>
void print_row() {
  constexpr plan p = plan_of<Head, Depth>();
  std::printf(
      "%-12s %d %11.1f", mtp::name_of(Head).data(), Depth, static_cast<double>(p.parameters) / 1e6);
  for (const index_t bytes : {p.activations, p.training, p.sequence, p.decoding}) {
    std::printf("%13.2f", static_cast<double>(bytes) / static_cast<double>(gib));
  }
  std::puts("");
}

template <head_kind Head>
void print_rows() {
  print_row<Head, 1>();
  print_row<Head, 2>();
  print_row<Head, 4>();
}

int main() {
#if defined(__AVX512F__)
  constexpr const char* vectors = ", AVX-512";  // products read bf16 as it lies
#else
  constexpr const char* vectors = "";
#endif
  std::printf("bf16; training %td x %td tokens per pass, a sequence of %d tokens, %d threads%s\n",
              batch,
              length,
              config_of(head_kind::none, 0).max_position_embeddings,
              threads,
              vectors);
  std::puts("               parameters  activations     training     sequence     decoding");
  std::puts("head         D   millions          GiB    GiB in all          GiB    GiB in all");
  print_row<head_kind::none, 0>();
  print_rows<head_kind::shared_logit>();
  print_rows<head_kind::parallel>();
  print_rows<head_kind::sequential>();
  print_rows<head_kind::recurrent>();
  print_rows<head_kind::independent>();
}
