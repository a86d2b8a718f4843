# What a page links to, and what can be linked to in it. Prints, separated by tabs:
#
#   anchor  LINE  NAME           a heading or <a name="..">, as GitHub names it
#   link    LINE  TARGET         [..](TARGET), src="TARGET", srcset="TARGET"
#   case    LINE  TARGET  NAME   a link to a test with a case of it: [..](TARGET) "NAME", "NAME"
function slug(text) {
  gsub(/\]\([^)]*\)/, "", text)  # of a link only its text
  text = tolower(text)
  gsub(/[][!"#$%&'()*+,.\/:;<=>?@\\^`{|}~]/, "", text)
  gsub(/ /, "-", text)
  return text
}

/^```/ { inside = !inside; next }
inside { next }

/^#+ / {
  name = $0
  sub(/^#+ +/, "", name)
  name = slug(name)
  times = seen[name]++
  print "anchor\t" FNR "\t" name (times ? "-" times : "")
}

{
  # A link may be broken into two lines between its text and what follows it, never inside.
  rest = $0
  gsub(/`[^`]*`/, "", rest)
  if (open_target != "") {
    rest = cases(open_target, rest)
  }
  while (match(rest, /\]\([^) ]+\)|(src|srcset|name)="[^"]*"/)) {
    found = substr(rest, RSTART, RLENGTH)
    quoted = found
    rest = substr(rest, RSTART + RLENGTH)
    if (found ~ /^\]/) {
      target = substr(found, 3, length(found) - 3)
      print "link\t" FNR "\t" target
      rest = cases(target, rest)
    } else {
      sub(/^[a-z]+="/, "", found)
      sub(/"$/, "", found)
      print (quoted ~ /^name/ ? "anchor" : "link") "\t" FNR "\t" found
    }
  }
}

# Names of cases that follow a link to a test; what is left of the text behind them. Keeps the target
# in open_target if the line ends there.
function cases(target, text, name) {
  open_target = ""
  if (target !~ /tests\/.*_(test|race)\.(cpp|hpp|cu)$/) {
    return text
  }
  while (match(text, /^[ ,]*"[^"]+"/)) {
    name = substr(text, 1, RLENGTH)
    text = substr(text, RLENGTH + 1)
    sub(/^[ ,]*"/, "", name)
    sub(/"$/, "", name)
    print "case\t" FNR "\t" target "\t" name
  }
  if (text ~ /^[ ,]*$/) {
    open_target = target
  }
  return text
}
