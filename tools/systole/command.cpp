#include "command.h"

#include <cstdio>

#include "base/file.h"

namespace systole::cli {

void ModelOptions::add_to(CLI::App& command) {
  command.add_option("model", model, "ONNX model, or a program compiled before (.npu)")->required();
  command.add_option("--npu", npu, "machine: a preset (see 'systole machine') or a .yaml description [edge]");
  command.add_option("--precision", precision, "auto, bf16, fp32, fp16 or int8 (auto: int8 with an fp32 rest for quantised models, bf16 otherwise)")->capture_default_str();
  command.add_option("--dim", dims, "value of a symbolic dimension, NAME=VALUE (repeatable)");
  command.add_option("--threads", threads, "host threads, 0 for all; results do not depend on it")->capture_default_str();
}

CompileOptions ModelOptions::compile_options() const {
  CompileOptions o;
  o.npu = npu.empty() ? "edge" : npu;
  o.precision = precision;
  for (const auto& d : dims) {
    const auto [name, value] = split_pair(d);
    char* end = nullptr;
    const long long v = std::strtoll(value.c_str(), &end, 10);
    if (name.empty() || value.empty() || *end) fail(ErrorCode::kBadInput, "--dim", "'" + d + "'", "NAME=VALUE with an integer value");
    o.dims[name] = v;
  }
  set_threads(threads);
  return o;
}

Compiled ModelOptions::load(const std::map<std::string, Shape>& input_shapes, double* seconds) const {
  CompileOptions o = compile_options();
  if (model.ends_with(".npu")) {
    *seconds = 0;
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
