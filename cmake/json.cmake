# The readers of examples/io, which tests use too, need a parser of JSON. The library does not.
if(NOT TARGET nlohmann_json::nlohmann_json)  # a parent project may bring its own
  find_package(nlohmann_json CONFIG QUIET)
endif()
if(NOT TARGET nlohmann_json::nlohmann_json)
  message(FATAL_ERROR "The tests and examples of posenc need nlohmann's JSON (Debian and Ubuntu: nlohmann-json3-dev). "
    "To build without them: -DPOSENC_BUILD_TESTS=OFF -DPOSENC_BUILD_EXAMPLES=OFF")
endif()
