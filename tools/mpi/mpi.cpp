// The MPI side of src/sweep/communicator.cpp, a module of its own so that only ranks of a job load MPI.
#include <mpi.h>

#include <numeric>
#include <vector>

#include "sweep/mpi_module.h"

namespace {

void gather(const char* data, long bytes, void (*sink)(void*, int, const char*, long), void* context) {
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const int own = static_cast<int>(bytes);
  std::vector<int> counts(static_cast<size_t>(size)), offsets(static_cast<size_t>(size), 0);
  MPI_Allgather(&own, 1, MPI_INT, counts.data(), 1, MPI_INT, MPI_COMM_WORLD);
  std::partial_sum(counts.begin(), counts.end() - 1, offsets.begin() + 1);
  std::vector<char> all(static_cast<size_t>(offsets.back() + counts.back()) + 1);
  MPI_Allgatherv(data, own, MPI_CHAR, all.data(), counts.data(), offsets.data(), MPI_CHAR, MPI_COMM_WORLD);
  for (int r = 0; r < size; ++r) sink(context, r, all.data() + offsets[static_cast<size_t>(r)], counts[static_cast<size_t>(r)]);
}

void finish() { MPI_Finalize(); }

}  // namespace

const systole::MpiModule* systole_mpi_start() {
  static systole::MpiModule module;
  MPI_Init(nullptr, nullptr);
  MPI_Comm_rank(MPI_COMM_WORLD, &module.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &module.size);
  module.gather = gather, module.finish = finish;
  return &module;
}
