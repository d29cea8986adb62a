"""The command as users meet it. Usage: command_line.py PATH_TO_SYSTOLE"""
import json, os, re, struct, subprocess, sys, tempfile, time

systole = os.path.abspath(sys.argv[1])
failures = []

def run(*args, ok=True):
    r = subprocess.run([systole, *args], capture_output=True, text=True, timeout=120)
    if (r.returncode == 0) != ok:
        failures.append(f"{args}: exit {r.returncode}\n{r.stdout}{r.stderr}")
    return r.stdout + r.stderr

def expect(text, *parts):
    for p in parts:
        if p not in text:
            failures.append(f"expected {p!r} in:\n{text[:800]}")

with tempfile.TemporaryDirectory() as d:
    os.chdir(d)
    os.environ["SYSTOLE_CACHE"] = ""
    expect(run("--help"), "Examples:", "run", "profile", "compile")
    for sub in "run profile compile check machine model asm disasm ops generate quantize verify compare sweep explain train".split():
        expect(run(sub, "--help"), "Usage" if sub == "ops" else sub)
    expect(run("machine"), "edge", "nano", "server")
    expect(run("machine", "edge"), "2.048 TOPS int8", "MAC per DRAM byte", "memory map")
    expect(run("model"), "resnet50", "unet")
    run("model", "resnet8", "-o", "r.onnx")
    for npu in ("nano", "edge", "server"):
        run("compile", "r.onnx", "--npu", npu, "-o", f"{npu}.npu")
        expect(run("check", f"{npu}.npu"), "every conflicting pair is ordered")
    # a quantised model, without data; what takes neither is told what to give
    report = json.loads(run("quantize", "r.onnx", "--random", "2", "--json", "-", "-o", 'r "8".onnx'))
    if report["file"] != 'r "8".onnx' or report["layers"] < 9 or report["float_layers"] or report["sqnr_db"] < 15:
        failures.append(f"quantize: {report}")
    expect(run("profile", 'r "8".onnx'), "(int8")
    expect(run("quantize", "r.onnx", ok=False), "--data, or --random N")
    # text and binary round trip
    run("disasm", "edge.npu", "-o", "edge.s")
    run("asm", "edge.s", "-o", "again.npu")
    if open("edge.npu", "rb").read() != open("again.npu", "rb").read():
        failures.append("disasm | asm is not the identity")
    # a program that reads its constants
    text = open("edge.s").read()
    head, code = text.split("\n", 1)
    constants = json.loads(head.split(" ", 1)[1])["constants_address"]
    first, rest = re.search(r'"layer_of":\[\[(\d+),(\d+)\]', head).groups()
    head = head.replace(f'"layer_of":[[{first},{rest}]', f'"layer_of":[[{first},{int(rest) + 1}]')
    for address, ok in ((constants, True), (constants - 8, False)):
        open("reads.s", "w").write(f"{head}\nloadreg rd=7 address={address}\n{code}")
        run("asm", "reads.s", "-o", "reads.npu")
        expect(run("check", "reads.npu", ok=ok), "every conflicting pair is ordered" if ok else "an address inside the constants")
        expect(run("profile", "reads.npu", ok=ok), "latency" if ok else "an address inside the constants")
        expect(run("run", "reads.npu", "--random", "5", ok=ok), "latency" if ok else "an address inside the constants")
    # where this host's time goes
    expect(run("run", "r.onnx", "--random", "1", "--host-profile"), "host profile", "sum over threads")
    # the models of the repository that were trained on the NPU, on samples they have not seen
    models = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "examples", "models")
    for name, accuracy in (("digits", "top-1        99.50 %"), ("tones", "top-1        99.00 %")):
        sample = os.path.join(models, name)
        expect(run("verify", sample + ".onnx", "--data", sample + ".x.npy", "--labels", sample + ".y.npy"), accuracy)
    # training by labels of places, and by numbers of tokens: a step each; the scripts' data
    script = os.path.join(models, "..", "train", "data.py")
    for name in ("roads", "letters"):
        subprocess.run([sys.executable, script, name, ".", "--count", "8", "--text", script], check=True)
        run("model", name, "-o", name + ".onnx")
        expect(run("train", name + ".onnx", "--data", name + ".x.npy", "--labels", name + ".y.npy", "--batch", "2", "--steps", "2", "--npu", "server", "-o", "t.onnx"), "2 steps; bf16", "t.onnx")
    expect(run("train", "letters.onnx", "--data", "letters.x.npy", "--labels", "roads.y.npy", "--batch", "2", "-o", "t.onnx", ok=False), "labels")
    # a program whose strides of 0 make an endless loop of a small footprint
    text = open("edge.s").read().splitlines()
    text = [re.sub(r"channels=\d+", "channels=16777215", re.sub(r"(a_channel_pitch|b_row_pitch)=\d+", r"\1=0", l)) if l.lstrip().startswith("matrixdesc") else l for l in text]
    open("endless.s", "w").write("\n".join(text) + "\n")
    run("asm", "endless.s", "-o", "endless.npu")
    expect(run("run", "endless.npu", "--random", "1", ok=False), "more weights than the scratchpad holds")
    # the same bits from the model and from the program, on every machine, with one and two threads, on every host instruction set
    outputs = set()
    for args in (["r.onnx"], ["r.onnx", "--threads", "1"], ["edge.npu"], ["nano.npu"], ["server.npu"], ["r.onnx", "--threads", "2"]):
        run("run", *args, "--random", "5", "--out", "o", "--json", "j.json")
        outputs.add(open("o/logits.npy", "rb").read())
    for isa in ("avx512bf16", "avx512", "avx2", "scalar"):
        os.environ["SYSTOLE_HOST_ISA"] = isa
        run("run", "r.onnx", "--random", "5", "--out", "o")
        outputs.add(open("o/logits.npy", "rb").read())
    del os.environ["SYSTOLE_HOST_ISA"]
    if len(outputs) != 1:
        failures.append(f"{len(outputs)} different results for the same model and input")
    j = json.load(open("j.json"))
    for key in ("model machine precision cycles latency_s throughput_per_s bound_cycles efficiency engines dram_bytes weights_bytes scratchpad_peak_bytes "
                "nodes_on_npu nodes_on_host compile_s run_s timing_s layers").split():
        if key not in j:
            failures.append(f"no {key!r} in the JSON report")
    for name, e in j["engines"].items():
        if e["busy_cycles"] + sum(e["stall_cycles"].values()) != j["cycles"]:
            failures.append(f"engine {name}: busy and stalls do not add up")
    e = j["energy"]
    layers = sum(sum(l["energy_j"]) for l in j["layers"])
    for what, sums in (("parts", sum(e["joules"])), ("instructions and constants", layers + e["static_j"]), ("dynamic and static", e["dynamic_j"] + e["static_j"])):
        if abs(sums / e["system_j"] - 1) > 1e-9:
            failures.append(f"energy by {what}: {sums} of {e['system_j']}")
    low = json.loads(run("profile", "edge.npu", "--json", "-", "--point", "low"))
    if not (low["energy"]["core_j"] < e["core_j"] and low["latency_s"] > j["latency_s"]):
        failures.append("a lower voltage and clock is neither slower nor thriftier")
    expect(run("profile", "edge.npu", "--point", "warp", ok=False), "nominal, low, boost")
    c = json.loads(run("compare", "r.onnx", "--npu", "nano,edge", "--processors", "h200,stm32h7", "--no-cpu", "--json", "-"))
    if [r["kind"] for r in c["rows"]] != ["NPU", "NPU", "GPU", "GPU", "MCU"] or min(r["energy_j"] for r in c["rows"]) <= 0:
        failures.append(f"compare: {c}")
    # several samples at once, of a model written for one
    four = json.loads(run("run", "r.onnx", "--random", "1", "--batch", "4", "--json", "-"))
    one = json.loads(run("profile", "r.onnx", "--json", "-"))
    if four["batch"] != 4 or one["batch"] != 1 or four["macs"] != 4 * one["macs"] or not one["cycles"] < four["cycles"] < 5 * one["cycles"]:
        failures.append(f"--batch 4: {four['batch']}, {four['macs']} MAC, {four['cycles']} cycles; alone {one['macs']}, {one['cycles']}")
    expect(run("run", "r.onnx", "--random", "1", "--batch", "4", "--host-profile"), "for a batch of 4", "f32[4,10]", "the slowest shapes", "to 16 channels")
    expect(run("profile", "edge.npu", "--batch", "2", ok=False), "an ONNX model")
    expect(run("compare", "r.onnx", "--no-cpu", "--npu-batch", "2"), "edgex2")
    expect(run("compare", "r.onnx", "--no-cpu"), "inferences per joule", "modelled", "simulated")
    expect(run("compare", "r.onnx", "--processors", "abacus", ok=False), "jetson-agx-orin")
    os.environ["SYSTOLE_ONNXRUNTIME"] = "/nowhere"
    expect(run("compare", "r.onnx", "--processors", "h200", "--seconds", "0.1"), "this CPU", "measured: no ONNX Runtime here", "own execution")
    del os.environ["SYSTOLE_ONNXRUNTIME"]
    x = json.loads(run("explain", "r.onnx", "--json", "-"))
    done = [c for c in x["changes"] if not c["error"]]
    if not x["findings"] or len(done) < 10 or not any("int8" in c["what"] and c["speedup"] > 1.2 for c in done):
        failures.append(f"explain: {x}")
    # its starting point is what profile says, where stripes of rows go through several layers too
    run("model", "mobilenetv2", "-o", "v2.onnx", "--size", "96")
    x, profile = (json.loads(run(command, "v2.onnx", "--npu", "nano", "--json", "-")) for command in ("explain", "profile"))
    if x["cycles"] != profile["cycles"] or not any(".held." in layer["name"] for layer in profile["layers"]):
        failures.append(f"explain: {x['cycles']} cycles, profile {profile['cycles']}")
    # a model with nodes on the host: what, why, and the same bits on every machine
    run("model", "gpt2-tiny", "-o", "g.onnx", "--size", "16")
    expect(run("check", "g.onnx"), "host", "Gather", "change:")
    outputs = set()
    for npu in ("nano", "edge", "server"):
        run("run", "g.onnx", "--npu", npu, "--precision", "fp32", "--random", "3", "--out", "og", "--json", "jg.json")
        outputs.add(open("og/logits.npy", "rb").read())
    if len(outputs) != 1:
        failures.append("a model with host nodes depends on the machine")
    j = json.load(open("jg.json"))
    if j["nodes_on_host"] != 1 or j["host"][0]["type"] != "Gather" or not j["host"][0]["reason"]:
        failures.append(f"host account: {j['host']}")
    run("model", "gpt2-tiny-cached", "-o", "gc.onnx", "--size", "16")
    full = json.loads(run("generate", "g.onnx", "--ids", "3,5,7", "-n", "6", "--json", "-"))
    cached = json.loads(run("generate", "gc.onnx", "--ids", "3,5,7", "-n", "6", "--json", "-"))
    if full["ids"] != cached["ids"] or cached["cache_bytes"] == 0 or not full["recomputes"]:
        failures.append(f"generate: {full} against {cached}")
    # the cache of compiled models: the same results, and a damaged entry is compiled anew; a model that has not changed for
    # two seconds has an identity (.id) too, whose damage costs a compile at most
    os.environ["SYSTOLE_CACHE"] = os.path.join(d, "cache")
    entries = lambda suffix: [f"cache/{name}" for name in sorted(os.listdir("cache")) if name.endswith(suffix)]
    def halve(path):
        data = open(path, "rb").read()
        open(path, "wb").write(data[:len(data) // 2])
    for attempt in ("fresh", "kept", "damaged", "settled", "identity damaged"):
        if attempt == "settled":
            time.sleep(max(0.0, os.stat("g.onnx").st_mtime + 3.5 - time.time()))
        run("run", "g.onnx", "--precision", "fp32", "--random", "3", "--out", "oc")
        if open("oc/logits.npy", "rb").read() not in outputs:
            failures.append(f"cache, {attempt}: other bits")
        programs, identities = entries(".npu"), entries(".id")
        if attempt != "identity damaged" and len(programs) != 1 or attempt == "settled" and len(identities) != 1:
            failures.append(f"cache, {attempt}: {programs} {identities}")
        if attempt == "kept":
            halve(programs[0])
        if attempt == "settled":
            halve(identities[0])
    os.environ["SYSTOLE_CACHE"] = ""
    run("compile", "g.onnx", "-o", "g.npu", "--precision", "fp32")
    run("run", "g.npu", "--random", "3", "--out", "op")
    if open("op/logits.npy", "rb").read() not in outputs:
        failures.append("a program file with host nodes gives other bits than its model")
    data = open("g.npu", "rb").read()
    for n in (7, 20, 400, len(data) - 5):
        open("cut.npu", "wb").write(data[:n])
        expect(run("run", "cut.npu", "--random", "3", ok=False), "systole:")
    expect(run("disasm", "g.npu", ok=False), "parts of it run on the host")
    expect(run("generate", "g.onnx", "--prompt", "text", ok=False), "--tokenizer")
    expect(run("compile", "r.onnx", "--stop-after", "fuse"), '"contract"', '"map"')
    expect(run("compile", "r.onnx", "--stop-after", "place"), "spm", "ring")
    expect(run("compile", "r.onnx", "--stop-after", "emit"), "# layer 0", "matrix", "reads spm")
    expect(run("compile", "r.onnx", "--stop-after", "synchronise"), "wait=", "locks=")
    open("labels.txt", "w").write("\n".join(f"label {i}" for i in range(10)))
    expect(run("run", "edge.npu", "--random", "1", "--labels", "labels.txt"), "1. label")
    # a picture
    pixels = bytes((x * y) % 256 for y in range(40) for x in range(60) for _ in range(3))
    row = (60 * 3 + 3) // 4 * 4
    body = b"".join(pixels[y * 180:(y + 1) * 180].ljust(row, b"\0") for y in range(40))
    open("p.bmp", "wb").write(b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54 + len(body), 0, 0, 54, 40, 60, 40, 1, 24, 0, len(body), 2835, 2835, 0, 0) + body)
    expect(run("run", "edge.npu", "--input", "p.bmp", "--image-mean", "0.5", "--image-std", "0.25,0.25,0.25"), "logits")
    # mistakes
    expect(run("run", "missing.onnx", ok=False), "no such file")
    expect(run("run", "edge.npu", ok=False), "not given", "--random SEED")
    expect(run("run", "edge.npu", "--npu", "nano", "--random", "1", ok=False), "compiled for machine 'edge'")
    expect(run("run", "edge.npu", "--input", "y=p.bmp", ok=False), "no input 'y'")
    expect(run("run", "r.onnx", "--npu", "moon", "--random", "1", ok=False), "no such preset", "edge")
    expect(run("run", "r.onnx", "--precision", "fp7", "--random", "1", ok=False), "auto, bf16, fp32")
    expect(run("run", "r.onnx", "--precision", "int8", "--random", "1", ok=False), "a float model")
    expect(run("compile", "r.onnx", "--stop-after", "lunch", ok=False), "one of import")
    expect(run("model", "vgg", ok=False), "resnet50, resnet50-qdq, mobilenetv2")
    expect(run("run", "r.onnx", "--dim", "n=3", "--random", "1", ok=False), "names no free dimension")
    expect(run("check", "r.onnx", "--constant", "n=3", ok=False), "names no input")
    expect(run("explain", "edge.npu", ok=False), "compiled before", "the ONNX model")
    expect(run("run", ".", "--random", "1", ok=False), "a folder")
    expect(run("run", "r.onnx", "--random", "1", "--threads", "-1", ok=False), "--threads")
    # what a model is, for every command that compiles it
    expect(run("check", "r.onnx", "--batch", "4"), "every conflicting pair is ordered")
    run("compile", "r.onnx", "--batch", "4", "-o", "four.npu")
    expect(run("run", "four.npu", "--random", "1", "--json", "four.json"), "for a batch of 4")
    if json.load(open("four.json"))["batch"] != 4:
        failures.append("a program forgot its batch")
    expect(run("profile", "four.npu"), "for a batch of 4")
    expect(run("run", "four.npu", "--batch", "4", "--random", "1", ok=False), "keeps the batch that it was compiled with")
    run("disasm", "four.npu", "-o", "four.s")
    open("none.s", "w").write(open("four.s").read().replace('"batch":4', '"batch":0'))
    expect(run("asm", "none.s", "-o", "none.npu", ok=False), "a batch of 0")
    expect(run("explain", "r.onnx", "--batch", "4"), "batch 4", "change (each one compiled and simulated)")
    open("space.yaml", "w").write("base: edge\nparameters:\n  vx.lanes: [16, 32]\n")
    latency = lambda *args: float(re.search(r"([\d.]+) ms", run("sweep", "space.yaml", "r.onnx", "-o", "s.csv", *args)).group(1))
    if not latency() < latency("--batch", "4") < latency("--batch", "16"):
        failures.append("a larger batch takes no longer on the machines of a sweep")
    expect(run("sweep", "space.yaml", "r.onnx", "--dim", "n=3", "-o", "s.csv", ok=False), "names no free dimension")
    open("short.npu", "wb").write(open("edge.npu", "rb").read()[:5000])
    expect(run("run", "short.npu", "--random", "1", ok=False), "compile again")
    open("half.onnx", "wb").write(open("r.onnx", "rb").read()[:3000])
    expect(run("run", "half.onnx", "--random", "1", ok=False), "truncated")

print("\n".join(failures) or "all commands behave")
sys.exit(bool(failures))
