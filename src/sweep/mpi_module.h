// What libsystole_mpi.so exports, so that only processes of an MPI job load MPI.
#pragma once

namespace systole {

struct MpiModule {
  int rank = 0, size = 1;
  /// Calls sink(context, rank, data, bytes) for each rank's data, in order.
  void (*gather)(const char* data, long bytes, void (*sink)(void* context, int rank, const char* data, long bytes), void* context) = nullptr;
  void (*finish)() = nullptr;
};

}  // namespace systole

extern "C" const systole::MpiModule* systole_mpi_start();
