// Kernels that begin before the one in front of them has ended give the bits that they give one
// after the other. Emulated, such a kernel sees the past until it has waited.
#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "support/cuda_cases.hpp"
// The backend comes first.
#include "mtp/mtp.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

namespace mtp::test::cuda_dependent_launch_cases {
namespace {

using bf16_matrix = tensor<bf16, dims<2>, cuda>;
using bf16_vector = tensor<bf16, dims<1>, cuda>;

cuda_options options_of(kernel_overlap overlap) {
  return {.workspace_bytes = 1 << 18, .product_bytes = 1 << 16, .overlap = overlap};
}

bool gpu_can_overlap() {
  int major = 0;
  cuda_detail::check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0),
                          "testing");
  return major >= 9;
}

/// What is asked of the emulation while it lives. Copies to shared memory that begin in the past
/// bring the past, because they arrive at once.
struct past_is_seen {
#if defined(MTP_CUDA_EMULATION)
  past_is_seen() {
    emulation::settings().early_kernels_see_the_past = true;
    emulation::settings().copies = emulation::copy_mode::eager;
  }
  ~past_is_seen() {
    emulation::reset();
  }
#endif
};

/// Kernels that were launched early, where that can be told.
long early_launches() {
#if defined(MTP_CUDA_EMULATION)
  return emulation::counts().early_launches;
#else
  return 0;
#endif
}
#if defined(MTP_CUDA_EMULATION)
constexpr bool launches_are_counted = true;
#else
constexpr bool launches_are_counted = false;
#endif

bf16_matrix made(index_t rows, index_t columns, std::uint64_t stream) {
  std::vector<bf16> elements;
  for (const double value : uniform(rows * columns, stream)) {
    elements.emplace_back(static_cast<float>(value));
  }
  return {dims<2>{rows, columns}, elements};
}

weight_view<const bf16, cuda> weight(const bf16_matrix& w) {
  return {w.data(), w.extent(0), w.extent(1)};
}

/// Operands of a program of operations; each is made anew for each run.
struct memory {
  static constexpr index_t C = 192, F = 160, V = 83;
  index_t M;
  bf16_matrix x = made(M, C, 1), normed{dims<2>{M, C}};              // [M, C]
  bf16_matrix gate_up{dims<2>{M, 2 * F}}, h{dims<2>{M, F}};          // [M, 2F], [M, F]
  bf16_matrix up = made(2 * F, C, 2), down = made(C, F, 3);          // [2F, C], [C, F]
  bf16_matrix output = made(V, C, 4), spare = made(16, C, 5);        // [V, C], [16, C]
  bf16_vector scale{dims<1>{C}, std::vector<bf16>(C, bf16(1.25f))};  // [C]
  tensor<float, dims<1>, cuda> inverse{dims<1>{M}};                  // [M]
  tensor<float, dims<2>, cuda> logits{dims<2>{M, V}};                // [M, V]
  tensor<float, dims<2>, cuda> few{dims<2>{M, 16}};                  // [M, 16]

  explicit memory(index_t rows) : M(rows) {}
};

void norm(cuda_context& context, memory& m) {
  rms_norm_forward(context, m.normed.view(), m.inverse.view(), m.x.view(), m.scale.view(), 1e-5);
}

/// Writes one row of `spare`.
void norm_to_spare(cuda_context& context, memory& m) {
  rms_norm_forward(context,
                   m.spare.view().slice(0, 15, 1),
                   m.inverse.view().slice(0, 0, 1),
                   m.x.view().slice(0, 0, 1),
                   m.scale.view(),
                   1e-5);
}

/// A feed-forward layer and the output matrix.
void decode(cuda_context& context, memory& m) {
  for (int layer = 0; layer < 2; ++layer) {
    norm(context, m);
    linear_forward(context, m.gate_up.view(), m.normed.view(), weight(m.up));
    swiglu_forward(context, m.h.view(), m.gate_up.view());
    linear_add_forward(context, m.x.view(), m.h.view(), weight(m.down), m.x.view());
  }
  norm(context, m);
  linear_forward(context, m.logits.view(), m.normed.view(), weight(m.output));
}

struct result {
  std::vector<bf16> x;
  std::vector<float> logits, few;
  long early;  // kernels
};

template <class Program>
result run(kernel_overlap overlap, index_t M, const Program& program) {
  [[maybe_unused]] const past_is_seen emulated;
  cuda_context context(options_of(overlap));
  memory m(M);
  const long before = early_launches();
  program(context, m);
  context.synchronize();
  return {m.x.to_host(), m.logits.to_host(), m.few.to_host(), early_launches() - before};
}

/// The same program in order and overlapped. Returns how many kernels were launched early.
template <class Program>
long compare(index_t M, const Program& program) {
  const result expected = run(kernel_overlap::off, M, program);
  const result actual = run(kernel_overlap::on, M, program);
  CHECK(same_bits(actual.x, expected.x));
  CHECK(same_bits(actual.logits, expected.logits));
  CHECK(same_bits(actual.few, expected.few));
  CHECK(expected.early == 0);
  return actual.early;
}

__global__ void double_kernel(bf16* x, index_t count) {
  const index_t i = static_cast<index_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) {
    x[i] = bf16(2 * static_cast<float>(x[i]));
  }
}

}  // namespace

TEST_CASE("operations of decoding give the same bits when kernels begin early") {
  if (!gpu_can_overlap()) {
    return;
  }
  for (const index_t M : {1, 5, 16}) {
    CAPTURE(M);
    const long early = compare(M, decode);
    CHECK((!launches_are_counted || early == 9));  // all but the first
  }
}

TEST_CASE("weights that were written just before are read as they were written") {
  if (!gpu_can_overlap()) {
    return;
  }
  const auto product = [](cuda_context& context, memory& m) {
    linear_forward(context, m.few.view(), m.normed.view(), weight(m.spare));
  };
  // Each writes `spare` as the last thing before the product, with a kernel in front that takes
  // part.
  const struct {
    std::string name;
    std::function<void(cuda_context&, memory&)> write;
    bool may_begin_early;
  } ways[] = {
      {"a map",
       [](cuda_context& c, memory& m) { scale(c, m.spare.view(), m.spare.view(), 2.0f); },
       false},
      {"random numbers",
       [](cuda_context& c, memory& m) {
         fill_normal(c,
                     weight_view<bf16, cuda>(m.spare.data(), 16, memory::C),
                     0.5,
                     random_stream(mtp::seed{1}, 2));
       },
       false},
      {"a product of few rows",
       [](cuda_context& c, memory& m) {
         linear_forward(
             c, m.spare.view().slice(0, 3, 4), m.h.view().slice(0, 0, 4), weight(m.down));
       },
       false},
      {"a norm", norm_to_spare, false},
      {"a kernel of the program's own",
       [](cuda_context& c, memory& m) {
         cudaLaunchConfig_t config{};
         config.gridDim = dim3(12);
         config.blockDim = dim3(256);
         config.stream = c.stream();
         cuda_detail::check_cuda(
             cudaLaunchKernelEx(&config, double_kernel, m.spare.data(), m.spare.count()), "test");
       },
       false},
      {"an upload",
       [](cuda_context& c, memory& m) {
         const std::vector<bf16> ones(static_cast<std::size_t>(m.spare.count()), bf16(1.0f));
         backend_traits<cuda>::upload(c, m.spare.data(), ones.data(), ones.size() * sizeof(bf16));
       },
       false},
      {"a norm, with kernels behind it that write something else",
       [](cuda_context& c, memory& m) {
         norm_to_spare(c, m);
         scale(c, m.h.view(), m.h.view(), 2.0f);
         norm(c, m);
       },
       false},
      {"nothing, but something else is written",
       [](cuda_context& c, memory& m) { scale(c, m.h.view(), m.h.view(), 2.0f); },
       true},
  };
  for (const auto& way : ways) {
    CAPTURE(way.name);
    for (const index_t M : {4, 16}) {
      long last_was_early = 0;
      compare(M, [&](cuda_context& context, memory& m) {
        decode(context, m);
        way.write(context, m);
        const long before = early_launches();
        product(context, m);
        last_was_early = early_launches() - before;
      });
      CHECK((!launches_are_counted || last_was_early == (way.may_begin_early ? 1 : 0)));
    }
  }
}

// ThreadSanitizer would take minutes, and sees no past.
#if MTP_EMULATION_TSAN
const auto where_it_is_quick = doctest::skip(true);
#else
const auto where_it_is_quick = doctest::skip(false);
#endif

TEST_CASE("text is the same in graphs whose kernels begin early" * where_it_is_quick) {
  if (!gpu_can_overlap()) {
    return;
  }
  static constexpr model_config config{
      .vocab_size = 83,
      .hidden_size = 128,
      .num_hidden_layers = 1,
      .max_position_embeddings = 64,
      .attention = {.num_attention_heads = 2, .num_key_value_heads = 1},
      .feed_forward = {.intermediate_size = 96},
      .prediction = {.kind = head_kind::sequential, .depth = 2}};
  struct trace {
    std::vector<token_t> tokens;
    std::vector<float> logits;
    long early;
  };
  const auto write = [](kernel_overlap overlap, decode_mode mode) {
    [[maybe_unused]] const past_is_seen emulated;
    cuda_context context(options_of(overlap));
    const language_model<config, cuda, bf16> model(context, seed{3});
    generator<config, cuda, bf16> writer(context, model);
    trace made{};
    generate_options<bf16, cuda> options;
    options.mode = mode;
    options.max_new_tokens = 8;
    std::vector<float> row(static_cast<std::size_t>(config.vocab_size));
    options.on_logits = [&](index_t, vector_view<const float, cuda> logits) {
      writer.download(row, logits);
      made.logits.insert(made.logits.end(), row.begin(), row.end());
    };
    const long before = early_launches();
    made.tokens = writer.generate(std::vector<token_t>{1, 7, 3}, options).tokens;
    made.early = early_launches() - before;
    return made;
  };
  const trace expected = write(kernel_overlap::off, decode_mode::plain);
  for (const decode_mode mode : {decode_mode::plain, decode_mode::speculative}) {
    const trace actual = write(kernel_overlap::on, mode);
    CHECK(same_bits(actual.tokens, expected.tokens));
    CHECK(same_bits(actual.logits, expected.logits));
    CHECK((!launches_are_counted || actual.early > 0));
  }
}

TEST_CASE("kernels that may still run are kept in mind until there are too many ranges") {
  std::vector<bf16> memory(64 * 1024);
  const auto range = [&](std::size_t first, std::size_t count) {
    return cuda_detail::memory_range{memory.data() + first, memory.data() + first + count};
  };
  cuda_detail::unfinished_kernels unfinished;
  CHECK(!unfinished.allow(range(0, 8)));  // nothing says that the stream is empty
  unfinished.add({});
  CHECK(unfinished.allow(range(0, 8)));
  unfinished.add({.written = {range(512, 8), range(1024, 8)}});
  CHECK(unfinished.allow(range(0, 512)));
  CHECK(!unfinished.allow(range(0, 513)));
  CHECK(unfinished.allow(range(520, 504)));
  CHECK(!unfinished.allow(range(1031, 8)));
  for (std::size_t kernel = 2; kernel < 32; ++kernel) {
    unfinished.add({.written = {range(512 * (kernel + 1), 8)}});
    unfinished.add({.written = {range(512 * (kernel + 1) + 4, 9)}});  // no range of its own
    CHECK(!unfinished.allow(range(512 * (kernel + 1) + 12, 8)));
    CHECK(!unfinished.allow(range(512, 8)));
    CHECK(unfinished.allow(range(0, 8)));
  }
  unfinished.add({.written = {range(512 * 33, 8)}});
  CHECK(!unfinished.allow(range(0, 8)));
  unfinished.forget();
  unfinished.add({});
  CHECK(unfinished.allow(range(512, 8)));
}

#if defined(MTP_CUDA_EMULATION)
TEST_CASE("a context refuses to overlap kernels on a GPU that cannot") {
  emulation::settings().compute_major = 8;
  CHECK_THROWS_WITH_AS(
      cuda_context(options_of(kernel_overlap::on)),
      doctest::Contains("kernel_overlap::on needs a device of compute capability 9.0 or newer"),
      mtp::error);
  CHECK(!cuda_context(options_of(kernel_overlap::off)).overlaps());
  CHECK(!cuda_context(options_of(kernel_overlap::automatic)).overlaps());
  emulation::reset();
  CHECK(cuda_context(options_of(kernel_overlap::automatic)).overlaps());
}
#endif

}  // namespace mtp::test::cuda_dependent_launch_cases
