# NCCL, which has no CMake files of its own: the imported target mtp_nccl_library, if header and library are found.
# NCCL_ROOT or CMAKE_PREFIX_PATH say where else to look.
find_path(MTP_NCCL_INCLUDE nccl.h HINTS "${CUDAToolkit_INCLUDE_DIRS}")
find_library(MTP_NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS "${CUDAToolkit_LIBRARY_DIR}")
mark_as_advanced(MTP_NCCL_INCLUDE MTP_NCCL_LIBRARY)
if(MTP_NCCL_INCLUDE AND MTP_NCCL_LIBRARY AND NOT TARGET mtp_nccl_library)
  add_library(mtp_nccl_library INTERFACE IMPORTED)
  set_target_properties(mtp_nccl_library PROPERTIES
      INTERFACE_INCLUDE_DIRECTORIES "${MTP_NCCL_INCLUDE}"
      INTERFACE_LINK_LIBRARIES "${MTP_NCCL_LIBRARY}")
endif()
