# What Doxygen sees of a header, line for line.

# The comment that a header begins with describes the file.
1,/^#pragma once/ {
  s#^// ?#/// #
  s#^\#pragma once#/// \\file#
}
# Inline namespaces are no part of a name.
s#^namespace mtp(::inline MTP_(CPU_)?ABI)+#namespace mtp#
# A gap in a line of prose, as between a formula and its shapes, stays one.
s#^( */// [^ ].*[^ ])   +([^ ])#\1 \&emsp; \2#
