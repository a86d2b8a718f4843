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
install(TARGETS mtp_mpi EXPORT mtpMpiTargets FILE_SET HEADERS)
install(TARGETS mtp_nccl EXPORT mtpNcclTargets FILE_SET HEADERS)
install(EXPORT mtpTargets NAMESPACE mtp:: DESTINATION "${config_dir}")
foreach(part IN ITEMS Cuda Mpi Nccl)
  install(EXPORT mtp${part}Targets NAMESPACE mtp:: DESTINATION "${config_dir}")
endforeach()
install(FILES "${PROJECT_BINARY_DIR}/mtpConfig.cmake" "${PROJECT_BINARY_DIR}/mtpConfigVersion.cmake"
              cmake/build_type.cmake
        DESTINATION "${config_dir}")
install(FILES cmake/sweep.cmake DESTINATION "${config_dir}" RENAME mtpSweep.cmake)
install(FILES cmake/find_nccl.cmake DESTINATION "${config_dir}" RENAME mtpFindNccl.cmake)
install(FILES cmake/add_model.cmake DESTINATION "${config_dir}" RENAME mtpAddModel.cmake)
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}")

# For pkg-config, wherever the prefix is moved to.
set(pkgconfig_dir "${CMAKE_INSTALL_DATADIR}/pkgconfig")
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY
           "${CMAKE_INSTALL_PREFIX}/${pkgconfig_dir}" OUTPUT_VARIABLE prefix_from_pkgconfig)
foreach(name IN ITEMS mtp mtp-io)
  configure_file(cmake/${name}.pc.in "${PROJECT_BINARY_DIR}/${name}.pc" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/${name}.pc" DESTINATION "${pkgconfig_dir}")
endforeach()
