# Checks that one source does not compile, and for the right reason.
#
#   cmake -D COMPILER=<c++> -D FLAGS=<response file> -D HIDE_SOURCE=<flag> -D TENSORS=<header> -D SOURCE=<file> -P check.cmake
#
# The first line of the source says what the diagnostics must contain, with alternatives where compilers differ:
#   // expect: required<pairing> | no default constructor
# What must not compile stands inside `#ifndef POSENC_ACCEPT`. The rest has to compile with POSENC_ACCEPT defined: then nothing else
# in the file is to blame.
file(STRINGS "${SOURCE}" expected LIMIT_COUNT 1)
if(NOT expected MATCHES "^// expect: *([^ ].*)$")
  message(FATAL_ERROR "${SOURCE}:1: the first line must read `// expect: words of the diagnostic`")
endif()
string(REPLACE " | " ";" expected "${CMAKE_MATCH_1}")

set(ENV{LC_ALL} C)
# Lines of source among the diagnostics do not count: the expected words may stand there anyway.
set(compile "${COMPILER}" "@${FLAGS}" -fsyntax-only ${HIDE_SOURCE} -include "${TENSORS}" "${SOURCE}")

execute_process(COMMAND ${compile} -DPOSENC_ACCEPT RESULT_VARIABLE result ERROR_VARIABLE messages)
if(NOT result EQUAL 0)
  message("${messages}")
  message(FATAL_ERROR "${SOURCE} must compile where POSENC_ACCEPT is defined")
endif()

execute_process(COMMAND ${compile} RESULT_VARIABLE result ERROR_VARIABLE messages)
if(result EQUAL 0)
  message(FATAL_ERROR "${SOURCE} compiles, and must not")
endif()

# Nor do the names of files.
string(REGEX REPLACE "(^|[ \n])/[^ \n]*" "\\1" said "${messages}")
foreach(words IN LISTS expected)
  string(STRIP "${words}" words)
  string(FIND "${said}" "${words}" place)
  if(NOT place EQUAL -1)
    return()
  endif()
endforeach()
list(JOIN expected "` or `" expected)
message("${messages}")
message(FATAL_ERROR "${SOURCE} is rejected, but without the words `${expected}`")
