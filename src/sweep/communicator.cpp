#include "sweep/communicator.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>

#include "base/error.h"
#include "sweep/mpi_module.h"

namespace systole {
namespace {

class MpiJob : public Communicator {
 public:
  explicit MpiJob(const MpiModule* module) : module_(module) {}
  ~MpiJob() override { module_->finish(); }
  int rank() const override { return module_->rank; }
  int size() const override { return module_->size; }
  std::vector<std::string> gather(const std::string& text) override {
    std::vector<std::string> all(static_cast<size_t>(size()));
    module_->gather(
        text.data(), static_cast<long>(text.size()), [](void* list, int rank, const char* data, long bytes) { (*static_cast<std::vector<std::string>*>(list))[static_cast<size_t>(rank)].assign(data, static_cast<size_t>(bytes)); }, &all);
    return all;
  }

 private:
  const MpiModule* module_;
};

}  // namespace

std::unique_ptr<Communicator> make_communicator() {
  bool job = false;
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"}) job |= std::getenv(variable) != nullptr;
  if (!job) return std::make_unique<Communicator>();
  std::error_code ec;
  const std::string folder = std::filesystem::read_symlink("/proc/self/exe", ec).parent_path().string();
  for (const std::string& path : {folder + "/libsystole_mpi.so", folder + "/../lib/libsystole_mpi.so", std::string("libsystole_mpi.so")}) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
    const auto start = library ? reinterpret_cast<decltype(&systole_mpi_start)>(dlsym(library, "systole_mpi_start")) : nullptr;
    if (start) return std::make_unique<MpiJob>(start());
  }
  fail(ErrorCode::kNotFound, "MPI", "no libsystole_mpi.so beside the program", "a build with MPI (libopenmpi-dev)", "build again, or run without mpirun");
}

}  // namespace systole
