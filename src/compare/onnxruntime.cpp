// The C interface of ONNX Runtime is a table of functions whose order never changes (its own promise); this file names
// the entries it calls by their place in it.
#include "compare/onnxruntime.h"

#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/error.h"

namespace systole {
namespace {

using Status = void*;
enum Entry : size_t {
  kGetErrorMessage = 2, kCreateEnv = 3, kCreateSession = 7, kRun = 9, kCreateSessionOptions = 10, kSetGraphOptimization = 23, kSetIntraThreads = 24, kCreateTensorWithData = 49, kCreateCpuMemory = 69,
  kReleaseEnv = 92, kReleaseStatus = 93, kReleaseMemory = 94, kReleaseSession = 95, kReleaseValue = 96, kReleaseSessionOptions = 100
};
struct ApiBase {
  const void* const* (*get_api)(uint32_t version);
  const char* (*version)();
};
constexpr uint32_t kApiVersion = 14;

/// ONNXTensorElementDataType.
int element_type(DType t) {
  switch (t) {
    case DType::kF32: return 1;
    case DType::kU8: return 2;
    case DType::kI8: return 3;
    case DType::kU16: return 4;
    case DType::kI16: return 5;
    case DType::kI32: return 6;
    case DType::kI64: return 7;
    case DType::kBool: return 9;
    case DType::kF16: return 10;
    case DType::kF64: return 11;
    case DType::kU32: return 12;
    case DType::kU64: return 13;
    default: fail(ErrorCode::kUnsupported, "ONNX Runtime", std::string("an input of type ") + to_string(t), "numbers");
  }
}

void* open_library() {
  std::vector<std::string> places;
  if (const char* given = std::getenv("SYSTOLE_ONNXRUNTIME")) places.emplace_back(given);
  else places = {"libonnxruntime.so.1", "libonnxruntime.so", SYSTOLE_ONNXRUNTIME_PATH};
  for (const std::string& p : places) {
    if (void* library = dlopen(p.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  }
  fail(ErrorCode::kNotFound, "ONNX Runtime", std::string("no library at SYSTOLE_ONNXRUNTIME, or, where that is not set, among the system's or at ") + SYSTOLE_ONNXRUNTIME_PATH, "the shared library",
       "scripts/install_onnxruntime.sh fetches it (npm)");
}

class Runtime {
 public:
  Runtime() {
    const auto base = reinterpret_cast<const ApiBase* (*)()>(dlsym(open_library(), "OrtGetApiBase"));
    if (!base || !(api_ = base()->get_api(kApiVersion))) fail(ErrorCode::kNotFound, "ONNX Runtime", "no API of version " + std::to_string(kApiVersion), "ONNX Runtime 1.14 or later");
    name = std::string("ONNX Runtime ") + base()->version();
  }
  template <class... A>
  void call(Entry entry, A... arguments) const {
    check(reinterpret_cast<Status (*)(A...)>(const_cast<void*>(api_[entry]))(arguments...));
  }
  void release(Entry entry, void* object) const { reinterpret_cast<void (*)(void*)>(const_cast<void*>(api_[entry]))(object); }
  std::string name;

 private:
  void check(Status status) const {
    if (!status) return;
    const std::string message = reinterpret_cast<const char* (*)(Status)>(const_cast<void*>(api_[kGetErrorMessage]))(status);
    release(kReleaseStatus, status);
    fail(ErrorCode::kUnsupported, "ONNX Runtime", message, "a model that it runs");
  }
  const void* const* api_ = nullptr;
};

/// An object of the runtime, released with its scope.
class Handle {
 public:
  Handle(const Runtime& runtime, Entry release) : runtime_(runtime), release_(release) {}
  ~Handle() {
    if (object) runtime_.release(release_, object);
  }
  Handle(const Handle&) = delete;
  void* object = nullptr;

 private:
  const Runtime& runtime_;
  const Entry release_;
};

}  // namespace

struct OnnxRuntimeSession::State {
  State(std::vector<NamedTensor> fed, std::vector<std::string> wanted) : inputs(std::move(fed)), outputs(std::move(wanted)) {}
  Runtime r;
  std::vector<NamedTensor> inputs;
  std::vector<std::string> outputs;
  Handle env{r, kReleaseEnv}, options{r, kReleaseSessionOptions}, session{r, kReleaseSession}, memory{r, kReleaseMemory};
  std::vector<std::unique_ptr<Handle>> values;
  std::vector<const void*> in;
  std::vector<const char*> in_names, out_names;
};

OnnxRuntimeSession::OnnxRuntimeSession(const std::string& path, std::vector<NamedTensor> inputs, std::vector<std::string> outputs, int threads)
    : state_(std::make_unique<State>(std::move(inputs), std::move(outputs))) {
  State& s = *state_;
  s.r.call(kCreateEnv, 3, "systole", &s.env.object);
  s.r.call(kCreateSessionOptions, &s.options.object);
  s.r.call(kSetIntraThreads, s.options.object, threads);
  s.r.call(kSetGraphOptimization, s.options.object, 99);
  s.r.call(kCreateSession, s.env.object, path.c_str(), s.options.object, &s.session.object);
  s.r.call(kCreateCpuMemory, 0, 0, &s.memory.object);
  for (const NamedTensor& t : s.inputs) {
    s.values.push_back(std::make_unique<Handle>(s.r, kReleaseValue));
    s.r.call(kCreateTensorWithData, s.memory.object, const_cast<uint8_t*>(t.tensor.bytes.data()), t.tensor.bytes.size(), t.tensor.shape.data(), t.tensor.shape.size(), element_type(t.tensor.type), &s.values.back()->object);
    s.in.push_back(s.values.back()->object), s.in_names.push_back(t.name.c_str());
  }
  for (const std::string& n : s.outputs) s.out_names.push_back(n.c_str());
}
OnnxRuntimeSession::~OnnxRuntimeSession() = default;

double OnnxRuntimeSession::run() {
  using Clock = std::chrono::steady_clock;
  State& s = *state_;
  std::vector<void*> out(s.outputs.size(), nullptr);
  const auto begin = Clock::now();
  s.r.call(kRun, s.session.object, static_cast<const void*>(nullptr), s.in_names.data(), s.in.data(), s.in.size(), s.out_names.data(), s.out_names.size(), out.data());
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  for (void* v : out) s.r.release(kReleaseValue, v);
  return seconds;
}

const std::string& OnnxRuntimeSession::runtime() const { return state_->r.name; }

CpuMeasurement measure_onnxruntime(const std::string& path, const std::vector<NamedTensor>& inputs, const std::vector<std::string>& outputs, int threads, double seconds) {
  OnnxRuntimeSession session(path, inputs, outputs, threads);
  return measure_runs(session.runtime(), [&] { return session.run(); }, seconds);
}

}  // namespace systole
