#!/usr/bin/env bash
# Runs each fuzz target for SECONDS (default 600), two at a time, from seeds that the tool writes. Findings: build/fuzz/*-crash-*.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-600}
for p in clang libclang-rt-14-dev; do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || { [ "$(id -u)" -eq 0 ] && apt-get install -y -qq --no-install-recommends "$p" || sudo apt-get install -y -qq --no-install-recommends "$p"; }
done
cmake --preset fuzz > /dev/null
cmake --build --preset fuzz --target fuzz_onnx fuzz_npu fuzz_asm fuzz_yaml systole
cd build/fuzz
mkdir -p seeds/{onnx,npu,asm,yaml} corpus/{onnx,npu,asm,yaml}
for m in resnet8 ds-cnn; do
  tools/systole/systole model $m -o seeds/onnx/$m.onnx --size 16
  tools/systole/systole compile seeds/onnx/$m.onnx -o seeds/npu/$m.npu
  tools/systole/systole disasm seeds/npu/$m.npu | awk '!/^\./ && ++n <= 100' > seeds/asm/$m.s
done
for m in nano edge server; do tools/systole/systole machine $m --yaml > seeds/yaml/$m.yaml; done
one() { ./tests/fuzz/fuzz_$1 -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=4096 -timeout=20 -artifact_prefix="$1-crash-" -print_final_stats=1 "corpus/$1" "seeds/$1" > "fuzz_$1.log" 2>&1; }
status=0
one onnx & a=$!; one npu & b=$!; wait $a || status=1; wait $b || status=1
one asm & a=$!; one yaml & b=$!; wait $a || status=1; wait $b || status=1
for t in onnx npu asm yaml; do echo "fuzz_$t: $(grep -E 'stat::number_of_executed_units|ERROR|SUMMARY' "fuzz_$t.log" | tr '\n' ' ')"; done
exit $status
