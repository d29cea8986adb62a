#!/usr/bin/env bash
# Draws the data of the four examples, trains them on the NPU, and writes models, held-out samples and results to
# examples/models. The same data give the same bits on any computer; about two minutes on two cores.
# usage: examples/train/build.sh [OUTPUT_FOLDER [NAME...]]: all four, or those named
set -euo pipefail
cd "$(dirname "$0")/../.."
systole=$PWD/build/release/tools/systole/systole
out=$(realpath -m "${1:-examples/models}")
wanted=" ${*:2} "
work=build/examples
mkdir -p "$out" $work/train $work/test
data=examples/train/data.py
text=examples/train/letters.txt
results=$out/results.txt  # of all four; those of a part lie beside them
[ -z "${*:2}" ] || results=$out/results-of-$(echo "${*:2}" | tr ' ' '-').txt
: > "$results"
learn() {  # name, samples to learn from, held out, options
  local name=$1 train=$2 test=$3
  shift 3
  [ "$wanted" = "  " ] || [[ "$wanted" == *" $name "* ]] || return 0
  python3 $data $name $work/train --count $train --seed 1 --text $text --part 0:0.9
  python3 $data $name $work/test --count $test --seed 2 --text $text --part 0.9:1
  $systole model $name -o $work/$name.onnx > /dev/null
  echo "== $name: systole train $name.onnx $*" | tee -a "$results"
  $systole train $work/$name.onnx --data $work/train/$name.x.npy --labels $work/train/$name.y.npy --validation $work/test/$name.x.npy --validation-labels $work/test/$name.y.npy \
    --npu edge --log $work/$name.csv -o "$out/$name.onnx" "$@" | grep -v '\.onnx$' | sed 's/; [0-9.]* s of this computer//' | tee -a "$results"
  cp $work/test/$name.x.npy $work/test/$name.y.npy "$out/"
}
learn digits 8000 200 --epochs 6 --rate 2e-3 --schedule cosine
learn tones 6000 100 --epochs 24 --rate 5e-3 --schedule cosine --clip-norm 1
learn roads 800 20 --batch 8 --epochs 12 --rate 3e-3 --schedule cosine
learn letters 20000 50 --batch 16 --epochs 3 --rate 2e-3 --warm-up 50 --schedule cosine --clip-norm 1
