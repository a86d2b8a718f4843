# What Doxygen sees of a Markdown page, line for line.

# Headings have no anchors of their own.
s@(\]\([^):]+\.md)#[^)]*\)@\1)@g
# What is neither page nor picture is not in the reference: the words stay, the link goes.
s@(^|[^!])\[([^]]*)\]\(([^):]*/)?([^):/]*\.(hpp|cuh|cpp|cu|h|sh|py|txt|json|cmake|sed|yml)|[^):./]*)(#[^)]*)?\)@\1\2@g
