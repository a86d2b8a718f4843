include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(config_dir "${CMAKE_INSTALL_DATADIR}/cmake/mtp")
configure_package_config_file(
    cmake/mtpConfig.cmake.in "${PROJECT_BINARY_DIR}/mtpConfig.cmake"
    INSTALL_DESTINATION "${config_dir}" NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(
    "${PROJECT_BINARY_DIR}/mtpConfigVersion.cmake" COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)

install(TARGETS mtp mtp_io EXPORT mtpTargets FILE_SET HEADERS)
install(TARGETS mtp_cuda EXPORT mtpCudaTargets FILE_SET HEADERS)
install(EXPORT mtpTargets NAMESPACE mtp:: DESTINATION "${config_dir}")
install(EXPORT mtpCudaTargets NAMESPACE mtp:: DESTINATION "${config_dir}")
install(FILES "${PROJECT_BINARY_DIR}/mtpConfig.cmake" "${PROJECT_BINARY_DIR}/mtpConfigVersion.cmake"
        DESTINATION "${config_dir}")
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}")
