# Finds Eigen 3.4 or newer; leaves `posenc_eigen_problem` empty, or saying what is wrong. The installed package includes it too.
#
# The version is compared by hand: each way of asking find_package for "3.4 or newer" is refused by one of 3.4.0 and 5.0.
set(posenc_eigen_problem "")
if(NOT TARGET Eigen3::Eigen)  # a parent project may bring its own
  find_package(Eigen3 CONFIG QUIET)
endif()
if(NOT TARGET Eigen3::Eigen)
  set(posenc_eigen_problem "posenc needs Eigen 3.4 or newer (Debian and Ubuntu: libeigen3-dev); point Eigen3_DIR to one elsewhere")
elseif(Eigen3_VERSION AND Eigen3_VERSION VERSION_LESS 3.4)
  set(posenc_eigen_problem "posenc needs Eigen 3.4 or newer, but ${Eigen3_DIR} has ${Eigen3_VERSION}")
endif()
