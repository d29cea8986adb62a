#!/usr/bin/env bash
# Writes docs/comparison.md: four networks on NPUs, on this CPU (ONNX Runtime) and on modelled processors.
set -euo pipefail
cd "$(dirname "$0")/.."
systole=build/release/tools/systole/systole
./scripts/install_onnxruntime.sh > /dev/null
page=docs/comparison.md
{
  echo "# NPU, CPU and GPU side by side"
  echo
  echo "Written by \`make compare\` on a machine with $(nproc) cores of $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2- | sed 's/^ *//'). \`systole compare\` says of each row what it is: *simulated* (our timing and"
  echo "energy models, cycle by cycle), *measured* (this CPU here, with ONNX Runtime; the H200 by scripts/measure_gpu.py, whose points ship in"
  echo "processors/h200.yaml), *modelled* (rooflines of processors/*.yaml: the H200's fitted to its points, the others' with assumed"
  echo "efficiencies), *published*. The H200 in int8 runs Triton kernels of our own, as its maker's inference library was not at hand: those rows are"
  echo "what such kernels reach, not the card's best; the modelled int8 rows assume the float kernels' efficiency at int8's peak."
  echo "The NPU runs one inference after the other; int8 stands against int8; a bf16 NPU"
  echo "stands against bf16 on other processors and fp32 on this CPU. Energy: NPU with DRAM; processors whole, wall power where published."
  for model in resnet50-qdq mobilenetv2-qdq bert-base lstm; do
    $systole model $model -o build/$model.onnx > /dev/null
    echo; echo '```'
    echo "\$ systole compare $model.onnx --npu nano,edge,server --processors h200,a100,jetson-agx-orin,xeon-8480,raspberry-pi-4"
    $systole compare build/$model.onnx --npu nano,edge,server --processors h200,a100,jetson-agx-orin,xeon-8480,raspberry-pi-4
    echo '```'
  done
} > $page.new
mv $page.new $page
echo "$page"
