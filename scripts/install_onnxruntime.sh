#!/usr/bin/env bash
# Fetches ONNX Runtime's shared library into build/onnxruntime, for `systole compare` to measure this CPU with. Not needed to
# build, to run or to test.
set -euo pipefail
cd "$(dirname "$0")/.."
target=build/onnxruntime
[ -e "$target/libonnxruntime.so.1" ] && { echo "$target/libonnxruntime.so.1 is there"; exit 0; }
command -v npm >/dev/null || { echo "scripts/install_onnxruntime.sh: no npm; install it with: apt-get install npm" >&2; exit 1; }
mkdir -p "$target"
npm install --ignore-scripts --no-audit --no-fund --prefix "$target" onnxruntime-node
machine=$(uname -m); machine=${machine/x86_64/x64}; machine=${machine/aarch64/arm64}
library=$(find "$target/node_modules" -path "*linux/$machine/libonnxruntime.so.1" | head -1)
[ -n "$library" ] || { echo "scripts/install_onnxruntime.sh: the package has no library for $machine" >&2; exit 1; }
cp "$library" "$target/"
echo "$target/libonnxruntime.so.1"
