// Saving and restoring generation in progress: all requests of a batch_generator in one safetensors
// file, written whole or not at all.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/decode/batch_generator.hpp"
#include "mtp/io/checkpoint.hpp"
#include "mtp/io/checksum.hpp"
#include "mtp/io/describe.hpp"
#include "mtp/io/generation_fields.hpp"
#include "mtp/io/parameters.hpp"
#include "mtp/io/safetensors.hpp"
#include "mtp/model/inference_model.hpp"
#include "mtp/ops/quantize.hpp"

namespace mtp::inline MTP_ABI::io {

namespace generation_detail {

using text_map = std::map<std::string, std::string>;

inline constexpr const char* format = "mtp generation 2";

/// What a model is: its configuration, its element type, and for each parameter the checksum of its
/// elements in row-major order, then of its weights in 8 bits, as far as the model has them.
template <model_config Config, class Backend, scalar S>
text_map describe_model(const inference_model<Config, Backend, S>& model) {
  namespace detail = checkpoint_detail;
  text_map entries = describe(Config);
  entries.emplace("model.elements", element_name(element_of<S>()));
  const auto stored = model.values();
  for (const auto& [name, p] : detail::list(model.layout)) {
    xxh64 sum;
    if (const auto elements = stored.storage(p); elements.data() != nullptr) {
      const auto host = detail::host_copy<S, Backend>(elements.data(), p.storage);
      parameter alone = p;
      alone.offset = 0;
      std::vector<S> values(static_cast<std::size_t>(p.count()));
      detail::gather<S, Backend>(parameter_array<const S, Backend>(host.data(), p.storage),
                                 alone,
                                 0,
                                 p.count(),
                                 values.data());
      sum.update(std::as_bytes(std::span(values)));
    }
    if constexpr (has_quantized_weights<Backend, S>) {
      if (!p.is_vector() && stored.matrix(p).quantized != nullptr) {
        sum.update(detail::host_copy<std::byte, Backend>(
            stored.matrix(p).quantized, quantized_weight_bytes<Backend>(p.outputs, p.inputs)));
      }
    }
    entries.emplace("model.parameter." + name, to_hex(sum.digest()));
  }
  return entries;
}

inline std::string prefix_of(std::size_t i) {
  return "request." + std::to_string(i) + ".";
}

/// A number as text that reads back to the same bits.
template <class Number>
std::string number_text(const Number& number) {
  if constexpr (std::floating_point<Number>) {
    return checkpoint_detail::to_text(number);
  } else {
    return mtp::detail::field_text(number);
  }
}

/// Takes entries and arrays from a file, and knows in the end whether it had others.
class file_reader {
 public:
  explicit file_reader(const std::filesystem::path& path)
      : where_("load_generation: '" + path.string() + "': "), file_(path) {
    require(file_.verify(), "there is no checksum; is it of save_generation?");
    known_.insert(std::string(checksum_key));
  }

  const std::string& where() const { return where_; }
  const text_map& entries() const { return file_.metadata(); }

  template <class... Parts>
  void require(bool holds, const Parts&... parts) const {
    check(holds, where_, parts...);
  }

  const std::string& entry(const std::string& key) {
    const auto found = entries().find(key);
    require(found != entries().end(), "there is no entry \"", key, "\"");
    known_.insert(key);
    return found->second;
  }
  template <class Number>
  void read(const std::string& key, Number& to) {
    const std::string& text = entry(key);
    require(mtp::detail::set_field(to, text), "the entry \"", key, "\" cannot be \"", text, "\"");
  }
  template <class Element>
  void read(const std::string& name, std::vector<Element>& to) {
    const tensor_info* info = file_.find(name);
    require(info != nullptr, "there is no tensor '", name, "'");
    require(info->type == element_of<Element>() && info->shape.size() == 1,
            "tensor '",
            name,
            "': expected one dimension of ",
            element_name(element_of<Element>()),
            ", got ",
            detail::shape_text(info->shape),
            " of ",
            element_name(info->type));
    to.resize(static_cast<std::size_t>(info->count()));
    file_.read(*info, 0, info->count(), reinterpret_cast<std::byte*>(to.data()));
    known_.insert(name);
  }

  /// Throws unless the file is of this model; names what differs.
  void check_model(const text_map& model, const model_config& config) {
    std::ostringstream lines;
    const auto differs = [&](const std::string& name, const std::string& wanted, const auto& got) {
      lines << "\n  " << name << ": expected " << wanted << ", got " << got;
    };
    visit_differences(
        config, entries(), [&](const char* name, const auto& wanted, const auto& got) {
          differs(std::string("config.") + name, wanted, got.empty() ? "nothing" : got);
        });
    require(lines.str().empty(), "it is of a model with another configuration:", lines.str());
    for (const auto& [key, value] : model) {
      if (!key.starts_with("config.") && entry(key) != value) {
        differs(key, value, entry(key));
      }
    }
    for (const auto& [key, value] : describe(config)) {
      known_.insert(key);
    }
    require(lines.str().empty(), "it is of a model with other parameters:", lines.str());
  }

  /// Throws if the file has what was not read.
  void check_nothing_else() const {
    for (const auto& [key, value] : entries()) {
      require(known_.contains(key), "unexpected entry \"", key, "\"");
    }
    for (const tensor_info& tensor : file_.tensors()) {
      require(known_.contains(tensor.name), "unexpected tensor '", tensor.name, "'");
    }
  }

 private:
  std::string where_;
  safetensors_file file_;
  std::set<std::string> known_;
};

}  // namespace generation_detail

/// Writes all requests of a generator that were not taken, as they are between two cycles: prompts,
/// options but for callbacks, tokens and log-probabilities so far, counts of passes and drafts, and
/// what they ended with. Caches are not written: running the tokens again gives their bits. Of the
/// model there is its configuration and a checksum of each parameter. The same generation gives the
/// same bytes. Throws mtp::error if it is called from a callback, and if the disk does not take the
/// file; one that was there before is then untouched.
template <model_config Config, class Backend, scalar S>
void save_generation(const std::filesystem::path& path,
                     batch_generator<Config, Backend, S>& batch) {
  namespace own = generation_detail;
  const auto snapshot = batch.snapshot();
  own::text_map metadata = own::describe_model(batch.sequences().model());
  metadata.emplace("format", own::format);
  metadata.emplace("generation.next", own::number_text(snapshot.next));
  metadata.emplace("generation.requests", own::number_text(snapshot.requests.size()));
  std::vector<tensor_source> sources;
  for (std::size_t i = 0; i < snapshot.requests.size(); ++i) {
    const std::string prefix = own::prefix_of(i);
    own::visit_numbers(snapshot.requests[i], [&](const char* name, const auto& number) {
      metadata.emplace(prefix + name, own::number_text(number));
    });
    const auto arrays =
        std::make_shared<const own::request_arrays>(own::arrays_of(snapshot.requests[i]));
    own::visit_arrays(
        *arrays, [&]<class Element>(const char* name, const std::vector<Element>& array) {
          sources.push_back({prefix + name,
                             element_of<Element>(),
                             {static_cast<index_t>(array.size())},
                             [arrays, &array](index_t first, index_t count, std::byte* to) {
                               std::memcpy(to,
                                           array.data() + first,
                                           static_cast<std::size_t>(count) * sizeof(Element));
                             }});
        });
  }
  write_safetensors(path, sources, metadata);
}

/// Goes on where save_generation was called: each request gets the tokens and log-probabilities, to
/// the bit, that it would have got there, whatever the number of slots. `batch` is as it was made,
/// with the same model. Callbacks are given again: callbacks(number, options) may set them for each
/// unfinished request, must set the mask of one that had a mask, and what else it changes has no
/// effect. They are told of tokens that are still to come. A request that failed throws mtp::error
/// with the message that it had. Throws mtp::error, with nothing changed, for a file that is
/// damaged or makes no sense, and for one of another configuration or other parameters, which it
/// names; what `callbacks` throws passes through. Which backend wrote the file does not matter, but
/// bits are those of the one that reads it.
template <model_config Config, class Backend, scalar S, class Callbacks>
void load_generation(const std::filesystem::path& path,
                     batch_generator<Config, Backend, S>& batch,
                     const Callbacks& callbacks) {
  namespace own = generation_detail;
  own::file_reader file(path);
  const std::string& format = file.entry("format");
  file.require(format == own::format, "expected the format ", own::format, ", got ", format);
  file.check_model(own::describe_model(batch.sequences().model()), Config);
  typename batch_generator<Config, Backend, S>::snapshot_type snapshot;
  std::size_t count = 0;
  file.read("generation.next", snapshot.next);
  file.read("generation.requests", count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::string prefix = own::prefix_of(i);
    auto& request = snapshot.requests.emplace_back();
    own::visit_numbers(request,
                       [&](const char* name, auto& number) { file.read(prefix + name, number); });
    own::request_arrays arrays;
    own::visit_arrays(arrays,
                      [&](const char* name, auto& array) { file.read(prefix + name, array); });
    own::put_arrays(request, arrays, file.where() + prefix);
  }
  file.check_nothing_else();
  const auto told = [&](const auto& action) {
    try {
      action();
    } catch (const error& e) {
      fail(file.where(), e.what());
    }
  };
  for (auto& request : snapshot.requests) {
    if (request.progress == request_progress::unfinished) {
      auto options = request.options;
      callbacks(request.number, options);
      request.options.on_token = std::move(options.on_token);
      request.options.on_logits = std::move(options.on_logits);
      request.options.sampling.mask = std::move(options.sampling.mask);
    }
  }
  told([&] {
    mtp::detail::check_snapshot(snapshot,
                                Config.vocab_size,
                                Config.max_position_embeddings,
                                refusals_of_trees<Config, Backend, S>);
  });
  told([&] { batch.restore(std::move(snapshot)); });
}

/// The same without callbacks.
template <model_config Config, class Backend, scalar S>
void load_generation(const std::filesystem::path& path,
                     batch_generator<Config, Backend, S>& batch) {
  load_generation(path, batch, [](index_t, generate_options<S, Backend>&) {});
}

/// @cond
// What calls are told that do not fit.
template <class Call = void>
void save_generation(mtp::detail::any, mtp::detail::any) {
  static_assert(mtp::detail::never<Call>,
                "save_generation: expected a path and a batch_generator that may change");
}
template <class Call = void>
void load_generation(mtp::detail::any, mtp::detail::any) {
  static_assert(mtp::detail::never<Call>,
                "load_generation: expected a path, a batch_generator, and a function of a "
                "request's number and its options");
}
/// @endcond

}  // namespace mtp::inline MTP_ABI::io
