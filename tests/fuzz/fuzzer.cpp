// A libFuzzer program: MTP_FUZZ_HARNESS is the header of the harness.
#include MTP_FUZZ_HARNESS

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  mtp::fuzz::harness::fuzz_one({data, size});
  return 0;
}
