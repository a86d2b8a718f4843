// Reads the text to train on: one file, or all text files of a directory.
#pragma once

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "mtp/core/error.hpp"
#include "mtp/io/descriptor.hpp"

namespace example {

/// A file that is called as texts are and was not read.
struct left_out_file {
  std::filesystem::path path;
  std::string reason;
};

struct corpus {
  std::vector<std::uint8_t> bytes;
  std::vector<std::int64_t> document_starts;  // ascending, the first is 0
  std::string description;                    // what was read, in a few words
  std::vector<left_out_file> left_out;
};

/// "path: reason", for the first few of them, and how many there are more.
inline std::vector<std::string> lines_about(const std::vector<left_out_file>& left_out);

/// Indentation of more than eight spaces becomes eight spaces. Long runs of spaces are easy to
/// predict and to draft: a small model that writes them looks better than it is.
inline std::string shorten_indentation(std::string_view text);

/// Directories are read with all below them, in the order of the paths' bytes. Only text files
/// count, by their extension; hidden names, the directories build*, .deps and demo, symbolic links
/// and empty files do not. Files of more than 4 MiB and files with a NUL byte are left out, and the
/// result tells which. Each file is one
/// document, and two newlines stand between two documents. A file that is named itself is read as
/// it is. With `short_indentation`, all goes through shorten_indentation. Throws mtp::error if
/// `path` does not exist, holds no text, or something in it cannot be read.
inline corpus load_corpus(const std::filesystem::path& path, bool short_indentation = false);

// ---- implementation -----------------------------------------------------------------------------
namespace detail {

inline constexpr std::uintmax_t largest_text_file = 4u << 20;  // bytes

inline constexpr std::array<std::string_view, 31> text_extensions = {
    ".c",   ".cc",  ".cmake", ".cpp",  ".cu", ".cuh", ".cxx",  ".go", ".h",   ".hh", ".hpp",
    ".hxx", ".inl", ".ipp",   ".java", ".js", ".jl",  ".lua",  ".md", ".org", ".pl", ".py",
    ".r",   ".rb",  ".rs",    ".rst",  ".sh", ".tex", ".text", ".ts", ".txt"};

inline bool is_text_name(const std::filesystem::path& path) {
  const std::string extension = path.extension().string();
  return std::find(text_extensions.begin(), text_extensions.end(), extension) !=
         text_extensions.end();
}

inline bool is_left_out_directory(const std::string& name) {
  return name.starts_with('.') || name.starts_with("build") || name == "demo";
}

inline std::string read_bytes(const std::filesystem::path& path) {
  const mtp::io::descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open()) mtp::io::fail_system("read", path, errno);
  std::string bytes;
  std::array<char, 1 << 16> block;
  while (true) {
    const ::ssize_t got = ::read(file.get(), block.data(), block.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) mtp::io::fail_system("read", path, errno);
    if (got == 0) return bytes;
    bytes.append(block.data(), static_cast<std::size_t>(got));
  }
}

inline std::string size_text(std::size_t bytes) {
  const auto size = static_cast<double>(bytes);
  if (bytes < 1000) return fmt::format("{} B", bytes);
  if (size < 999.5e3) return fmt::format("{:.0f} kB", size / 1e3);
  return fmt::format("{:.1f} MB", size / 1e6);
}

// The text files below `root`, by the bytes of their paths. Counts those of other names.
inline std::vector<std::filesystem::path> text_files(const std::filesystem::path& root,
                                                     std::size_t& others) {
  namespace fs = std::filesystem;
  std::vector<std::pair<std::string, fs::path>> found;
  try {
    for (fs::recursive_directory_iterator entry(root), end; entry != end; ++entry) {
      const std::string name = entry->path().filename().string();
      const fs::file_type type = entry->symlink_status().type();
      if (type == fs::file_type::directory) {
        if (is_left_out_directory(name)) entry.disable_recursion_pending();
      } else if (type == fs::file_type::regular && !name.starts_with('.')) {
        if (is_text_name(name)) {
          found.emplace_back(entry->path().generic_string(), entry->path());
        } else {
          ++others;
        }
      }
    }
  } catch (const fs::filesystem_error& failure) {
    mtp::io::fail_system("read", failure.path1(), failure.code().value());
  }
  std::sort(found.begin(), found.end());
  std::vector<fs::path> paths;
  for (auto& [name, path] : found) paths.push_back(std::move(path));
  return paths;
}

// The last part of the path that has a name, also of "." and "texts/".
inline std::string short_name(const std::filesystem::path& path) {
  std::error_code failure;
  std::filesystem::path whole = std::filesystem::canonical(path, failure);
  if (failure) whole = path;
  return whole.has_filename() ? whole.filename().string() : whole.string();
}

}  // namespace detail

inline std::string shorten_indentation(std::string_view text) {
  constexpr std::size_t most_spaces = 8;
  std::string shorter;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t word = std::min(text.find_first_not_of(' ', at), text.size());
    shorter.append(std::min(word - at, most_spaces), ' ');
    at = std::min(text.find('\n', word), text.size() - 1) + 1;
    shorter.append(text, word, at - word);
  }
  return shorter;
}

inline std::vector<std::string> lines_about(const std::vector<left_out_file>& left_out) {
  constexpr std::size_t most = 5;
  std::vector<std::string> lines;
  for (const left_out_file& file : left_out) {
    if (lines.size() == most) {
      lines.push_back(fmt::format("{} more", left_out.size() - most));
      break;
    }
    lines.push_back(file.path.string() + ": " + file.reason);
  }
  return lines;
}

inline corpus load_corpus(const std::filesystem::path& path, bool short_indentation) {
  std::error_code failure;
  const std::filesystem::file_status status = std::filesystem::status(path, failure);
  mtp::check(std::filesystem::exists(status), "load_corpus: ", path.string(), " does not exist");

  corpus result;
  const auto add = [&](const std::string& original) {
    const std::string text = short_indentation ? shorten_indentation(original) : original;
    constexpr std::string_view separator = "\n\n";
    if (!result.bytes.empty()) {
      result.bytes.insert(result.bytes.end(), separator.begin(), separator.end());
    }
    result.document_starts.push_back(static_cast<std::int64_t>(result.bytes.size()));
    result.bytes.insert(result.bytes.end(), text.begin(), text.end());
  };

  if (std::filesystem::is_directory(status)) {
    std::size_t others = 0;
    for (const std::filesystem::path& file : detail::text_files(path, others)) {
      const std::uintmax_t size = std::filesystem::file_size(file, failure);
      if (!failure && size > detail::largest_text_file) {
        result.left_out.push_back(
            {file,
             fmt::format("{}, and files of a folder are read up to 4 MiB; --text with the file "
                         "itself reads all of it",
                         detail::size_text(static_cast<std::size_t>(size)))});
        continue;
      }
      const std::string text = detail::read_bytes(file);
      if (text.find('\0') != text.npos) {
        result.left_out.push_back({file, "a NUL byte is in it, so it is not text"});
      } else if (!text.empty()) {
        add(text);
      }
    }
    if (result.bytes.empty()) {
      std::string why;
      for (const std::string& line : lines_about(result.left_out)) why += "; left out: " + line;
      if (others > 0) {
        why += fmt::format("; {} file{} of other names than texts have (such as .txt, .md, .cpp)",
                           others,
                           others == 1 ? "" : "s");
      }
      mtp::fail("load_corpus: ", path.string(), " holds no text files", why);
    }
    const std::size_t files = result.document_starts.size();
    result.description = fmt::format("{}: {} file{}, {}",
                                     detail::short_name(path),
                                     files,
                                     files == 1 ? "" : "s",
                                     detail::size_text(result.bytes.size()));
  } else {
    mtp::check(std::filesystem::is_regular_file(status),
               "load_corpus: ",
               path.string(),
               " is neither a file nor a directory");
    const std::string text = detail::read_bytes(path);
    mtp::check(!text.empty(), "load_corpus: ", path.string(), " is empty");
    add(text);
    result.description =
        fmt::format("{}: {}", detail::short_name(path), detail::size_text(result.bytes.size()));
  }
  return result;
}

}  // namespace example
