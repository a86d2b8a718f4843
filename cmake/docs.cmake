# The target `docs`: the reference in HTML, from the comments of the headers and the Markdown pages.
# A public name without a comment is a warning, and a warning is an error.

find_package(Doxygen 1.9.4 REQUIRED)

set(DOXYGEN_PROJECT_BRIEF "${PROJECT_DESCRIPTION}")
set(DOXYGEN_USE_MDFILE_AS_MAINPAGE "${PROJECT_SOURCE_DIR}/README.md")
set(DOXYGEN_STRIP_FROM_PATH "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}")
set(DOXYGEN_STRIP_FROM_INC_PATH "${PROJECT_SOURCE_DIR}/include")
set(DOXYGEN_IMAGE_PATH "${PROJECT_SOURCE_DIR}/docs")
set(DOXYGEN_FILTER_PATTERNS
    "*.hpp=sed -E -f ${CMAKE_CURRENT_LIST_DIR}/docs/headers.sed"
    "*.cuh=sed -E -f ${CMAKE_CURRENT_LIST_DIR}/docs/headers.sed"
    "*.md=sed -E -f ${CMAKE_CURRENT_LIST_DIR}/docs/pages.sed")
set(DOXYGEN_EXTENSION_MAPPING cuh=C++)

# Comments are prose: the first sentence is the summary, and parameters have no tags.
set(DOXYGEN_JAVADOC_AUTOBRIEF YES)
set(DOXYGEN_EXTRACT_ALL NO)
set(DOXYGEN_WARN_IF_UNDOCUMENTED YES)
set(DOXYGEN_WARN_NO_PARAMDOC NO)
set(DOXYGEN_WARN_AS_ERROR FAIL_ON_WARNINGS)
set(DOXYGEN_QUIET YES)

set(DOXYGEN_EXCLUDE_SYMBOLS
    "*detail" "*detail::*")
set(DOXYGEN_MACRO_EXPANSION YES)
set(DOXYGEN_EXPAND_ONLY_PREDEF YES)
set(DOXYGEN_PREDEFINED MTP_HOST_DEVICE=)

set(DOXYGEN_GENERATE_LATEX NO)
set(DOXYGEN_HAVE_DOT NO)
set(DOXYGEN_HTML_TIMESTAMP NO)

# Headers that open detail namespaces alone, such as those of kernels, have no public names.
file(GLOB_RECURSE headers CONFIGURE_DEPENDS
    "${PROJECT_SOURCE_DIR}/include/*.hpp" "${PROJECT_SOURCE_DIR}/include/*.cuh")
set(inputs)
foreach(header IN LISTS headers)
  file(STRINGS "${header}" internal REGEX "^namespace mtp::.*detail {")
  file(STRINGS "${header}" public REGEX "^namespace mtp::.*(MTP_ABI|MTP_CPU_ABI|io) {")
  if(public OR NOT internal)
    list(APPEND inputs "${header}")
  endif()
endforeach()

# The pages of docs/ link to those of other folders.
file(GLOB pages CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/*.md")
foreach(folder IN ITEMS benchmarks docs examples packaging tests)
  file(GLOB_RECURSE more CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${folder}/*.md")
  list(APPEND pages ${more})
endforeach()
doxygen_add_docs(docs ${inputs} ${pages} COMMENT "The reference, in ${PROJECT_BINARY_DIR}/html")
