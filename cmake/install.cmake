include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir "${CMAKE_INSTALL_DATADIR}/cmake/posenc")
set(pkgconfig_dir "${CMAKE_INSTALL_DATADIR}/pkgconfig")

install(TARGETS posenc EXPORT posencTargets
  FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT posenc_Development
  FILE_SET kernels DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT posenc_Development)
install(EXPORT posencTargets NAMESPACE posenc:: DESTINATION "${package_dir}" COMPONENT posenc_Development)

# From 1.0 on: SameMajorVersion. Until then each minor version may change the interface.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/posencConfigVersion.cmake" COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(
  FILES cmake/posencConfig.cmake cmake/eigen.cmake "${PROJECT_BINARY_DIR}/posencConfigVersion.cmake"
  DESTINATION "${package_dir}" COMPONENT posenc_Development)

# Relative to the file itself, so that the installed tree can be moved.
file(RELATIVE_PATH pkgconfig_to_include "${CMAKE_INSTALL_FULL_DATADIR}/pkgconfig" "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
configure_file(cmake/posenc.pc.in "${PROJECT_BINARY_DIR}/posenc.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/posenc.pc" DESTINATION "${pkgconfig_dir}" COMPONENT posenc_Development)

install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT posenc_Development)
