// The checkpoint's model in the way of storing it that the command line asks for.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "mtp/backend/cpu.hpp"
#include "mtp/io/mapped_model.hpp"
#include "mtp/io/pretrained/check_config.hpp"
#include "mtp/io/pretrained/convert_to_mapped.hpp"
#include "mtp/io/pretrained/families.hpp"
#include "mtp/io/pretrained/load.hpp"
#include "mtp/io/pretrained/load_quantized.hpp"
#include "mtp/model/quantized_model.hpp"
#include "options.hpp"

namespace example {

/// In elements, or with weights in 8 bits or in a file.
template <mtp::model_config Config, class S>
class stored_model {
 public:
  using elements_type = mtp::language_model<Config, mtp::cpu, S>;
  using bytes_type = mtp::quantized_model<Config, mtp::cpu, S>;
  using model_type = mtp::inference_model<Config, mtp::cpu, S>;

  /// Reads the checkpoint, and says on standard error what it lacks and has too much of.
  stored_model(mtp::context<mtp::cpu>& context,
               const generate_request& request,
               const mtp::model_config& in_file,
               const mtp::io::family_names& family) {
    mtp::io::check_config(request.folder, in_file);
    constexpr auto extra = mtp::io::extra_tensors::left_out;
    if (!request.mapped.empty()) {
      if (!std::filesystem::exists(request.mapped)) write_mapped(context, request, family);
      bytes_.emplace(mtp::io::map_model<Config, mtp::cpu, S>(request.mapped));
    } else if (request.int8) {
      bytes_.emplace(quantized(context, request, family));
    } else if (request.fp8) {
      bytes_.emplace(
          mtp::io::load_quantized<Config, mtp::cpu, S>(context, request.folder, family, extra));
    } else {
      elements_ = loaded(context, request, family);
    }
  }

  const model_type& get() const {
    if (elements_) return *elements_;
    return *bytes_;
  }

 private:
  static std::unique_ptr<elements_type> loaded(mtp::context<mtp::cpu>& context,
                                               const generate_request& request,
                                               const mtp::io::family_names& family) {
    auto model = std::make_unique<elements_type>(context, mtp::seed{1});
    const auto report =
        mtp::io::load_pretrained(request.folder, *model, family, mtp::io::extra_tensors::left_out);
    for (const std::string& name : report.left_out) {
      std::fprintf(stderr, "generate: left out: %s\n", name.c_str());
    }
    if (!report.has_head()) {
      std::fprintf(stderr, "generate: the checkpoint has no head, so nothing is drafted\n");
    }
    return model;
  }

  static bytes_type quantized(mtp::context<mtp::cpu>& context,
                              const generate_request& request,
                              const mtp::io::family_names& family) {
    return bytes_type(context, *loaded(context, request, family));
  }

  static void write_mapped(mtp::context<mtp::cpu>& context,
                           const generate_request& request,
                           const mtp::io::family_names& family) {
    if (request.int8) {
      mtp::io::save_mapped(request.mapped, quantized(context, request, family));
    } else {
      mtp::io::convert_to_mapped<Config, mtp::cpu, S>(
          request.folder, request.mapped, family, mtp::io::extra_tensors::left_out);
    }
    std::fprintf(stderr, "generate: %s was written\n", request.mapped.c_str());
  }

  std::unique_ptr<elements_type> elements_;
  std::optional<bytes_type> bytes_;
};

}  // namespace example
