# Beside the tests, the kernels are compiled once, by them: half of the time that others take to compile.
function(posenc_kernels_once target)
  if(TARGET posenc_test_kernels AND CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    target_link_libraries(${target} PRIVATE posenc_test_kernels)
    target_compile_options(${target} PRIVATE "SHELL:-include ${PROJECT_SOURCE_DIR}/tests/kernels/once.hpp")
  endif()
endfunction()
