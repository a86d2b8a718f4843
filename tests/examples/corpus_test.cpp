#include "train_and_generate/corpus.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "examples/folder.hpp"

namespace examples_corpus_cases {

using example::corpus;
using example::load_corpus;
using example::shorten_indentation;
using starts = std::vector<std::int64_t>;

namespace {

std::string text_of(const corpus& corpus) {
  return {corpus.bytes.begin(), corpus.bytes.end()};
}

}  // namespace

TEST_CASE("a file is one document, read as it is") {
  const test::folder folder;
  const std::string bytes("any\0bytes\xff", 10);
  folder.write("data.bin", bytes);
  const corpus corpus = load_corpus(folder / "data.bin");
  CHECK(text_of(corpus) == bytes);
  CHECK(corpus.document_starts == starts{0});
  CHECK(corpus.description == "data.bin: 10 B");
}

TEST_CASE("indentation ends at eight spaces, nothing else changes") {
  const std::string eight(8, ' '), nine(9, ' '), many(40, ' ');
  CHECK(shorten_indentation("").empty());
  for (const std::string& kept :
       {std::string("a  b\n\n c  \n  d"), eight + "x\n", "a" + many + "b"}) {
    CHECK(shorten_indentation(kept) == kept);
  }
  CHECK(shorten_indentation(nine + "x\n" + many + "y" + many + "\n") ==
        eight + "x\n" + eight + "y" + many + "\n");
  CHECK(shorten_indentation("x\n" + many) == "x\n" + eight);
  const test::folder folder;
  folder.write("a.txt", "if\n" + nine + "then");
  CHECK(text_of(load_corpus(folder / "a.txt", true)) == "if\n" + eight + "then");
  CHECK(text_of(load_corpus(folder / "a.txt")) == "if\n" + nine + "then");
}

TEST_CASE("a directory is read in the order of its paths") {
  const test::folder folder;
  folder.write("texts/b.txt", "second\n");
  folder.write("texts/a.md", "first");
  folder.write("texts/c/inner.hpp", "third");
  folder.write("texts/c/deep/x.py", "before third");
  folder.write("texts/Z.c", "capitals first");
  const corpus corpus = load_corpus(folder / "texts");
  CHECK(text_of(corpus) == "capitals first\n\nfirst\n\nsecond\n\n\nbefore third\n\nthird");
  CHECK(corpus.document_starts == starts{0, 16, 23, 32, 46});
  CHECK(corpus.description == "texts: 5 files, 51 B");
  CHECK(load_corpus(folder / "texts/").description == corpus.description);
}

TEST_CASE("what is not text of the project is left out") {
  const test::folder folder;
  folder.write("kept.txt", "kept");
  folder.write("rebuild/kept.txt", "kept too");
  folder.write("build/x.txt", "no");
  folder.write("build-debug/deep/x.txt", "no");
  folder.write("sub/demo/x.txt", "no");
  folder.write(".deps/x.txt", "no");
  folder.write(".hidden/x.txt", "no");
  folder.write(".hidden.txt", "no");
  folder.write("picture.png", "no");
  folder.write("no_extension", "no");
  folder.write("empty.txt", "");
  folder.write("nul.txt", std::string("n\0o", 3));
  folder.write("large.txt", std::string((4u << 20) + 1, 'x'));
  std::filesystem::create_symlink("kept.txt", folder / "link.txt");
  std::filesystem::create_directory_symlink(".", folder / "loop");
  CHECK(text_of(load_corpus(folder.path())) == "kept\n\nkept too");
}

TEST_CASE("files that are called as texts are and are not read are named, with the reason") {
  const test::folder folder;
  folder.write("kept.txt", std::string(4u << 20, 'x'));
  folder.write("large.txt", std::string((4u << 20) + 1, 'x'));
  folder.write("nul.txt", std::string("n\0o", 3));
  folder.write("picture.png", "no");
  const corpus read = load_corpus(folder.path());
  CHECK(read.bytes.size() == 4u << 20);
  const std::vector<std::string> lines = lines_about(read.left_out);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0] == (folder / "large.txt").string() +
                        ": 4.2 MB, and files of a folder are read up to 4 MiB; --text with the "
                        "file itself reads all of it");
  CHECK(lines[1] == (folder / "nul.txt").string() + ": a NUL byte is in it, so it is not text");
  CHECK(load_corpus(folder / "large.txt").left_out.empty());

  std::filesystem::remove(folder / "kept.txt");
  for (const char* part : {"holds no text files",
                           "large.txt: 4.2 MB",
                           "nul.txt: a NUL byte",
                           "1 file of other names"}) {
    CHECK_THROWS_WITH_AS(load_corpus(folder.path()), doctest::Contains(part), mtp::error);
  }

  std::vector<example::left_out_file> many;
  for (int i = 0; i < 8; ++i) many.push_back({std::to_string(i), "why"});
  CHECK(lines_about(many) ==
        std::vector<std::string>{"0: why", "1: why", "2: why", "3: why", "4: why", "3 more"});
}

TEST_CASE("a directory that is named itself may have any name") {
  const test::folder folder;
  folder.write("build/x.txt", "yes");
  CHECK(text_of(load_corpus(folder / "build")) == "yes");
  CHECK(load_corpus(folder / "build").description == "build: 1 file, 3 B");
}

TEST_CASE("errors of load_corpus") {
  const test::folder folder;
  CHECK_THROWS_WITH_AS(
      load_corpus(folder / "missing"), doctest::Contains("does not exist"), mtp::error);
  CHECK_THROWS_WITH_AS(
      load_corpus(folder.path()), doctest::Contains("holds no text files"), mtp::error);
  folder.write("empty.txt", "");
  CHECK_THROWS_WITH_AS(
      load_corpus(folder / "empty.txt"), doctest::Contains("is empty"), mtp::error);
  CHECK_THROWS_WITH_AS(
      load_corpus(folder.path()), doctest::Contains("holds no text files"), mtp::error);
  CHECK_THROWS_WITH_AS(
      load_corpus("/dev/null"), doctest::Contains("neither a file nor a directory"), mtp::error);
}

TEST_CASE("a file without the right to read it is an error") {
  if (::geteuid() == 0) return;  // root may read everything
  const test::folder folder;
  folder.write("secret.txt", "x");
  std::filesystem::permissions(folder / "secret.txt", std::filesystem::perms::none);
  CHECK_THROWS_WITH_AS(load_corpus(folder / "secret.txt"),
                       doctest::Contains("secret.txt': Permission denied (errno 13)"),
                       mtp::error);
  CHECK_THROWS_WITH_AS(load_corpus(folder.path()), doctest::Contains("cannot read"), mtp::error);
}

}  // namespace examples_corpus_cases
