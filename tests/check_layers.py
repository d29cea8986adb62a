"""Each file of src/ includes only headers of its own module and of modules that CMake links it to, and only import uses
protobuf. Usage: check_layers.py ROOT"""
import pathlib, re, sys

root = pathlib.Path(sys.argv[1])
links = {}
for name, deps in re.findall(r"systole_module\((\S+) LINKS ([^)]*)\)", (root / "src/CMakeLists.txt").read_text()):
    links[name.replace("/", "_")] = [d.removeprefix("systole_") for d in deps.split() if d.startswith("systole_")]

def closure(module, seen=None):
    seen = seen if seen is not None else set()
    for d in links.get(module, []):
        if d not in seen:
            seen.add(d)
            closure(d, seen)
    return seen

def module_of(folder):
    """The module that a folder of src/ belongs to: its own, or that of a folder above it."""
    while folder and folder.replace("/", "_") not in links and folder != "base":
        folder = folder.rpartition("/")[0]
    return folder.replace("/", "_")

errors = []
for path in sorted((root / "src").rglob("*")):
    if path.suffix not in (".h", ".cpp"):
        continue
    folder = str(path.parent.relative_to(root / "src"))
    module = module_of(folder)
    allowed = closure(module) | {module}
    if not module:
        errors.append(f"{path}: folder is no module of src/CMakeLists.txt")
    for include in re.findall(r'#include "([^"]+)"', path.read_text()):
        if "/" not in include or include.startswith("systole/"):
            continue
        target = module_of(include.rsplit("/", 1)[0])
        if target not in allowed:
            errors.append(f"{path.relative_to(root)} includes {include}, but {module} does not link {target}")
    if "<onnx/" in path.read_text() and module != "import":
        errors.append(f"{path.relative_to(root)}: only import may use protobuf")
    lines = path.read_text().count("\n")
    if path.suffix != ".inc" and lines > 430:
        errors.append(f"{path.relative_to(root)} has {lines} lines")
# One name, one type: two types of one name in one program are merged by the linker without a word.
types = {}
for path in sorted((root / "src").rglob("*.h")) + sorted((root / "include").rglob("*.h")):
    space = "isa::" if "namespace systole::isa" in path.read_text() else ""
    for name in re.findall(r"^(?:class|struct|enum class) (\w+)[^;]*\{", path.read_text(), re.M):
        if types.setdefault(space + name, path) != path:
            errors.append(f"{path.relative_to(root)} and {types[space + name].relative_to(root)} both define {space}{name}")
compiler, models = {"graph", "ops", "import", "passes", "schedule", "codegen"}, {"sim_functional", "sim_translate", "sim_timing", "sim_dram", "sim_check", "sim_energy"}
for m in models:
    if closure(m) & compiler:
        errors.append(f"{m} depends on the compiler: {closure(m) & compiler}")
for c in compiler:
    if closure(c) & models:
        errors.append(f"{c} depends on the machine models: {closure(c) & models}")
print("\n".join(errors) or f"{len(links)} modules in order")
sys.exit(bool(errors))
