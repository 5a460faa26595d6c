# Warnings for our own tests, benchmarks and examples. They reach our headers, which those include as ordinary ones, and nobody else's.
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  set(posenc_warnings -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror)
endif()

function(posenc_warnings target)
  target_compile_options(${target} PRIVATE ${posenc_warnings})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC reports these two falsely in optimized Eigen code, so they stay warnings.
    target_compile_options(${target} PRIVATE -Wno-error=array-bounds -Wno-error=maybe-uninitialized)
  endif()
endfunction()
