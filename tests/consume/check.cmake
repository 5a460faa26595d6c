# Builds and runs the consumer in one of three ways: installed, subdirectory or pkgconfig.
#
#   cmake -D WAY=<way> -D LIBRARY=<source dir> -D BUILD=<build dir> -D WORK=<dir> -D COMPILER=<c++> -D GENERATOR=<name>
#         -D Eigen3_DIR=<dir> -D PKG_CONFIG=<program> -P check.cmake
set(source "${CMAKE_CURRENT_LIST_DIR}")
set(prefix "${WORK}/prefix")
# The flags of whoever runs this are not what is tested.
set(ENV{CXXFLAGS})
set(ENV{CMAKE_BUILD_TYPE})

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${WORK}")
if(NOT WAY STREQUAL subdirectory)
  # Moved after the installation: no absolute path may have got into what was installed.
  run(${CMAKE_COMMAND} --install "${BUILD}" --prefix "${WORK}/staged" --component posenc_Development)
  file(RENAME "${WORK}/staged" "${prefix}")
endif()

if(WAY STREQUAL pkgconfig)
  set(ENV{PKG_CONFIG_PATH} "${prefix}/share/pkgconfig:$ENV{PKG_CONFIG_PATH}")
  execute_process(COMMAND "${PKG_CONFIG}" --cflags posenc OUTPUT_VARIABLE flags COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags UNIX_COMMAND "${flags}")
  run("${COMPILER}" -std=c++20 ${flags} "${source}/main.cpp" -o "${WORK}/consumer")
  run("${WORK}/consumer")
  return()
endif()

run(${CMAKE_COMMAND} -S "${source}/${WAY}" -B "${WORK}/build" -G "${GENERATOR}" -D CMAKE_CXX_COMPILER=${COMPILER}
  -D CMAKE_EXPORT_COMPILE_COMMANDS=ON -D CMAKE_PREFIX_PATH=${prefix} -D Eigen3_DIR=${Eigen3_DIR} -D LIBRARY=${LIBRARY})
run(${CMAKE_COMMAND} --build "${WORK}/build")
run(${CMAKE_CTEST_COMMAND} --test-dir "${WORK}/build" -C Debug --output-on-failure)

# Where to find headers and which standard: nothing else may come from the library.
if(EXISTS "${WORK}/build/compile_commands.json" AND NOT GENERATOR MATCHES "Multi-Config")  # which adds options of its own
  file(STRINGS "${WORK}/build/compile_commands.json" command REGEX "\"command\":.*main\\.cpp")
  string(REGEX MATCHALL " -[^ ]+" options "${command}")
  list(FILTER options EXCLUDE REGEX "^ -(I.+|isystem|std=(c|gnu)\\+\\+20|o|c)$")
  if(options OR NOT command)
    message(FATAL_ERROR "The consumer's compile command has got options of ours:${options}\n${command}")
  endif()
endif()
