# Compiles each public header by itself, included twice, with warnings as errors. Names every header that fails.
#
#   cmake -D COMPILER=<c++> -D FLAGS=<response file> -D WARNINGS=<list> -D INCLUDE=<dir> -D WORK=<dir> -P check.cmake
file(GLOB_RECURSE headers RELATIVE "${INCLUDE}" "${INCLUDE}/posenc/*.hpp")
set(failed "")

while(headers)
  # Commands of one execute_process run at the same time, so two headers at a time keep two processors busy.
  set(pair "")
  set(commands "")
  foreach(place IN ITEMS one two)
    if(headers)
      list(POP_FRONT headers header)
      set(source "${WORK}/${header}.cpp")
      file(WRITE "${source}" "#include <${header}>\n#include <${header}>\n")
      list(APPEND pair "${header}")
      list(APPEND commands COMMAND "${COMPILER}" "@${FLAGS}" ${WARNINGS} -fsyntax-only "${source}")
    endif()
  endforeach()
  execute_process(${commands} RESULTS_VARIABLE results ERROR_VARIABLE messages)
  foreach(header result IN ZIP_LISTS pair results)
    if(NOT result EQUAL 0)
      list(APPEND failed "${header}")
    endif()
  endforeach()
  if(messages)
    message("${messages}")
  endif()
endwhile()

if(failed)
  list(JOIN failed "\n  " failed)
  message(FATAL_ERROR "${COMPILER} does not take by itself:\n  ${failed}")
endif()
