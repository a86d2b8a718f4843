// expects: decoder::drafter: the head of this configuration cannot draft
#include "compile_fail/backends.hpp"
#include "mtp/decode/decoder.hpp"

namespace mtp::test {

constexpr model_config without_drafts{.prediction = {.kind = head_kind::shared_logit, .depth = 2}};
constexpr model_config with_drafts{.prediction = {.kind = head_kind::sequential, .depth = 2}};

void drafter_of_shared_logit(decoder<without_drafts, host>& plain,
                             decoder<with_drafts, host>& drafting) {
#ifdef MTP_KO
  static_cast<void>(drafting);
  plain.drafter().rewind(0, 1);
#else
  static_cast<void>(plain);
  drafting.drafter().rewind(0, 1);
#endif
}

}  // namespace mtp::test
