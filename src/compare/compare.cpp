// NPU, CPU and GPU side by side on one model. Each row says where its figures come from.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "compare/onnxruntime.h"
#include "compare/processor.h"
#include "isa/program.h"
#include "passes/partition.h"
#include "passes/pipeline.h"
#include "runtime/inputs.h"
#include "runtime/model_file.h"
#include "systole/systole.h"

namespace systole {
namespace {

CompareRow npu_row(const Report& r, int64_t batch) {
  CompareRow row;
  const auto n = static_cast<double>(batch);
  row.batch = batch;
  row.processor = r.machine, row.kind = "NPU", row.precision = r.precision, row.basis = "simulated";
  row.latency_s = r.latency_s, row.throughput_per_s = r.throughput_per_s * n, row.energy_j = r.energy.system_j / n, row.power_w = r.energy.average_w, row.utilisation = r.efficiency;
  row.note = "cycle by cycle, chip and DRAM, " + std::to_string(r.energy.node_nm) + " nm; utilisation of its bound";
  return row;
}

}  // namespace

std::vector<WorkItem> workload_of_model(const std::string& path, const CompileOptions& options) {
  const FrontResult front = run_onnx_passes(read_onnx(path, options), options.precision);
  std::vector<WorkItem> work;
  for (const Graph& g : fused_programs(partition(front.graph, front.policy), front.policy)) {
    const auto items = workload_of(g);
    work.insert(work.end(), items.begin(), items.end());
  }
  return work;
}

namespace {

/// By ONNX Runtime where its library is found, otherwise by our own execution of the NPU's program on this CPU.
CpuMeasurement measure_cpu(const std::string& path, const Compiled& model, const CompareOptions& o, int threads, std::string& precision) {
  std::vector<NamedTensor> inputs;
  uint64_t seed = 1;
  for (const TensorInfo& i : inputs_of(model)) inputs.push_back({i.name, random_input(i, seed++)});
  std::vector<std::string> outputs;
  for (const TensorInfo& i : outputs_of(model)) outputs.push_back(i.name);
  try {
    const CpuMeasurement m = measure_onnxruntime(path, inputs, outputs, threads, o.seconds);
    precision = precision == "int8" ? "int8" : "fp32";
    return m;
  } catch (const Failure& f) {
    if (f.error().code != ErrorCode::kNotFound) throw;
  }
  std::vector<Tensor> tensors;
  for (const NamedTensor& t : inputs) tensors.push_back(t.tensor);
  const int before = thread_count();
  set_thread_count(threads);
  const CpuMeasurement m = measure_runs("no ONNX Runtime here (scripts/install_onnxruntime.sh): Systole's own execution of the NPU program", [&] {
    const auto begin = std::chrono::steady_clock::now();
    run(model, tensors).value();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }, o.seconds);
  set_thread_count(before);
  return m;
}

CompareRow cpu_row(const std::string& path, const Compiled& model, const std::string& precision, const CompareOptions& o, int threads) {
  CompareRow row;
  row.precision = precision;
  const CpuMeasurement m = measure_cpu(path, model, o, threads, row.precision);
  row.processor = "this CPU, " + std::to_string(threads) + " thread" + (threads == 1 ? "" : "s"), row.kind = "CPU", row.basis = "measured";
  row.latency_s = m.median_s, row.throughput_per_s = 1 / m.median_s;
  const bool rapl = m.joules_per_run > 0;
  row.energy_j = rapl ? m.joules_per_run : o.cpu_watts_per_thread * threads * m.median_s;
  row.power_w = row.energy_j / m.median_s;
  row.note = m.runtime + ", median of " + std::to_string(m.runs) + " runs; " + (rapl ? "energy by RAPL" : "energy modelled: " + std::to_string(std::lround(o.cpu_watts_per_thread)) + " W a busy thread");
  return row;
}

void add_points(Comparison& c, const Processor& p, const std::vector<ProcessorPoint>& points, const std::string& precision, const char* basis) {
  const bool exactly = std::string(basis) == "measured";  // a published figure may be for the other float format
  for (const ProcessorPoint& q : points_of(points, c.model, static_cast<double>(c.macs))) {
    if (exactly ? q.precision != precision : (precision == "int8") != (q.precision == "int8")) continue;
    CompareRow row;
    row.processor = p.name, row.kind = p.kind, row.precision = q.precision, row.basis = basis, row.batch = q.batch, row.note = q.source;
    row.energy_j = q.energy_j, row.latency_s = q.latency_s, row.throughput_per_s = q.latency_s > 0 ? static_cast<double>(q.batch) / q.latency_s : 0;
    row.power_w = q.latency_s > 0 ? q.energy_j * static_cast<double>(q.batch) / q.latency_s : 0;
    if (q.latency_s > 0 && q.macs > 0) row.utilisation = 2 * q.macs * static_cast<double>(q.batch) / q.latency_s / p.peak_ops.at(q.precision);
    c.rows.push_back(row);
  }
}

void add_processor(Comparison& c, const Processor& p, const std::vector<WorkItem>& work, const std::string& precision, int64_t batch) {
  add_points(c, p, p.measured, precision, "measured");
  std::vector<int64_t> batches = {1};
  if (batch > 1 && p.kind != "MCU") batches.push_back(batch);
  for (int64_t b : batches) {
    const Estimate e = estimate(p, work, precision, b);
    CompareRow row;
    row.processor = p.name, row.kind = p.kind, row.precision = precision, row.basis = "modelled", row.batch = b, row.note = "roofline of processors/" + std::filesystem::path(p.key).stem().string() + ".yaml";
    row.latency_s = e.latency_s, row.throughput_per_s = static_cast<double>(b) / e.latency_s, row.power_w = e.power_w, row.energy_j = e.power_w * e.latency_s / static_cast<double>(b), row.utilisation = e.utilisation;
    c.rows.push_back(row);
  }
  add_points(c, p, p.published, precision, "published");
}

}  // namespace

std::vector<std::string> comparison_processors() { return processor_names(); }

Result<Comparison> compare_model(const std::string& onnx_path, const CompileOptions& given, const CompareOptions& options) {
  return catch_failures([&] {
    CompileOptions compile_options = given;
    const int64_t npu_batch = std::max(options.npu_batch, std::exchange(compile_options.batch, 0));
    isa::check_batch("--npu-batch", options.npu_batch);
    isa::check_batch("--batch", options.batch);
    std::vector<Processor> processors;  // a misspelt name fails before the work
    for (const std::string& name : options.processors) processors.push_back(load_processor(name));
    Comparison c;
    c.model = std::filesystem::path(onnx_path).stem().string();
    Compiled first;
    for (const std::string& npu : options.npus) {
      CompileOptions o = compile_options;
      o.npu = npu;
      const Compiled model = compile(onnx_path, o).value().model;
      const Report r = profile(model).value();
      if (!first) first = model;
      c.precision = r.precision.starts_with("int8") ? "int8" : r.precision, c.macs = r.macs;
      if (r.nodes_on_host) c.remarks.push_back(npu + ": " + std::to_string(r.nodes_on_host) + (r.nodes_on_host == 1 ? " node runs on the host and is" : " nodes run on the host and are") + " in no row but the CPU's");
      c.rows.push_back(npu_row(r, 1));
      if (npu_batch == 1) continue;
      o.batch = npu_batch;
      c.rows.push_back(npu_row(profile(compile(onnx_path, o).value().model).value(), o.batch));
    }
    if (options.measure_cpu && first) {
      try {
        const int all = std::max(1, thread_count());
        c.rows.push_back(cpu_row(onnx_path, first, c.precision, options, 1));
        if (all > 1) c.rows.push_back(cpu_row(onnx_path, first, c.precision, options, all));
      } catch (const Failure& f) {
        c.remarks.push_back(std::string("CPU not measured: ") + f.what());
      }
    }
    CompileOptions o = compile_options;
    if (o.precision == "auto") o.precision = c.precision;
    const auto work = workload_of_model(onnx_path, o);
    if (work.empty()) fail(ErrorCode::kUnsupported, onnx_path, "a model that is compiled only when a run brings its data", "shapes that are known", "name its dimensions with --dim, or its constants with --constant");
    for (const Processor& p : processors) add_processor(c, p, work, c.precision, options.batch);
    return c;
  });
}

}  // namespace systole
