# Builds first.cpp and second.cpp with flags of their own into one program, linked in either order, and runs it.
#
#   cmake -D COMPILER=<c++> -D FLAGS=<response file> -D FIRST=<flags> -D SECOND=<flags> -D WORK=<dir> -P check.cmake
set(source "${CMAKE_CURRENT_LIST_DIR}")
file(MAKE_DIRECTORY "${WORK}")

include("${CMAKE_CURRENT_LIST_DIR}/../known_flags.cmake")
require_known_flags(${FIRST} ${SECOND})

foreach(flag IN LISTS FIRST SECOND)
  if(flag STREQUAL "-mfma" AND EXISTS /proc/cpuinfo)
    file(STRINGS /proc/cpuinfo found REGEX "^flags.* fma " LIMIT_COUNT 1)
    if(NOT found)
      message("skipped: this processor has no fused multiply-add")
      return()
    endif()
  endif()
endforeach()

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

run("${COMPILER}" "@${FLAGS}" ${FIRST} -c "${source}/first.cpp" -o "${WORK}/first.o")
run("${COMPILER}" "@${FLAGS}" ${SECOND} -c "${source}/second.cpp" -o "${WORK}/second.o")
run("${COMPILER}" "@${FLAGS}" -c "${source}/main.cpp" -o "${WORK}/main.o")

# The order decides whose copies of our inline functions both units run. So the bytes must not depend on it either.
set(results "")
foreach(order IN ITEMS "first second" "second first")
  string(REGEX REPLACE "([a-z]+) ([a-z]+)" "${WORK}/\\1.o;${WORK}/\\2.o" objects "${order}")
  run("${COMPILER}" "${WORK}/main.o" ${objects} -o "${WORK}/program")
  execute_process(COMMAND "${WORK}/program" OUTPUT_VARIABLE result ECHO_OUTPUT_VARIABLE COMMAND_ERROR_IS_FATAL ANY)
  list(APPEND results "${result}")
endforeach()
list(REMOVE_DUPLICATES results)
list(LENGTH results different)
if(different GREATER 1)
  message(FATAL_ERROR "The bytes depend on the order of the units")
endif()
