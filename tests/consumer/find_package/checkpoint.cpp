// mtp::io in a consumer: a file is written and read again.
#include "mtp/io/safetensors.hpp"

int main() {
  mtp::io::write_safetensors("empty.safetensors", {}, {{"title", "nothing"}});
  const mtp::io::safetensors_file file("empty.safetensors");
  return file.metadata().at("title") == "nothing" ? 0 : 1;
}
