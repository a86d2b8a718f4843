// Checkpoints in FP8 as models with weights in FP8: the numbers of the file, and decoding by them.
#include "mtp/io/pretrained/load_quantized.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/decode/batch_generator.hpp"
#include "mtp/decode/score.hpp"
#include "mtp/io/mapped_model.hpp"
#include "mtp/io/pretrained/convert_to_mapped.hpp"
#include "mtp/io/pretrained/families.hpp"
#include "mtp/io/pretrained/save.hpp"
#include "mtp/io/safetensors_writer.hpp"
#include "support/compare.hpp"
#include "support/decoding.hpp"
#include "support/reference/e4m3.hpp"

namespace mtp::test::io_pretrained_load_quantized_cases {

namespace {

using io::deepseek_v3_names;
using io::element;
using mtp::testing::scratch_directory;

/// Of DeepSeek-V3's kind. Neither rows nor columns of most matrices end with a block of scales, and
/// the rows of an expert begin within one.
constexpr model_config deepseek = [] {
  model_config config{
      .vocab_size = 45,
      .hidden_size = 160,
      .num_hidden_layers = 2,
      .max_position_embeddings = 80,
      .attention = {.kind = attention_kind::multi_head_latent,
                    .num_attention_heads = 4,
                    .q_lora_rank = 20,
                    .kv_lora_rank = 136,
                    .qk_nope_head_dim = 32,
                    .qk_rope_head_dim = 8,
                    .v_head_dim = 64},
      .feed_forward = {.kind = feed_forward_kind::mixture_of_experts,
                       .intermediate_size = 136,
                       .first_k_dense_replace = 1,
                       .n_routed_experts = 4,
                       .num_experts_per_tok = 2,
                       .moe_intermediate_size = 144,
                       .n_shared_experts = 1,
                       .n_group = 2,
                       .topk_group = 1,
                       .routed_scaling_factor = 1.5f},
      .prediction = {
          .kind = head_kind::sequential, .depth = 1, .concat = concat_order::embedding_first}};
  return resolved(config);
}();
/// Keys and values of a head are whole blocks, and the projection's halves are the other way round,
/// at a column that ends a block.
constexpr model_config whole_blocks = [] {
  model_config config = deepseek;
  config.hidden_size = 128;
  config.attention.num_attention_heads = config.attention.num_key_value_heads = 2;
  config.attention.qk_nope_head_dim = 128;
  config.attention.v_head_dim = 128;
  config.prediction.concat = concat_order::hidden_first;
  return config;
}();
/// At a column that does not.
constexpr model_config straddling = [] {
  model_config config = deepseek;
  config.prediction.concat = concat_order::hidden_first;
  return config;
}();

/// Whether a file in FP8 would have the tensor so; others are as they were.
bool is_matrix_of_map(const io::tensor_info& info) {
  const std::string_view name = info.name;
  return info.shape.size() == 2 && name.find("proj") != std::string_view::npos;
}

/// A matrix in e4m3: what is nearest to element / scale, of scales that are powers of two and
/// differ from block to block.
struct in_blocks {
  std::vector<std::uint8_t> numbers;  // [R, K]
  std::vector<float> scales;          // [ceil(R / 128), ceil(K / 128)]
};

in_blocks quantized(const std::vector<float>& values, index_t R, index_t K) {
  const index_t groups = ceil_div(K, 128), blocks = ceil_div(R, 128);
  in_blocks made{std::vector<std::uint8_t>(values.size()),
                 std::vector<float>(static_cast<std::size_t>(blocks * groups))};
  const auto block_of = [&](index_t i) {
    return static_cast<std::size_t>(i / K / 128 * groups + i % K / 128);
  };
  for (index_t i = 0; i < R * K; ++i) {
    float& scale = made.scales[block_of(i)];
    const double value = std::abs(static_cast<double>(values[static_cast<std::size_t>(i)]));
    scale = std::max(scale, static_cast<float>(std::exp2(std::ceil(std::log2(value / 448)))));
  }
  for (std::size_t i = 0; i < made.scales.size(); ++i) {
    made.scales[i] *= static_cast<float>(1 << i % 3);  // neighbours differ
  }
  std::vector<double> positive;
  for (std::uint8_t code = 0; code < 127; ++code) {
    positive.push_back(reference::value_of_e4m3(code));
  }
  for (index_t i = 0; i < R * K; ++i) {
    const double value = static_cast<double>(values[static_cast<std::size_t>(i)]) /
                         static_cast<double>(made.scales[block_of(i)]);
    const auto above = std::lower_bound(positive.begin(), positive.end() - 1, std::abs(value));
    const auto nearest =
        above != positive.begin() && std::abs(value) - above[-1] < *above - std::abs(value)
            ? above - 1
            : above;
    made.numbers[static_cast<std::size_t>(i)] =
        static_cast<std::uint8_t>((nearest - positive.begin()) + (value < 0 ? 128 : 0));
  }
  return made;
}

template <class T>
io::tensor_source source(const std::string& name,
                         element type,
                         const std::vector<index_t>& shape,
                         const std::vector<T>& values) {
  return {name, type, shape, [values](index_t first, index_t count, std::byte* to) {
            std::memcpy(to, values.data() + first, static_cast<std::size_t>(count) * sizeof(T));
          }};
}

/// What a checkpoint is written of: random parameters, or those of a model some of whose drafts are
/// accepted.
enum class content { random, drafts_well };

/// Writes a checkpoint of the tensors that `keeps` takes; those that `chooses` takes are in FP8.
template <model_config Config>
void write(
    const std::filesystem::path& folder,
    const std::function<bool(const io::tensor_info&)>& chooses = is_matrix_of_map,
    const std::function<bool(const std::string&)>& keeps = [](const auto&) { return true; },
    content what = content::random) {
  cpu_context context({.threads = 2});
  language_model<Config, cpu> model(context, seed{3});
  if (what == content::drafts_well) {
    make_perfect(model);
    add_head_noise(model, 1.5, 50);
  }
  add_noise(model, 0.02);
  const scratch_directory plain;
  io::save_parameters(plain.path(), model, deepseek_v3_names);
  const io::tensor_files files(plain.path());
  std::vector<io::tensor_source> sources;
  for (const auto& [name, tensor] : files.tensors()) {
    if (!keeps(name)) {
      continue;
    }
    const auto values = io::read_all<float>(tensor);
    const auto& shape = tensor.info->shape;
    if (!chooses(*tensor.info)) {
      sources.push_back(source(name, element::f32, shape, values));
      continue;
    }
    const in_blocks made = quantized(values, shape[0], shape[1]);
    sources.push_back(source(name, element::f8_e4m3, shape, made.numbers));
    sources.push_back(source(name + "_scale_inv",
                             element::f32,
                             {ceil_div(shape[0], 128), ceil_div(shape[1], 128)},
                             made.scales));
  }
  io::write_safetensors(folder / "model.safetensors", sources, {});
}

/// W as the linear map computes it of unit vectors: of one number and its scale, rounded once.
std::vector<float> matrix_of_map(cpu_context& context, weight_view<const float, cpu> w) {
  const index_t K = w.inputs, N = w.outputs;
  tensor<float, dims<2>, cpu> x(dims<2>{K, K}), y(dims<2>{K, N});
  for (index_t k = 0; k < K; ++k) {
    for (index_t i = 0; i < K; ++i) {
      x.view()(k, i) = i == k ? 1.0f : 0.0f;
    }
  }
  linear_forward(context, y.view(), x.view(), w);
  return elements(y.view());  // [K, N]
}

/// The same of a weight with transposed blocks, the part of heads of 128 outputs, as
/// head_linear_backward_input computes it.
std::vector<float> matrix_of_heads(cpu_context& context, weight_view<const float, cpu> w) {
  const index_t K = w.inputs, N = 128, H = w.outputs / N;
  tensor<float, dims<3>, cpu> dy(dims<3>{N, H, N}), dx(dims<3>{N, H, K});
  for (index_t n = 0; n < N; ++n) {
    for (index_t h = 0; h < H; ++h) {
      for (index_t i = 0; i < N; ++i) {
        dy.view()(n, h, i) = i == n ? 1.0f : 0.0f;
      }
    }
  }
  head_linear_backward_input(context, dx.view(), dy.view(), w);
  std::vector<float> made(static_cast<std::size_t>(K * w.outputs));  // [K, H N]
  for (index_t n = 0; n < w.outputs; ++n) {
    for (index_t k = 0; k < K; ++k) {
      made[static_cast<std::size_t>(k * w.outputs + n)] = dx.view()(n % N, n / N, k);
    }
  }
  return made;
}

/// Every parameter has the values that load_pretrained gives it; those that `in_bytes` takes are
/// bytes without elements.
template <model_config Config>
void check_values(const std::filesystem::path& folder,
                  const std::function<bool(const std::string&)>& in_bytes) {
  cpu_context context({.threads = 2});
  language_model<Config, cpu> model(context, seed{1});
  CHECK(io::load_pretrained(folder, model, deepseek_v3_names).has_head());
  const auto loaded = io::load_quantized<Config, cpu, float>(context, folder, deepseek_v3_names);
  CHECK(same_bits(loaded.rope(), model.rope()));
  std::size_t bytes = 0;
  model.layout.visit([&](const std::string& name, const parameter& p) {
    CAPTURE(name);
    if (p.is_vector() || !in_bytes(name)) {
      CHECK(same_bits(loaded.values().storage(p), model.values().storage(p)));
      bytes += static_cast<std::size_t>(round_up(p.storage, 16)) * 4;
      return;
    }
    const weight_view<const float, cpu> w = loaded.values().matrix(p);
    REQUIRE(w.quantized != nullptr);
    CHECK(w.data == nullptr);
    const bool transposed = name.find("k_up_proj") != std::string::npos;
    CHECK(w.format == (transposed ? quantized_format::e4m3_transposed : quantized_format::e4m3));
    bytes += static_cast<std::size_t>(quantized_weight_bytes<cpu>(p.outputs, p.inputs, w.format));
    const auto made = transposed ? matrix_of_heads(context, w) : matrix_of_map(context, w);
    index_t wrong = 0;
    for (index_t k = 0; k < p.inputs; ++k) {
      for (index_t n = 0; n < p.outputs; ++n) {
        wrong += made[static_cast<std::size_t>(k * p.outputs + n)] == model.values().matrix(p)(n, k)
                     ? 0
                     : 1;
      }
    }
    CHECK(wrong == 0);
  });
  CHECK(loaded.bytes() == bytes);  // so nothing is there twice
}

/// All but U of latent attention, which is elements where blocks have rows of two heads.
bool is_map(const std::string& name) {
  return name.find("_proj") != std::string::npos && name.find("k_up_proj") == std::string::npos;
}
bool is_map_or_key(const std::string& name) {
  return name.find("_proj") != std::string::npos;
}

std::string refused(const std::function<void()>& load) {
  try {
    load();
  } catch (const error& problem) {
    return problem.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("matrices keep the numbers and scales of the file, and the rest becomes elements") {
  SUBCASE("a family as it is") {
    const scratch_directory folder;
    write<deepseek>(folder.path());
    check_values<deepseek>(folder.path(), is_map);
  }
  SUBCASE("keys and values of heads in whole blocks, and halves of columns that change places") {
    const scratch_directory folder;
    write<whole_blocks>(folder.path());
    check_values<whole_blocks>(folder.path(), is_map_or_key);
  }
  SUBCASE("a parameter some of whose tensors are in FP8 is elements") {
    const scratch_directory folder;
    write<deepseek>(folder.path(), [](const io::tensor_info& info) {
      return is_matrix_of_map(info) && info.name.find("experts.2.up_proj") == std::string::npos;
    });
    check_values<deepseek>(folder.path(), [](const std::string& name) {
      return is_map(name) && name.find("mlp.experts.gate_up") == std::string::npos;
    });
  }
  SUBCASE("an embedding in FP8 is elements, and an output matrix is not") {
    const scratch_directory folder;
    write<deepseek>(folder.path(), [](const io::tensor_info& info) {
      return info.name == "model.embed_tokens.weight" || info.name == "lm_head.weight" ||
             info.name.find("layers.2.embed_tokens") != std::string::npos ||
             info.name.find("shared_head.head") != std::string::npos;
    });
    check_values<deepseek>(folder.path(),
                           [](const std::string& name) { return name == "lm_head.weight"; });
  }
}

TEST_CASE("logits are those of the widened weights but for the order of roundings") {
  const scratch_directory folder;
  write<whole_blocks>(folder.path());
  cpu_context context({.threads = 2});
  language_model<whole_blocks, cpu> widened(context, seed{1});
  CHECK(io::load_pretrained(folder.path(), widened, deepseek_v3_names).has_head());
  const auto loaded =
      io::load_quantized<whole_blocks, cpu, float>(context, folder.path(), deepseek_v3_names);
  const auto tokens = random_tokens(60, whole_blocks.vocab_size, 1);
  scorer<whole_blocks, cpu> of_elements(context, widened), of_bytes(context, loaded);
  const auto expected = of_elements.score(tokens).log_probabilities;
  const auto actual = of_bytes.score(tokens).log_probabilities;
  // Scales are powers of two, so both have the same weights. A sum of K products has at most
  // K + 3 roundings in either order, K <= 256 here; a logarithm of a probability is behind 8 maps
  // of each of 2 blocks and the output matrix, and norms keep what they pass on at the size of
  // their input.
  const double bound = 17 * 2 * (256 + 3) * 0x1p-24;
  const std::vector<double> all(expected.begin() + 1, expected.end());
  CHECK(within({actual.begin() + 1, actual.end()}, all, bound));
  CHECK_FALSE(same_bits(actual, expected));
}

TEST_CASE_TEMPLATE("drafts leave text and logits of a model in FP8 as they are", S, float, bf16) {
  const scratch_directory folder;
  write<deepseek>(
      folder.path(), is_matrix_of_map, [](const auto&) { return true; }, content::drafts_well);
  cpu_context context({.threads = 2});
  const auto loaded =
      io::load_quantized<deepseek, cpu, S>(context, folder.path(), deepseek_v3_names);
  generator<deepseek, cpu, S> generator(context, loaded);
  batch_generator<deepseek, cpu, S> batch(context, loaded, 2);
  index_t drafted = 0, accepted = 0;
  for (const index_t length : {1, 33}) {
    CAPTURE(length);
    const auto prompt = random_tokens(length, deepseek.vocab_size, 3);
    auto options = options_of<S>(decode_mode::plain, 40);
    options.sampling = {.temperature = 0.9, .top_p = 0.95, .seed = seed{5}};
    for (const bool sampled : {false, true}) {
      CAPTURE(sampled);
      options.sampling.temperature = sampled ? 0.9 : 0;
      options.mode = decode_mode::plain;
      const auto plain = record(generator, prompt, options);
      options.mode = decode_mode::speculative;
      const auto text = record(generator, prompt, options);
      CHECK(same_text(text, plain));
      drafted += text.result.drafted[0];
      accepted += text.result.accepted[0];
      const auto beside = batch.submit(random_tokens(7, deepseek.vocab_size, 4), options);
      const auto request = batch.submit(prompt, options);
      while (batch.run_cycle()) {
      }
      CHECK(batch.result(request).tokens == plain.result.tokens);
      CHECK(batch.result(beside).tokens != plain.result.tokens);
    }
  }
  CHECK(accepted > 0);
  CHECK(accepted < drafted);
}

TEST_CASE("steps of several rows of a model in FP8 have the bits of single steps") {
  const scratch_directory folder;
  write<whole_blocks>(folder.path());
  cpu_context context({.threads = 1});
  const auto loaded =
      io::load_quantized<whole_blocks, cpu, float>(context, folder.path(), deepseek_v3_names);
  const auto tokens = random_tokens(40, whole_blocks.vocab_size, 5);
  decoder<whole_blocks, cpu> one(context, loaded);
  std::vector<float> expected;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto logits = elements(one.step({&tokens[i], 1}, hidden_states::dropped));
    if (i >= 31 && i < 33) {
      expected.insert(expected.end(), logits.begin(), logits.end());
    }
  }
  for (int threads = 1; threads <= 3; ++threads) {
    CAPTURE(threads);
    cpu_context shared({.threads = threads});
    decoder<whole_blocks, cpu> together(shared, loaded);
    const std::span<const token_t> all(tokens);
    together.prefill(all.first(31), hidden_states::dropped);
    CHECK(same_bits(elements(together.step(all.subspan(31, 2), hidden_states::dropped)), expected));
  }
}

TEST_CASE_TEMPLATE("a checkpoint becomes the file of its model without the model", S, float, bf16) {
  const scratch_directory folder;
  write<whole_blocks>(folder.path(), [](const io::tensor_info& info) {
    return is_matrix_of_map(info) && info.name.find("experts.2.up_proj") == std::string::npos;
  });
  cpu_context context({.threads = 2});
  const auto loaded =
      io::load_quantized<whole_blocks, cpu, S>(context, folder.path(), deepseek_v3_names);
  io::save_mapped(folder / "of_model", loaded);
  io::convert_to_mapped<whole_blocks, cpu, S>(
      folder.path(), folder / "of_checkpoint", deepseek_v3_names);
  CHECK(mtp::testing::content(folder / "of_checkpoint") ==
        mtp::testing::content(folder / "of_model"));
  const auto mapped =
      io::map_model<whole_blocks, cpu, S>(folder / "of_checkpoint", {.verify = true});
  const auto tokens = random_tokens(30, whole_blocks.vocab_size, 1);
  scorer<whole_blocks, cpu, S> in_memory(context, loaded), in_file(context, mapped);
  CHECK(same_bits(in_file.score(tokens).log_probabilities,
                  in_memory.score(tokens).log_probabilities));

  write<straddling>(folder.path());
  const std::string message = refused([&] {
    io::convert_to_mapped<straddling, cpu, S>(
        folder.path(), folder / "of_checkpoint", deepseek_v3_names);
  });
  CHECK(message.find("convert_to_mapped: ") != std::string::npos);
  CHECK(message.find("model.layers.2.eh_proj.weight is F8_E4M3 with halves") != std::string::npos);
  CHECK(mtp::testing::content(folder / "of_checkpoint") ==
        mtp::testing::content(folder / "of_model"));
}

TEST_CASE("a tensor in F8_E4M3 that is stored by inputs is refused by its name") {
  io::file_piece piece;
  CHECK(io::pretrained_detail::why_not_e4m3(piece).empty());
  piece.transposed = true;
  CHECK(io::pretrained_detail::why_not_e4m3(piece) ==
        "is F8_E4M3 of inputs by outputs, expected outputs by inputs");
}

TEST_CASE("what cannot be kept as it is is refused by its name") {
  cpu_context context({.threads = 1});
  const auto load = [&](const std::filesystem::path& folder) {
    return refused([&] {
      static_cast<void>(
          io::load_quantized<straddling, cpu, float>(context, folder, deepseek_v3_names));
    });
  };
  const auto says = [](const std::string& message, const std::string& part) {
    CAPTURE(message);
    CHECK(message.find(part) != std::string::npos);
  };
  const scratch_directory folder;
  write<straddling>(folder.path());
  says(load(folder.path()),
       "model.layers.2.eh_proj.weight is F8_E4M3 with halves of columns that the configuration has "
       "the other way round, and their number, 160, is no multiple of 128");
  write<straddling>(folder.path(), [](const io::tensor_info& info) {
    return is_matrix_of_map(info) && info.name.find("eh_proj") == std::string::npos;
  });
  CHECK(load(folder.path()) == "accepted");
  write<straddling>(folder.path(), is_matrix_of_map, [](const std::string& name) {
    return name != "model.layers.0.mlp.down_proj.weight_scale_inv" &&
           name != "model.layers.1.self_attn.o_proj.weight";
  });
  says(load(folder.path()), "load_quantized: ");
  says(load(folder.path()), "missing: model.layers.1.self_attn.o_proj.weight");
  write<straddling>(folder.path(), is_matrix_of_map, [](const std::string& name) {
    return name.find("model.layers.2.") == std::string::npos;
  });
  says(load(folder.path()), "has nothing of the head that the configuration has; expected mtp.0.");
}

}  // namespace mtp::test::io_pretrained_load_quantized_cases
