# Cuts the blocks of code out of a page: see pages.sh.
function fail(line, sentence) {
  printf "%s:%d: %s\n", FILENAME, line, sentence > "/dev/stderr"
  status = 1
}

/^[ \t]+```/ && fence == "" { fail(FNR, "fences of blocks begin at the start of a line") }

# Behind an excerpt: its end, at once.
expected != "" && fence == "" {
  if ($0 != "<!-- end of " expected " -->") {
    fail(FNR, "expected <!-- end of " expected " -->")
  }
  expected = ""
  next
}

/^```/ && fence == "" {
  fence = FNR
  language = substr($0, 4)
  if (language == "") {
    language = "text"
  }
  file = folder "/" FNR "." language
  printf "" > file
  if (marked != "") {
    print marked > (folder "/" FNR ".excerpt")
    expected = marked
    marked = ""
  }
  next
}

fence != "" {
  if ($0 == "```") {
    close(file)
    fence = ""
  } else {
    print > file
  }
  next
}

marked != "" {
  fail(FNR, "expected a block after <!-- " marked " -->")
  marked = ""
}

/^<!-- end of / { fail(FNR, "no block of this name has begun") ; next }

/^<!-- [^ ]+\/[^ ]+ -->$/ { marked = $2 }

END {
  if (fence != "") {
    fail(fence, "this block has no end")
  } else if (expected != "") {
    fail(FNR, "expected <!-- end of " expected " -->")
  }
  exit status
}
