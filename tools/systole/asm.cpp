// systole asm and disasm: programs as text and back.
#include "command.h"

namespace systole::cli {

void add_asm(CLI::App& app) {
  struct Options {
    std::string in, out, npu;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("asm", "Assemble a text program to .npu");
  c->add_option("text", o->in, "assembly as 'systole disasm' prints it")->required();
  c->add_option("--out,-o", o->out, "program file")->required();
  c->add_option("--npu", o->npu, "machine [the one the program names]");
  c->footer("Example:\n  systole asm resnet50.s -o resnet50.npu");
  c->callback([o] { save_program(assemble_program(read_text(o->in), o->in, o->npu).value(), o->out).value(); });
}

void add_disasm(CLI::App& app) {
  struct Options {
    std::string in, out = "-", npu;
    bool manual = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand("disasm", "Print a compiled program as text");
  c->add_option("program", o->in, "compiled program (.npu)");
  c->add_option("--out,-o", o->out, "file, or - for standard output")->capture_default_str();
  c->add_option("--npu", o->npu, "machine [the one the program names]");
  c->add_flag("--manual", o->manual, "print the instruction-set manual instead");
  c->footer("Example:\n  systole disasm resnet50.npu | less");
  c->callback([o] {
    if (o->manual) return write_text(o->out, isa_manual());
    if (o->in.empty()) fail(ErrorCode::kBadInput, "disasm", "no program", "a .npu file, or --manual");
    write_text(o->out, disassemble_program(load_program(o->in, o->npu).value()).value());
  });
}

void add_ops(CLI::App& app) {
  app.add_subcommand("ops", "Print the table of ONNX operators that compile")->callback([] { write_text("-", operator_table()); });
}

}  // namespace systole::cli
