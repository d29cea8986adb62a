#!/usr/bin/env bash
# Draws the data of the four examples, trains them on the NPU, and writes models, held-out samples and results to
# examples/models. The same seeds give the same bits on any computer; about two minutes on two cores.
# usage: examples/train/build.sh [OUTPUT_FOLDER]
set -euo pipefail
cd "$(dirname "$0")/../.."
systole=$PWD/build/release/tools/systole/systole
out=$(realpath -m "${1:-examples/models}")
work=build/examples
mkdir -p "$out" $work/train $work/test
data=examples/train/data.py
text="docs/numerics.md docs/microarchitecture.md docs/energy.md docs/machines.md docs/reports.md docs/sweeps.md docs/quantization.md docs/decisions/000[1-6]*.md CONTRIBUTING.md"
python3 $data digits $work/train --count 8000 --seed 1
python3 $data digits $work/test --count 200 --seed 2
python3 $data tones $work/train --count 6000 --seed 1
python3 $data tones $work/test --count 100 --seed 2
python3 $data roads $work/train --count 800 --seed 1
python3 $data roads $work/test --count 20 --seed 2
python3 $data letters $work/train --count 20000 --seed 1 --text $text
python3 $data letters $work/test --count 50 --seed 2 --text docs/architecture.md

results=$out/results.txt
: > "$results"
learn() {  # name, options
  local name=$1
  shift
  $systole model $name -o $work/$name.onnx > /dev/null
  echo "== $name: systole train $name.onnx $*" | tee -a "$results"
  $systole train $work/$name.onnx --data $work/train/$name.x.npy --labels $work/train/$name.y.npy --validation $work/test/$name.x.npy --validation-labels $work/test/$name.y.npy \
    --npu edge --log $work/$name.csv -o "$out/$name.onnx" "$@" | grep -v '\.onnx$' | sed 's/; [0-9.]* s of this computer//' | tee -a "$results"
  cp $work/test/$name.x.npy $work/test/$name.y.npy "$out/"
}
learn digits --epochs 6 --rate 2e-3 --schedule cosine
learn tones --epochs 24 --rate 5e-3 --schedule cosine --clip-norm 1
learn roads --batch 8 --epochs 12 --rate 3e-3 --schedule cosine
learn letters --batch 16 --epochs 3 --rate 2e-3 --warm-up 50 --schedule cosine --clip-norm 1
