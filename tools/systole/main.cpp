#include <cstdio>

#include "command.h"

int main(int argc, char** argv) {
  using namespace systole;
  CLI::App app{"Systole: compile ONNX models for an NPU, run them bit-exactly, time them cycle by cycle."};
  app.require_subcommand(1);
  app.set_version_flag("--version", SYSTOLE_VERSION);
  app.footer("Examples:\n  systole model resnet50 -o resnet50.onnx\n  systole run resnet50.onnx --random 1\n  systole profile resnet50.onnx --npu nano\n  systole machine edge");
  for (auto add : {cli::add_run, cli::add_profile, cli::add_compile, cli::add_check, cli::add_machine, cli::add_model, cli::add_asm, cli::add_disasm, cli::add_ops, cli::add_generate, cli::add_quantize, cli::add_verify, cli::add_compare, cli::add_sweep, cli::add_explain, cli::add_train}) add(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e);
  } catch (const Failure& e) {
    std::fprintf(stderr, "systole: %s\n", e.what());
    return 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "systole: %s\n", e.what());
    return 1;
  }
  return 0;
}
