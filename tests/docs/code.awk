# The blocks of C++ in a page as one source. A block with a main() is a program in a namespace of its
# own. One with a line that begins with template, namespace, struct, inline, extern or using holds
# declarations; any other holds statements. Excerpts of files are left out: they are compiled there.
#
#   awk -v name=PAGE -v cuda=0|1 -f code.awk PAGE     cuda: the blocks that include mtp/backend/cuda.cuh, or the others
function place(line) { return "#line " line " \"" name "\"\n" }

/^```/ && !inside {
  inside = 1
  collect = $0 == "```cpp" && before !~ /^<!-- [^ ]+\/[^ ]+ -->$/
  includes = body = ""
  is_program = is_declaration = for_cuda = 0
  first = FNR
  next
}

inside && $0 == "```" {
  inside = 0
  if (collect && for_cuda == cuda) {
    if (is_program) {
      body = "namespace block_" first " {\n" body "}\n"
    } else if (!is_declaration) {
      body = "void block_" first "() {\n" body "}\n"
    }
    all_includes = all_includes includes
    all = all body
  }
}

inside && collect {
  if (/^#include/) {
    includes = includes place(FNR) $0 "\n"
    for_cuda = for_cuda || /mtp\/backend\/cuda\.cuh/
  } else {
    body = body place(FNR) $0 "\n"
  }
  is_program = is_program || /^int main\(/
  is_declaration = is_declaration || /^(template|namespace|struct|inline|extern|using) ?/
}

{ before = $0 }

END {
  print "// Made of the blocks of C++ in " name "."
  if (all == "") {
    exit
  }
  print "#include <mtp/mtp.hpp>"
  print cuda ? "#include <mtp/backend/cuda.cuh>" : "#include <mtp/backend/cpu.hpp>"
  printf "%s", all_includes
  # Pages may be joined in one file, each with a configuration of its own. What instantiates a template of the
  # library must stand outside of other namespaces.
  page = name
  gsub(/[^A-Za-z0-9]/, "_", page)
  is_global = all ~ /template class mtp::/
  if (!is_global) {
    print "namespace " page " {"
  }
  if (all !~ /model_config config/) {
    print "constexpr mtp::model_config config{"
    print "    .prediction = {.kind = mtp::head_kind::sequential, .depth = 1}};"
  }
  printf "%s", all
  if (!is_global) {
    print "}"
  }
}
