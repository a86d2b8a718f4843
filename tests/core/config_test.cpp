#include "mtp/core/config.hpp"

#include <doctest/doctest.h>

#include <string>

#define MTP_TEST_TEXT_OF(macro) #macro
#define MTP_TEST_TEXT(macro) MTP_TEST_TEXT_OF(macro)

namespace mtp::test::core_config_cases {

TEST_CASE("the inline namespace names the major and the minor version") {
  CHECK(std::string(MTP_TEST_TEXT(MTP_ABI)) ==
        "v" + std::to_string(MTP_VERSION_MAJOR) + "_" + std::to_string(MTP_VERSION_MINOR));
}

}  // namespace mtp::test::core_config_cases

#undef MTP_TEST_TEXT
#undef MTP_TEST_TEXT_OF
