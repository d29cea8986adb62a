# Two commands: `make run` sets up, builds and runs a real model; `make test` builds and passes all tests.
BUILD := build/release
SYSTOLE := $(BUILD)/tools/systole/systole
JOBS ?= $(shell nproc)

.PHONY: run test fast setup build docs compare bench fuzz clean

run: build
	@echo "== ResNet-50 (real architecture, seeded weights): ONNX -> NPU program -> results, cycles, report"
	@$(SYSTOLE) model resnet50-qdq -o $(BUILD)/resnet50-qdq.onnx
	@$(SYSTOLE) run $(BUILD)/resnet50-qdq.onnx --random 1
	@echo "== a digit recogniser that was trained on the NPU (examples/train), on 200 digits it has not seen"
	@$(SYSTOLE) verify examples/models/digits.onnx --data examples/models/digits.x.npy --labels examples/models/digits.y.npy

setup:
	@./scripts/install_packages.sh

build: setup
	@mkdir -p build && { cmake --preset release > build/configure.log 2>&1 || { cat build/configure.log; exit 1; }; }
	@cmake --build --preset release -j $(JOBS)

test: build
	@./scripts/install_packages.sh test
	@ctest --preset full

fast: build
	@ctest --preset fast

# Pages that are written by the tool itself.
docs: build
	@$(SYSTOLE) disasm --manual -o docs/isa.md
	@$(SYSTOLE) ops > docs/operators.md

# docs/comparison.md: fetches ONNX Runtime (npm) to measure this CPU with.
compare: build
	@./scripts/compare.sh

# Execution on this host against ONNX Runtime on the same files, and kernels against the host's peaks (docs/performance.md).
bench: build
	@./scripts/bench.sh

# Ten minutes for each fuzz target (clang, libFuzzer, ASan, UBSan).
FUZZ_SECONDS ?= 600
fuzz: setup
	@./scripts/fuzz.sh $(FUZZ_SECONDS)

clean:
	rm -rf build
