# A sweep over configurations. A configuration of a model is a template argument, so each point of a
# sweep is a program of its own; this compiles them and collects what they print.
#
#   mtp_add_sweep(NAME SOURCES FILE... VALUES MACRO=VALUE,VALUE,... [MACRO=VALUE,...]...
#                 [LIBRARIES TARGET...])
#
# For each combination of values, an executable NAME-VALUE-VALUE-.. is made of the sources, with each
# MACRO defined as its value, linked to the libraries (mtp::mtp unless they are given). The targets
#
#   NAME       builds all of them
#   NAME-run   runs those whose output is older than the program, and puts what they print into
#              NAME/VALUE-VALUE-...txt in the build folder; what all printed, one after the other, into
#              NAME/all.txt
#
# Programs of one sweep run one at a time if the build does: cmake --build . --target NAME-run -j 1
# The variable NAME_programs holds the names of the executables.
function(mtp_add_sweep name)
  cmake_parse_arguments(PARSE_ARGV 1 sweep "" "" "SOURCES;VALUES;LIBRARIES")
  if(NOT sweep_SOURCES OR NOT sweep_VALUES OR sweep_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "mtp_add_sweep: expected NAME SOURCES FILE... VALUES MACRO=VALUE,VALUE...")
  endif()
  if(NOT sweep_LIBRARIES)
    set(sweep_LIBRARIES mtp::mtp)
  endif()

  # Points as lists of definitions, joined by commas: "HEAD=parallel,DEPTH=2".
  set(points "")
  foreach(axis IN LISTS sweep_VALUES)
    if(NOT axis MATCHES "^([A-Za-z_][A-Za-z_0-9]*)=(.+)$")
      message(FATAL_ERROR "mtp_add_sweep: expected MACRO=VALUE,VALUE..., got ${axis}")
    endif()
    set(macro "${CMAKE_MATCH_1}")
    string(REPLACE "," ";" values "${CMAKE_MATCH_2}")
    set(longer "")
    foreach(value IN LISTS values)
      if(points STREQUAL "")
        list(APPEND longer "${macro}=${value}")
      else()
        foreach(point IN LISTS points)
          list(APPEND longer "${point},${macro}=${value}")
        endforeach()
      endif()
    endforeach()
    set(points "${longer}")
  endforeach()

  set(folder "${CMAKE_CURRENT_BINARY_DIR}/${name}")
  file(MAKE_DIRECTORY "${folder}")
  set(programs "")
  set(outputs "")
  foreach(point IN LISTS points)
    string(REPLACE "," ";" definitions "${point}")
    string(REGEX REPLACE "(^|,)[A-Za-z_0-9]+=" "-" suffix "${point}")
    string(REGEX REPLACE "[^-A-Za-z_0-9.]" "_" suffix "${suffix}")
    set(program "${name}${suffix}")
    add_executable(${program} ${sweep_SOURCES})
    target_compile_definitions(${program} PRIVATE ${definitions})
    target_link_libraries(${program} PRIVATE ${sweep_LIBRARIES})
    list(APPEND programs ${program})
    string(SUBSTRING "${suffix}" 1 -1 file)
    add_custom_command(OUTPUT "${folder}/${file}.txt"
        COMMAND ${program} > "${folder}/${file}.txt"
        DEPENDS ${program} COMMENT "${program}" VERBATIM)
    list(APPEND outputs "${folder}/${file}.txt")
  endforeach()
  add_custom_target(${name} DEPENDS ${programs})
  add_custom_command(OUTPUT "${folder}/all.txt"
      COMMAND "${CMAKE_COMMAND}" -E cat ${outputs} > "${folder}/all.txt"
      DEPENDS ${outputs} VERBATIM)
  add_custom_target(${name}-run DEPENDS "${folder}/all.txt")
  set(${name}_programs ${programs} PARENT_SCOPE)
endfunction()
