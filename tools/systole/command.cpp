#include "command.h"

#include <cstdio>

#include "base/file.h"
#include "runtime/npz.h"

namespace systole::cli {

void ModelOptions::add_to(CLI::App& command) {
  command.add_option("model", model, "ONNX model, or a program compiled before (.npu)")->required();
  command.add_option("--npu", npu, "machine: a preset (see 'systole machine') or a .yaml description [edge]");
  add_bindings_to(command);
  command.add_flag("--no-cache", no_cache, "compile anew; otherwise programs are kept in SYSTOLE_CACHE or ~/.cache/systole, by content");
  add_threads_to(command);
}

void ModelOptions::add_threads_to(CLI::App& command) {
  command.add_option("--threads", threads, "host threads, 0 for all; results do not depend on it")->check(CLI::NonNegativeNumber)->capture_default_str();
}

void ModelOptions::add_bindings_to(CLI::App& command) {
  command.add_option("--precision", precision, "auto, bf16, fp32, fp16, int8 or int8-bf16 (auto: bf16, and for quantised models int8, which computes what is no integer in fp32 as other runtimes do; int8-bf16 computes that in bf16)")->capture_default_str();
  command.add_option("--dim", dims, "value of a symbolic dimension, NAME=VALUE (repeatable)");
  command.add_option("--constant", constants, "input whose value never changes, NAME=FILE.npy or NAME=NUMBER (repeatable): compiled in");
}

void ModelOptions::add_batch_to(CLI::App& command) {
  command.add_option("--batch", batch, "samples at once, for a model whose inputs begin with the batch [as the file has it]")->check(CLI::PositiveNumber);
}

/// A file, or one integer (int64) or other number (float) without axes.
static std::shared_ptr<const Tensor> constant_from(const std::string& name, const std::string& text) {
  if (text.ends_with(".npy") || is_npz(text)) return std::make_shared<const Tensor>(read_array(text, {name}));
  char* end = nullptr;
  const double v = std::strtod(text.c_str(), &end);
  if (text.empty() || *end) fail(ErrorCode::kBadInput, "--constant", "'" + text + "'", "a .npy or .npz file or a number");
  const bool integer = text.find_first_of(".eE") == std::string::npos;
  return std::make_shared<const Tensor>(integer ? Tensor::from_ints({std::strtoll(text.c_str(), nullptr, 10)}, {}) : Tensor::scalar_f32(static_cast<float>(v)));
}

CompileOptions ModelOptions::compile_options() const {
  CompileOptions o;
  o.npu = npu.empty() ? "edge" : npu;
  o.precision = precision;
  o.cache = !no_cache;
  o.batch = batch;
  for (const auto& d : dims) {
    const auto [name, value] = split_pair(d);
    char* end = nullptr;
    const long long v = std::strtoll(value.c_str(), &end, 10);
    if (name.empty() || value.empty() || *end) fail(ErrorCode::kBadInput, "--dim", "'" + d + "'", "NAME=VALUE with an integer value");
    o.dims[name] = v;
  }
  for (const auto& c : constants) {
    const auto [name, value] = split_pair(c);
    if (name.empty()) fail(ErrorCode::kBadInput, "--constant", "'" + c + "'", "NAME=FILE.npy or NAME=NUMBER");
    o.constant_inputs[name] = constant_from(name, value);
  }
  set_threads(threads);
  return o;
}

Compiled ModelOptions::load(const std::map<std::string, Shape>& input_shapes, double* seconds) const {
  CompileOptions o = compile_options();
  if (model.ends_with(".npu")) {
    *seconds = 0;
    if (batch > 0) fail(ErrorCode::kBadInput, "--batch", "a program compiled before", "an ONNX model", "a program keeps the batch that it was compiled with: systole compile --batch");
    return load_program(model, npu).value();
  }
  o.input_shapes = input_shapes;
  CompileResult r = compile(model, o).value();
  *seconds = r.seconds;
  return r.model;
}

std::pair<std::string, std::string> split_pair(const std::string& text) {
  const size_t at = text.find('=');
  return at == std::string::npos ? std::pair{std::string(), text} : std::pair{text.substr(0, at), text.substr(at + 1)};
}

void write_text(const std::string& path, const std::string& text) {
  if (path == "-") std::fwrite(text.data(), 1, text.size(), stdout);
  else write_file(path, text);
}

std::string read_text(const std::string& path) {
  const auto bytes = read_file(path, 1 << 30);
  return {bytes.begin(), bytes.end()};
}

}  // namespace systole::cli
