#!/usr/bin/env bash
# Trains examples/models/tones.onnx anew and compares the files. usage: examples.sh FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
./examples/train/build.sh "$1" tones
for file in tones.onnx tones.x.npy tones.y.npy; do cmp "$1/$file" examples/models/$file; done
