// Writes the runs of all head kinds into a folder: what scripts/compare_bits compares.
#include <cstdio>
#include <exception>
#include <filesystem>

// Each has a file of its own, so that they are compiled side by side.
void write_none(const std::filesystem::path& path);
void write_sequential(const std::filesystem::path& path);
void write_parallel(const std::filesystem::path& path);
void write_independent(const std::filesystem::path& path);
void write_recurrent(const std::filesystem::path& path);
void write_shared_logit(const std::filesystem::path& path);

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: bits FOLDER\n", stderr);
    return 2;
  }
  try {
    const std::filesystem::path path = argv[1];
    write_none(path);
    write_sequential(path);
    write_parallel(path);
    write_independent(path);
    write_recurrent(path);
    write_shared_logit(path);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bits: %s\n", e.what());
    return 1;
  }
}
