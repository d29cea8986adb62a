// A compiled model: programs of the NPU and nodes of the host, in the order in which they run. What only a run can know
// (shapes that depend on data, the bodies of loops and branches) is compiled when it comes up, once per set of shapes.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "codegen/compile.h"
#include "host/host.h"
#include "isa/program.h"
#include "machine/machine.h"
#include "passes/partition.h"
#include "sim/translate/translated.h"

namespace systole {

/// What all plans of one model share.
struct PlanContext {
  Machine machine;
  FloatPolicy policy;
  std::string precision;
  Judge judge;
  std::string cache_folder = {};  ///< where compiled programs are kept (program_cache.h); empty: nowhere
  bool reference = false;         ///< evaluate the primitives by their definition instead of compiling them
  bool least_memory = false;      ///< of GenerateOptions
  Effort effort = Effort::kUsual; ///< of GenerateOptions
  int64_t batch = 1;              ///< samples of one execution
};

/// A program, loaded when it first runs.
class LoadedProgram {
 public:
  LoadedProgram(isa::Program p, const Machine& machine) : program(std::move(p)), machine_(machine) {}
  /// The same by the reference evaluator: `program` has a boundary and no code.
  LoadedProgram(Graph primitives, const Machine& machine);
  const isa::Program program;
  int64_t runs = 0;  ///< in the last run of the model
  std::vector<Tensor> run(const std::vector<Tensor>& inputs);
  /// The dispatched stream; valid until the next run.
  const isa::Sequence& sequence();
  WorkProfile* profile = nullptr;  ///< runs add to it where it is given

 private:
  const Machine& machine_;
  std::unique_ptr<Translated> translated_;
  std::unique_ptr<const isa::Sequence> sequence_;  ///< asked for before a run
  std::unique_ptr<const Graph> primitives_;
};

/// A node of the host, for reports.
struct HostNodeInfo {
  std::string name, type, reason;
  int64_t runs = 0;      ///< in the last run of the model
  double seconds = 0;    ///< the same
};

/// What a file says about itself before it is loaded.
struct PlanHead {
  std::string model, precision, machine;
  int64_t batch = 1;
  uint64_t machine_hash = 0;
  FloatPolicy policy;
};

class Plan {
 public:
  /// Partitions and compiles an ONNX graph (after simplify and recognise_qdq) whose input shapes are bound. Fails like
  /// partition and generate.
  /// `bound` as in partition.
  Plan(Graph graph, std::shared_ptr<const PlanContext> context, bool bound = false);
  /// One program that needs no host.
  Plan(isa::Program program, std::shared_ptr<const PlanContext> context);

  /// Runs on values in the order of inputs(). Fails (kMismatch) on another count, type or shape.
  std::vector<HostValue> run(const std::vector<HostValue>& inputs);

  struct Boundary {
    std::string name;
    DType type;
    Shape shape;
    bool known = true;  ///< false: the shape follows from data
  };
  const std::vector<Boundary>& inputs() const { return inputs_; }
  const std::vector<Boundary>& outputs() const { return outputs_; }
  /// The only program of a model that needs no host; otherwise null.
  const LoadedProgram* whole() const { return whole_ ? programs_[0].get() : nullptr; }
  /// The model's file, in pieces; a model that needs no host is its program's. `deserialise` reads the others. Files are untrusted:
  /// kBadInput and kMismatch.
  std::vector<Bytes> serialise(const std::string& model) const;
  /// Whether a file gives back this very plan: types that the model declares and its programs narrow are not in a program's.
  bool exact_file() const;
  static bool is_plan_file(const Bytes& bytes);
  static PlanHead read_head(const Bytes& bytes, const std::string& source);
  static std::unique_ptr<Plan> deserialise(const Bytes& bytes, const std::string& source, std::shared_ptr<const PlanContext> context);
  void visit_programs(const std::function<void(LoadedProgram&)>& visit);
  void visit_host_nodes(const std::function<void(HostNodeInfo&)>& visit);
  size_t npu_nodes() const { return partition_.npu_nodes; }

 private:
  explicit Plan(std::shared_ptr<const PlanContext> context) : context_(std::move(context)) {}
  void describe_boundary();
  void own_what_stays();
  void bind_constant_captures();
  std::vector<HostValue> run_steps(const std::vector<HostValue>& inputs);
  void run_program(size_t k, const Region& region, std::vector<HostValue>& values);
  void run_host_node(const HostStep& step, HostNodeInfo& info, std::vector<HostValue>& values);
  std::vector<HostValue> run_subgraph(const Graph& graph, const std::vector<HostValue>& inputs);
  HostValue declared(HostValue value, DType as) const;

  const std::shared_ptr<const PlanContext> context_;
  Partition partition_;
  bool whole_ = false;
  std::vector<std::unique_ptr<LoadedProgram>> programs_;  ///< one per region, in the order of steps
  std::vector<HostNodeInfo> host_nodes_;                  ///< one per host step
  std::vector<Boundary> inputs_, outputs_;
  struct Variants {
    std::vector<bool> shaping;
    std::map<std::string, std::unique_ptr<Plan>> plans;
  };
  std::map<const Graph*, Variants> children_;
};

}  // namespace systole
