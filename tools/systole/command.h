// What the subcommands share. Each file of this folder adds one subcommand and holds nothing that the API lacks.
#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "systole/systole.h"

namespace systole::cli {

/// Adds the subcommand to the application; its callback does the work and throws Failure on errors.
void add_compile(CLI::App& app);
void add_run(CLI::App& app);
void add_profile(CLI::App& app);
void add_check(CLI::App& app);
void add_machine(CLI::App& app);
void add_model(CLI::App& app);
void add_asm(CLI::App& app);
void add_disasm(CLI::App& app);
void add_ops(CLI::App& app);
void add_generate(CLI::App& app);
void add_quantize(CLI::App& app);
void add_verify(CLI::App& app);
void add_compare(CLI::App& app);
void add_sweep(CLI::App& app);
void add_explain(CLI::App& app);
void add_train(CLI::App& app);

/// The model argument and the options that decide how it is compiled.
struct ModelOptions {
  std::string model, npu, precision = "auto";
  std::vector<std::string> dims, constants;
  std::string point;
  int64_t batch = 0;
  int threads = 0;
  bool no_cache = false;

  void add_to(CLI::App& command);
  /// Those that say what the model is: precision, dimensions, constants.
  void add_bindings_to(CLI::App& command);
  void add_batch_to(CLI::App& command);
  void add_threads_to(CLI::App& command);
  CompileOptions compile_options() const;
  /// A compiled program as it is, an ONNX model compiled now; `seconds` is the time that took.
  Compiled load(const std::map<std::string, Shape>& input_shapes, double* seconds) const;
};

/// --report, --trace and --csv of the commands that time a model.
struct PictureOptions {
  PictureFiles files;
  void add_to(CLI::App& command);
  /// Writes what was asked for; the page compares with modelled processors where the model is an ONNX file.
  void write(const Compiled& compiled, const ModelOptions& model) const;
};

/// "a=b" at the first '='; no '=' gives {"", text}.
std::pair<std::string, std::string> split_pair(const std::string& text);
/// Writes to a file, or to standard output for "-".
void write_text(const std::string& path, const std::string& text);
std::string read_text(const std::string& path);

}  // namespace systole::cli
