// Checkpoints of a family that the library wrote: that every tensor matters.
#pragma once

#include <cstddef>
#include <cstring>
#include <doctest/doctest.h>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "io/scratch.hpp"
#include "mtp/backend/cpu.hpp"
#include "mtp/io/pretrained/save.hpp"

namespace mtp::testing {

/// Every element of every parameter, in the order of visits.
template <model_config Config, class S>
std::vector<S> values_of(const language_model<Config, cpu, S>& model) {
  std::vector<S> all;
  model.layout.visit([&](const std::string&, const parameter& p) {
    for (index_t i = 0; i < p.count(); ++i) {
      all.push_back(p.is_vector() ? model.values().vector(p)(i)
                                  : model.values().matrix(p)(i / p.inputs, i % p.inputs));
    }
  });
  return all;
}

/// Gives every element of every parameter a value that no other has.
template <model_config Config, class S>
void number(language_model<Config, cpu, S>& model) {
  float next = 1;
  model.layout.visit([&](const std::string&, const parameter& p) {
    for (index_t i = 0; i < p.count(); ++i) {
      S& to = p.is_vector() ? model.values().vector(p)(i)
                            : model.values().matrix(p)(i / p.inputs, i % p.inputs);
      to = static_cast<S>(next);
      next += 1;
    }
  });
}

template <class S>
bool same_bits(const std::vector<S>& a, const std::vector<S>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(S)) == 0;
}

inline std::set<std::string> names_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  const io::tensor_files files(folder);
  for (const auto& [name, tensor] : files.tensors()) names.insert(name);
  return names;
}

/// Adds one to the first element of a tensor in a file.
inline void perturb(const std::filesystem::path& folder, const std::string& name) {
  const io::tensor_files files(folder);
  std::vector<io::tensor_source> sources;
  for (const auto& [other, tensor] : files.tensors()) {
    sources.push_back(
        {other,
         tensor.info->type,
         tensor.info->shape,
         [tensor = tensor, changed = other == name](index_t first, index_t count, std::byte* to) {
           tensor.file->read(*tensor.info, first, count, to);
           if (changed) to[0] ^= std::byte{1};
         }});
  }
  io::write_safetensors(folder / "model.safetensors", sources, {});
}

/// Saves, loads into a model with other values, and perturbs each tensor of the file. Duplicates
/// are those whose perturbation is refused; returns their number.
template <model_config Config, class S = float>
int check_family(const io::family_names& family) {
  const scratch_directory scratch;
  context<cpu> context;
  language_model<Config, cpu, S> model(context, seed{1});
  number(model);
  io::save_parameters(scratch / "saved", model, family);
  language_model<Config, cpu, S> other(context, seed{2});
  const auto report = io::load_pretrained(scratch / "saved", other, family);
  CHECK(report.has_head());
  CHECK(report.left_out.empty());
  CHECK(same_bits(values_of(model), values_of(other)));

  int duplicates = 0;
  const std::string original = content(scratch / "saved" / "model.safetensors");
  for (const std::string& name : names_in(scratch / "saved")) {
    CAPTURE(name);
    perturb(scratch / "saved", name);
    try {
      static_cast<void>(io::load_pretrained(scratch / "saved", other, family));
      CHECK_FALSE(same_bits(values_of(model), values_of(other)));
      // The perturbed model is written as it was read.
      io::save_parameters(scratch / "again", other, family);
      language_model<Config, cpu, S> third(context, seed{3});
      static_cast<void>(io::load_pretrained(scratch / "again", third, family));
      CHECK(same_bits(values_of(third), values_of(other)));
      std::filesystem::remove_all(scratch / "again");
    } catch (const error& error) {
      CHECK(std::string(error.what()).find("which it should repeat") != std::string::npos);
      ++duplicates;
    }
    put(scratch / "saved" / "model.safetensors", original);
  }
  return duplicates;
}

}  // namespace mtp::testing
