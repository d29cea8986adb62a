// Processes that share a sweep: one alone, or the ranks of an MPI job through the module in tools/mpi.
#pragma once
#include <memory>
#include <string>
#include <vector>

namespace systole {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const { return 0; }
  virtual int size() const { return 1; }
  /// The text of every rank, in their order, on every rank.
  virtual std::vector<std::string> gather(const std::string& text) { return {text}; }
};

/// The ranks of the job that `mpirun` started this process in; one process alone outside of a job. Fails (kNotFound) inside
/// a job where the MPI module is missing.
std::unique_ptr<Communicator> make_communicator();

}  // namespace systole
