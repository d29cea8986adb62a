// Systole's public API: compile an ONNX model for an NPU, run it bit-exactly, time it, report. Everything the command
// line does goes through here. All calls are synchronous; objects are immutable and may be shared between threads.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "numerics/tensor.h"

namespace systole {

/// Name and shape of a model input or output at the boundary, row-major in the model's axis order.
struct TensorInfo {
  std::string name;
  DType type = DType::kF32;
  Shape shape;
  bool shape_known = true;  ///< false: it follows from the data
};

struct CompileOptions {
  std::string npu = "edge";                     ///< preset name or path of a YAML description
  std::string precision = "auto";               ///< auto, bf16, fp32, fp16, int8
  std::map<std::string, int64_t> dims;          ///< values of symbolic dimensions
  int64_t batch = 0;                            ///< samples at once, of a model whose inputs begin with the batch; 0: as the file has them
  std::map<std::string, Shape> input_shapes;    ///< shapes of the data that will be given; binds free dimensions too
  std::map<std::string, std::shared_ptr<const Tensor>> constant_inputs;  ///< inputs whose values never change: they are compiled in
  bool int8_cache = false;                      ///< a decoder's past* and present* become int8 with scales (past*.scale, present*.scale)
  bool cache = true;                            ///< keep programs in SYSTOLE_CACHE, XDG_CACHE_HOME/systole or ~/.cache/systole
  std::string stop_after;                       ///< a phase name: `phase_text` is filled and nothing is generated
  bool phase_data = false;                      ///< print constants in full in `phase_text`
};

class CompiledModel;
using Compiled = std::shared_ptr<const CompiledModel>;

struct CompileResult {
  Compiled model;          ///< null when stopped early
  std::string phase_text;  ///< what `stop_after` made: a graph, a placement, instructions
  double seconds = 0;
};

/// Compiles an ONNX file. Errors: kIo, kBadInput (malformed model), kUnsupported (lists the nodes), kResource (machine too small).
Result<CompileResult> compile(const std::string& onnx_path, const CompileOptions& options);

/// Reads or writes a compiled program (.npu). `npu` must describe the machine it was compiled for (kMismatch otherwise);
/// empty means the preset that the program names.
Result<Compiled> load_program(const std::string& path, const std::string& npu = {});
Result<bool> save_program(const Compiled& model, const std::string& path);

std::vector<TensorInfo> inputs_of(const Compiled& model);
std::vector<TensorInfo> outputs_of(const Compiled& model);

/// One layer of a timed program. Cycles are from the start of its first instruction to the retirement of its last.
struct LayerReport {
  std::string name, kind;
  int64_t macs = 0, ideal_mx_cycles = 0, first_cycle = 0, last_cycle = 0;
  int64_t mx_cycles = 0, vx_cycles = 0, dma_cycles = 0;  ///< busy cycles of the engines on its instructions
  int64_t dram_bytes = 0, instructions = 0;
  /// Of the engine that is busiest in the layer: "busy" and the stalls of its instructions by reason.
  std::map<std::string, int64_t> cycles_by_reason = {};
  std::vector<double> energy_j = {};  ///< of its instructions, by part (EnergyReport::parts); leakage, clock root and standby belong to no layer
  /// MX, VX or DMA: the engine with most busy cycles.
  std::string bound_by() const;
};

struct EngineReport {
  std::string name;
  int64_t busy_cycles = 0;
  std::map<std::string, int64_t> stall_cycles;  ///< by reason; busy + stalls = total
};

/// A node that the host runs, and why.
struct HostReport {
  std::string name, type, reason;
  int64_t runs = 0;  ///< in the last run
};

/// Energy of one inference. Boundaries: core (engines, memories, leakage), chip (and the memory interface, scalar cores,
/// the rest), system (and external memory).
struct EnergyReport {
  std::vector<std::string> parts;
  std::vector<double> joules, area_mm2;          ///< by part
  double dynamic_j = 0, static_j = 0;            ///< together system_j
  double core_j = 0, chip_j = 0, system_j = 0;
  double average_w = 0, peak_w = 0, idle_w = 0;  ///< of the system; peak: of the greatest of power_w
  std::vector<double> power_w;                   ///< over equal slices of the run
  double tops_per_w = 0, nominal_tops_per_w = 0; ///< chip: delivered in this run, and at a full array without memory traffic
  int64_t node_nm = 0;
  double supply_v = 0;
};

struct Report {
  std::string model, machine, precision;
  int64_t cycles = 0, bound_cycles = 0, macs = 0, instructions = 0;
  int64_t batch = 1;      ///< samples of an execution: `compile`'s option, which a program keeps
  double clock_hz = 0, latency_s = 0, throughput_per_s = 0;  ///< throughput: executions
  double efficiency = 0;  ///< bound_cycles / cycles; bound = max(MX at full array, compulsory DRAM bytes / bandwidth)
  std::vector<EngineReport> engines;
  std::vector<LayerReport> layers;
  int64_t dram_read_bytes = 0, dram_write_bytes = 0, weights_bytes = 0, scratchpad_peak_bytes = 0, dram_footprint_bytes = 0;
  int64_t nodes_on_npu = 0, nodes_on_host = 0;
  int64_t programs = 1, program_runs = 1;  ///< NPU programs, and how often they ran together in the last run
  EnergyReport energy;
  std::vector<HostReport> host;            ///< not timed: host time is no part of `cycles`
};

/// Times the programs cycle by cycle. Data never changes the cycles of a program; how often each one runs is that of the
/// last run, or once. `point`: an operating point of the machine; empty is the machine as described.
Result<Report> profile(const Compiled& model, const std::string& point = {});

/// Pictures of a run: a self-contained HTML page, a Chrome/Perfetto trace, a CSV line per layer. Empty paths are skipped.
struct PictureFiles {
  std::string html, trace, csv;
  bool none() const { return html.empty() && trace.empty() && csv.empty(); }
};
struct Comparison;
Result<bool> write_pictures(const Compiled& model, const PictureFiles& files, const Comparison& comparison, const std::string& point = {});

/// Executes the model bit-exactly on inputs in the order of inputs_of(). Errors: kMismatch, and what host operators find
/// wrong with their inputs.
Result<std::vector<Tensor>> run(const Compiled& model, const std::vector<Tensor>& inputs);

/// Where this host's time goes when it executes a model.
struct HostWork {
  std::string kind;        ///< class of instruction, or "host operators"
  double seconds = 0;      ///< per run, summed over threads
  int64_t tasks = 0;       ///< per run
  std::string shape;       ///< what of that class, in words; empty for all of it
  double operations = 0;   ///< per run: multiply-adds as two, elements of vectors and bytes of copies as one; 0 where unknown
};
struct HostProfile {
  double run_s = 0;        ///< mean
  int threads = 0;
  std::vector<HostWork> work;    ///< by class
  std::vector<HostWork> shapes;  ///< by class and shape, the slowest first
};
/// Runs the model once, which translates its programs and packs their weights, and `runs` times more, measured. Errors as run().
Result<HostProfile> profile_host(const Compiled& model, const std::vector<Tensor>& inputs, int runs = 5);

/// Decoding with a language model: token ids to logits [1, length, vocabulary], recomputed for each token (any length up to
/// a bucket shares one program); or input_ids [1, 1], position [1, 1] and caches past_* to logits and present_*, one program
/// for all tokens.
struct GenerateTokens {
  std::vector<int64_t> prompt;
  int64_t tokens = 32;      ///< at most this many new ones
  int64_t end_token = -1;   ///< stops after it
  double temperature = 0;   ///< 0: the greatest logit
  int top_k = 0;            ///< 0: all
  uint64_t seed = 1;
  int64_t bucket = 64;      ///< lengths are rounded up to multiples of this; a growing cache begins with it and doubles
  int64_t prefill_chunk = 16;  ///< prompt tokens at once into a growing cache
};
struct Generation {
  std::vector<int64_t> ids;  ///< prompt and new tokens
  int64_t decoded = 0;
  bool recomputes = false;   ///< no cache: each token runs the whole sequence
  int64_t prefill_cycles = 0, decode_cycles = 0, cache_bytes = 0;
  double prefill_j = 0, decode_j = 0;  ///< chip and DRAM
  double prefill_host_s = 0, decode_host_s = 0, compile_s = 0, clock_hz = 0;
};
/// Called with each new token; false stops.
using TokenSink = std::function<bool(int64_t)>;
Result<Generation> generate_tokens(const std::string& onnx_path, const CompileOptions& compile_options, const GenerateTokens& options, const TokenSink& sink = {});

/// Proves the program free of races and out-of-bounds accesses; one line per finding, empty when it is proved.
Result<std::vector<std::string>> check(const Compiled& model);

/// Samples for calibration and accuracy: a folder (of pictures, or of one folder per class), a .npy file [N, ...], an array of an
/// .npz archive (FILE.npz, whose samples are called x, X, data ..., or FILE.npz:ARRAY), or an IDX file (MNIST), gzip or plain; labels from the
/// class folders, from beside the samples in their archive (y of x), or from such a file.
struct DataOptions {
  std::string data, labels;
  int64_t samples = 0;  ///< at most this many, spread over the set; 0: all
  float image_scale = 255;
  std::vector<float> image_mean, image_std;  ///< per channel; empty: 0 and 1
};

struct QuantizeOptions {
  DataOptions data;
  std::string method = "percentile";  ///< minmax, percentile, mse, entropy
  std::string weights = "int8";       ///< int8 (with uint8 activations) or int4 (weights alone)
  int64_t group = 32;                 ///< of int4 weights
  int64_t random_samples = 0;         ///< so many random samples in place of data: to see what the result takes, not what it is worth
  bool equalise = true, bias_correction = true;
  double max_drop = -1;               ///< percent points of top-1 against the float model; layers go back to float until it holds. < 0: no bound
  std::function<void(const std::string&)> progress;
};
struct QuantizeReport {
  int64_t samples = 0, layers = 0, equalised_pairs = 0;
  std::vector<std::string> float_layers;       ///< kept for the bound
  double float_accuracy = -1, accuracy = -1;   ///< top-1 in percent on the labelled samples, -1 without labels
  double agreement = 0;                        ///< samples with the same top-1 as the float model, in percent
  double sqnr_db = 0;                          ///< of the outputs
  int64_t weight_bytes_before = 0, weight_bytes = 0;
};
/// Calibrates a float model and writes a QDQ model that any ONNX runtime takes.
Result<QuantizeReport> quantize_model(const std::string& onnx_path, const std::string& out_path, const CompileOptions& compile_options, const QuantizeOptions& options);

struct VerifyOptions {
  DataOptions data;
  std::map<std::string, std::shared_ptr<const Tensor>> inputs, expected;  ///< one sample, and recorded outputs by name
  std::string reference;      ///< a float model of the same value names; default: the model itself in fp32
  double least_cosine = 0.99; ///< the bound of a layer
  uint64_t seed = 1;          ///< of random inputs where none are given
};
struct LayerVerdict {
  std::string name, op;
  double cosine = 1, max_abs = 0, sqnr_db = 0;
};
struct VerifyReport {
  std::vector<LayerVerdict> layers, outputs;  ///< against the reference; outputs against the recorded ones
  int first_below = -1;                       ///< layer that first leaves the bound
  int64_t samples = 0;
  double accuracy = -1, reference_accuracy = -1, agreement = -1;  ///< percent
};
/// Compares the model as it runs on the NPU with the float reference, layer by layer, and its accuracy on a labelled set.
Result<VerifyReport> verify_model(const std::string& onnx_path, const CompileOptions& compile_options, const VerifyOptions& options);

struct TrainProgress {
  int64_t step = 0, steps = 0;
  double loss = 0, batch_accuracy = -1, validation_accuracy = -1;  ///< percent; -1: none
  double step_s = 0, step_j = 0;                                   ///< of one step on the NPU
};
struct TrainOptions {
  DataOptions data, validation;
  int64_t random_samples = 0;          ///< in place of data: what a step costs does not depend on it
  double validation_share = 0.2;       ///< of `data`, where `validation` names none
  std::string loss = "cross-entropy";  ///< cross-entropy, mse, mae, huber, bce, dice, arcface, triplet, ctc
  double label_smoothing = 0;
  std::string optimizer = "adamw";     ///< sgd, adam, adamw, lamb, adafactor
  double learning_rate = 1e-3, momentum = 0.9, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0, clip_norm = 0;
  bool nesterov = false;
  std::string schedule = "constant";   ///< constant, step, cosine
  int64_t warm_up = 0, batch = 32, epochs = 1, steps = 0;  ///< steps > 0 replaces epochs
  int64_t accumulate = 1;              ///< batches whose gradients are added before an update
  std::string recompute = "none";      ///< activations computed again in backward: none, block (each by itself), full (least memory), auto (under memory_mib)
  int64_t memory_mib = 0;              ///< for activations, of recompute auto
  uint64_t seed = 1;                   ///< of the order of samples, dropout and stochastic rounding
  std::string weights = "fp32";        ///< master weights; bf16: matrices in two bytes alone, rounded stochastically (precision bf16 or fp8)
  std::vector<std::string> freeze;     ///< beginnings of names of weights that do not learn
  int64_t new_outputs = 0;             ///< a new last layer of so many outputs, drawn by the seed; 0: the model's own
  std::string loss_output;             ///< the output that the loss looks at, where a model has several
  std::string checkpoint, log;         ///< paths; empty: none
  int64_t checkpoint_every = 100;
  std::function<void(const TrainProgress&)> progress;
  /// Called with the programs of a step, forward with backward and the update, before anything runs.
  std::function<void(const Compiled& forward_backward, const Compiled& update)> compiled;
};
struct TrainReport {
  int64_t steps = 0, resumed_at = 0, parameters = 0, host_nodes = 0;
  double loss = 0, validation_accuracy = -1;          ///< of the last step; in percent
  int64_t forward_cycles = 0, step_cycles = 0, update_cycles = 0;  ///< forward alone; forward and backward; update
  double step_efficiency = 0, step_s = 0, step_j = 0; ///< of forward and backward; whole steps
  int64_t memory_bytes = 0;                           ///< of DRAM, for a step
  int64_t recomputed_nodes = 0, recompute_segments = 1;
  double host_s = 0;
  std::string precision;
};
/// Trains a float model: forward and backward in the precision asked for (bf16 by default, fp32, fp16, fp8), update and master weights in
/// fp32. With a checkpoint a killed run goes on with the same bits. Writes the trained model as ONNX.
Result<TrainReport> train_model(const std::string& onnx_path, const std::string& out_path, const CompileOptions& compile_options, const TrainOptions& options);

struct CompareOptions {
  std::vector<std::string> npus = {"edge"};
  std::vector<std::string> processors = {"h200", "jetson-agx-orin", "xeon-8480"};  ///< presets of processors/, or .yaml files
  int64_t batch = 32;               ///< a second row of each modelled processor
  int64_t npu_batch = 1;            ///< a second row of each NPU: otherwise it runs one inference after the other
  bool measure_cpu = true;          ///< with ONNX Runtime, where its shared library is found
  double seconds = 2;               ///< per measurement
  double cpu_watts_per_thread = 5;  ///< where RAPL cannot be read: a server core's share of its package at full load
};
struct CompareRow {
  std::string processor, kind, precision;
  std::string basis, note;  ///< simulated, measured, modelled or published; and how
  int64_t batch = 1;
  double latency_s = 0, throughput_per_s = 0, power_w = 0;
  double energy_j = 0;      ///< per inference; 0 in any figure: not known
  double utilisation = 0;
};
struct Comparison {
  std::string model, precision;
  int64_t macs = 0;
  std::vector<CompareRow> rows;
  std::vector<std::string> remarks;
};
/// The model on NPUs (simulated), on this CPU (measured) and on other processors (rooflines; published figures beside them).
Result<Comparison> compare_model(const std::string& onnx_path, const CompileOptions& compile_options, const CompareOptions& options);
std::vector<std::string> comparison_processors();
std::string to_text(const Comparison& comparison);
std::string to_json(const Comparison& comparison);

struct SweepOptions {
  std::string space;               ///< YAML: base machine and values of its parameters (docs/sweeps.md)
  std::string search = "grid";     ///< grid, random, evolve
  int64_t points = 0;              ///< machines to try; 0: the whole grid, or 1000
  uint64_t seed = 1;
  CompileOptions model;            ///< what the models are: precision, dims, constant_inputs, batch; the space says the machine
  std::string out = "sweep.csv", html;  ///< OUT.journal holds what is done until the end
  std::function<void(int64_t done, int64_t all)> progress;
};
struct SweepPoint {
  int64_t point = 0;
  std::vector<std::pair<std::string, std::string>> values;
  double latency_s = 0, energy_j = 0, area_mm2 = 0;  ///< geometric means over the models
};
struct SweepReport {
  int64_t points = 0, resumed = 0, infeasible = 0;
  std::vector<SweepPoint> front;  ///< Pareto-optimal in latency, energy and area, by latency
};
/// Tries machines of a space on models and writes a CSV line each. Killed, it continues from its journal; under mpirun the
/// ranks share the work. The file is the same in every case.
Result<SweepReport> sweep(const std::vector<std::string>& models, const SweepOptions& options);

/// One change of the model or the machine, made and simulated again.
struct ExplainChange {
  std::string kind, what;  ///< kind: model or machine
  std::string error;       ///< why it cannot be done; empty otherwise
  double speedup = 0, energy_ratio = 0, area_ratio = 0;  ///< new machine or model against the given one; speedup > 1 is faster
};
struct Explanation {
  std::string model, machine, precision;
  int64_t batch = 1;  ///< samples that latency and energy are of
  int64_t cycles = 0;
  double latency_s = 0, energy_j = 0, area_mm2 = 0;
  std::vector<std::string> findings;    ///< what limits the run now
  std::vector<ExplainChange> changes;   ///< by gain in latency x energy
};
/// What to change first, and what it brings. All figures come from programs compiled and timed for the change.
Result<Explanation> explain_model(const std::string& onnx_path, const CompileOptions& compile_options);
std::string to_text(const Explanation& explanation);
std::string to_json(const Explanation& explanation);

/// Host threads for all later calls; 0 is all cores. Results do not depend on it.
void set_threads(int threads);

/// Machines: names of the presets, what follows from a description, and its YAML text to start from.
std::vector<std::string> machine_names();
Result<std::string> describe_machine(const std::string& npu);
Result<std::string> machine_yaml(const std::string& npu);

/// Programs as text: assembly with header and data, and back.
Result<std::string> disassemble_program(const Compiled& model);
Result<Compiled> assemble_program(const std::string& text, const std::string& source, const std::string& npu = {});
/// docs/isa.md and the operator table of docs/operators.md.
std::string isa_manual();
std::string operator_table();

/// Standard architectures with seeded weights ("resnet50"); `size` 0 is the usual input extent.
std::vector<std::pair<std::string, std::string>> architecture_names();
Result<bool> write_architecture(const std::string& name, const std::string& path, uint64_t seed, int64_t size);

/// The report as text for people and as JSON (docs/json.md).
std::string to_text(const Report& report, size_t top_layers = 10);
std::string layer_table(const Report& report);
/// `extra` adds top-level members, given as a JSON object.
std::string to_json(const Report& report, const std::string& extra = "{}");

}  // namespace systole
