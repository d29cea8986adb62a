#!/usr/bin/env bash
# Measures this host's execution of models against ONNX Runtime and the kernels against the host's peaks, and writes
# docs/performance.md's tables to build/bench. Alternating runs, ratios; nothing here is a test.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/release
bench=build/bench
models=$bench/models
dpkg-query -W -f '${Status}' libbenchmark-dev 2>/dev/null | grep -q 'ok installed' || ./scripts/install_packages.sh bench
./scripts/install_onnxruntime.sh > /dev/null
cmake --preset release > /dev/null
cmake --build $build --target systole against_onnxruntime kernels
mkdir -p $models
shared=../shared/models
list=()
if [ -e $shared/make_baseline_models.py ] && /usr/bin/python3 -c 'import onnx, torch' 2>/dev/null; then
  [ -e $models/meta.json ] || /usr/bin/python3 $shared/make_baseline_models.py $models
  for m in resnet50_qdq_u8s8 resnet50 bert_base_seq128 gpt2_small_seq128 lstm_2x512_100; do list+=($models/$m.onnx); done
else
  echo "== no ../shared/models/make_baseline_models.py, or no python3-onnx and python3-torch: our own architectures instead"
  for m in resnet50-qdq mobilenetv2-qdq resnet50 bert-base gpt2 lstm; do
    [ -e $models/$m.onnx ] || $build/tools/systole/systole model $m -o $models/$m.onnx
    list+=($models/$m.onnx)
  done
fi
for m in mobilenetv2-qdq-224 silero-vad yunet-n-320 ultraface-rfb320 vit-pgd; do
  [ -e $shared/dev/$m.onnx ] && list+=($shared/dev/$m.onnx)
done
$build/bench/against_onnxruntime "${list[@]}" "$@" 2>$bench/stderr.txt | tee $bench/against-onnxruntime.md
$build/bench/kernels 2>/dev/null | tee $bench/kernels.txt
for m in "${list[@]}"; do
  echo "== $m"
  $build/tools/systole/systole run "$m" --random 1 --host-profile 2>/dev/null | grep -A 12 'host profile' || true
done > $bench/profiles.txt
python3 scripts/measure_around.py $build/tools/systole/systole "${list[@]}" | tee $bench/around.md
echo "written: $bench/against-onnxruntime.md, $bench/kernels.txt, $bench/profiles.txt, $bench/around.md"
