# Compiles each public header by itself, included twice, with warnings as errors. Names every header that fails.
#
#   cmake -D COMPILER=<c++> -D FLAGS=<response file> -D WARNINGS=<list> -D INCLUDE=<dir> -D WORK=<dir> -P check.cmake

# Eigen's tensors, which take longest, are compiled once; headers that do not include them do without.
set(without_eigen "^posenc/(kernels/.*|sinusoidal/channel_order|config|double_double|error|phase|random|required|tensor)\\.hpp$")
file(WRITE "${WORK}/eigen.hpp" "#if __has_include(<unsupported/Eigen/CXX11/Tensor>)\n#include <unsupported/Eigen/CXX11/Tensor>\n#else\n#include <unsupported/Eigen/Tensor>\n#endif\n")
execute_process(COMMAND "${COMPILER}" "@${FLAGS}" -x c++-header "${WORK}/eigen.hpp" -o "${WORK}/eigen.hpp.gch" COMMAND_ERROR_IS_FATAL ANY)

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
      set(precompiled "")
      if(NOT header MATCHES "${without_eigen}")
        set(precompiled -include "${WORK}/eigen.hpp")
      endif()
      list(APPEND commands COMMAND "${COMPILER}" "@${FLAGS}" ${WARNINGS} ${precompiled} -fsyntax-only "${source}")
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
