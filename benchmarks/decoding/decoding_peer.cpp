// Decodes on command with a model of beyond_cache_*.cpp, so that peers/llama.py can let it take
// turns with another implementation. Reads commands line by line:
//
//   shape            prints V C L H G F P, as in model_config
//   write S C D      begins S sequences of C tokens, with D drafts in a cycle, all accepted;
//                    prints ready
//   tokens N         each goes on by N tokens; prints tokens per second of all
//   quit
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "decoding.hpp"

namespace mtp::bench {
namespace {

std::vector<model_entry>& entries() {
  static std::vector<model_entry> all;
  return all;
}

/// The model that drafts, or the one that does not.
const model_entry& entry_of(const std::string& type, bool drafts) {
  for (const model_entry& each : entries()) {
    if (each.size == "beyond_cache" && each.type == type &&
        (drafts ? each.config.prediction.kind == head_kind::sequential
                : !each.config.prediction.drafts())) {
      return each;
    }
  }
  std::fprintf(stderr, "decoding_peer: no model has the type %s\n", type.c_str());
  std::exit(2);
}

void serve(const std::string& type, int threads) {
  std::unique_ptr<decoding_model> plain, drafting;
  std::unique_ptr<writing> text;
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "shape") {
      const model_config config = entry_of(type, false).config;
      std::printf("%d %d %d %d %d %d %d\n",
                  config.vocab_size,
                  config.hidden_size,
                  config.num_hidden_layers,
                  config.attention.num_attention_heads,
                  config.num_key_value_heads(),
                  config.feed_forward.intermediate_size,
                  config.max_position_embeddings);
    } else if (command == "write") {
      writing_options options;
      words >> options.sequences >> options.context >> options.drafts;
      text.reset();
      auto& model = options.drafts > 0 ? drafting : plain;
      if (!model) {
        model = entry_of(type, options.drafts > 0).make(draft_fate::accepted, threads);
      }
      text = model->write(options);
      std::puts("ready");
    } else if (command == "tokens" && text) {
      index_t count = 0;
      words >> count;
      std::printf("%.4f\n", text->go_on(count));
    } else {
      std::fprintf(stderr, "decoding_peer: cannot %s\n", line.c_str());
      std::exit(2);
    }
    std::fflush(stdout);
  }
}

}  // namespace

void add_model(const model_entry& entry) {
  entries().push_back(entry);
}

}  // namespace mtp::bench

int main(int argc, char** argv) {
  std::string type = "f32";
  int threads = 2;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--type") {
      type = argv[i + 1];
    } else if (option == "--threads") {
      threads = std::atoi(argv[i + 1]);
    } else {
      std::fprintf(stderr, "usage: decoding_peer [--type f32|bf16|int8] [--threads N]\n");
      return 2;
    }
  }
  try {
    mtp::bench::serve(type, threads);
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "decoding_peer: %s\n", fault.what());
    return 1;
  }
  return 0;
}
