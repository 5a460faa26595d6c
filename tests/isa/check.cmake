# Builds the stand-alone check with flags of its own, and runs it.
#
#   cmake -D COMPILER=<c++> -D FLAGS=<flags> -D INCLUDE=<our headers> -D PROGRAM=<path> [-D RUNNER=<emulator>] -P check.cmake
cmake_path(GET PROGRAM PARENT_PATH folder)
file(MAKE_DIRECTORY "${folder}")

include("${CMAKE_CURRENT_LIST_DIR}/../known_flags.cmake")
require_known_flags(${FLAGS})

cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH tests)
execute_process(COMMAND "${COMPILER}" -std=c++20 ${FLAGS} "-I${INCLUDE}" "-I${tests}" "${CMAKE_CURRENT_LIST_DIR}/standalone.cpp" -o "${PROGRAM}"
  COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${RUNNER} "${PROGRAM}" COMMAND_ERROR_IS_FATAL ANY)
