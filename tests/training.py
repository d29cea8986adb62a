"""systole train as users meet it: killed at random moments and resumed, other threads, the trained model elsewhere, errors.
Usage: training.py PATH_TO_SYSTOLE KILLS"""
import array, gzip, json, os, random, re, signal, struct, subprocess, sys, tempfile, time, zipfile

systole, kills = os.path.abspath(sys.argv[1]), int(sys.argv[2])
failures = []

def check(ok, what):
    if not ok:
        failures.append(what)

def run(*args, ok=True):
    r = subprocess.run([systole, *args], capture_output=True, text=True, timeout=300)
    check((r.returncode == 0) == ok, f"{args}: exit {r.returncode}\n{r.stdout}{r.stderr}")
    return r.stdout + r.stderr

def idx(path, shape, data):
    with gzip.open(path, "wb") as f:
        f.write(bytes([0, 0, 8, len(shape)]) + b"".join(struct.pack(">I", d) for d in shape) + bytes(data))

def npz(path, arrays):
    """As numpy.savez_compressed: names, element codes, shapes and numbers."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, code, shape, numbers in arrays:
            header = f"{{'descr': '{code}', 'fortran_order': False, 'shape': ({','.join(map(str, shape))},), }}\n".encode()
            z.writestr(name + ".npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + array.array({"|u1": "B", "<f4": "f"}[code], numbers).tobytes())

with tempfile.TemporaryDirectory() as d:
    os.chdir(d)
    os.environ["SYSTOLE_CACHE"] = os.path.join(d, "cache")
    # pictures of 12 x 12: a bright bar whose place is the class
    rng = random.Random(1)
    pictures, labels = [], []
    for _ in range(600):
        c = rng.randrange(10)
        labels.append(c)
        pictures += [min(255, rng.randrange(60) + (190 if (y if c < 5 else x) // 2 == c % 5 + (1 if c >= 5 else 0) else 0)) for y in range(12) for x in range(12)]
    idx("x-idx3-ubyte.gz", (600, 12, 12), pictures)
    idx("y-idx1-ubyte.gz", (600,), labels)
    run("model", "lenet", "-o", "lenet.onnx", "--size", "12")
    base = ["train", "lenet.onnx", "--data", "x-idx3-ubyte.gz", "--labels", "y-idx1-ubyte.gz", "--batch", "16", "--steps", "150", "--rate", "3e-3", "--npu", "server", "--checkpoint-every", "5"]
    whole = json.loads(run(*base, "-o", "whole.onnx", "--checkpoint", "whole.ckpt", "--log", "whole.csv", "--json", "-"))
    check(whole["validation_accuracy"] >= 95, f"accuracy {whole['validation_accuracy']}")
    check(whole["host_nodes"] == 0 and whole["step_cycles"] > 0 and whole["step_j"] > 0, f"{whole}")
    lines = open("whole.csv").read().splitlines()
    check(len(lines) == 151 and lines[-1].split(",")[-1] != "", f"log of {len(lines)} lines")
    # killed at random moments until it is done
    done = killed = 0
    while killed < kills:
        p = subprocess.Popen([systole, *base, "-o", "killed.onnx", "--checkpoint", "killed.ckpt", "--log", "killed.csv"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(rng.uniform(0.02, 0.4))
        if p.poll() is None:
            p.send_signal(signal.SIGKILL)
            killed += 1
        p.wait()
        if p.returncode == 0:  # it got to the end: from the start again
            done += 1
            check(open("killed.onnx", "rb").read() == open("whole.onnx", "rb").read(), "other bits after kills")
            os.remove("killed.ckpt")
        else:
            check(p.returncode == -signal.SIGKILL, f"after a kill: {p.stderr.read().decode()}")
    run(*base, "-o", "killed.onnx", "--checkpoint", "killed.ckpt", "--log", "killed.csv")
    check(open("killed.onnx", "rb").read() == open("whole.onnx", "rb").read(), f"other bits after {killed} kills")
    check(open("killed.csv").read() == open("whole.csv").read(), "another log after kills")
    run(*base, "-o", "one.onnx", "--threads", "1")
    check(open("one.onnx", "rb").read() == open("whole.onnx", "rb").read(), "other bits with one thread")
    # the checkpoint of other data of the same size is another run's
    idx("other-idx1-ubyte.gz", (600,), labels[1:] + labels[:1])
    more = run(*[a if a != "y-idx1-ubyte.gz" else "other-idx1-ubyte.gz" for a in base], "-o", "other.onnx", "--checkpoint", "whole.ckpt", ok=False)
    check("another run" in more, f"other labels: {more}")
    # the trained model is a model: it runs, and it is as accurate as training said
    text = run("verify", "whole.onnx", "--data", "x-idx3-ubyte.gz", "--labels", "y-idx1-ubyte.gz", "--npu", "nano")
    top = re.search(r"top-1\s+([0-9.]+) %", text)
    check(top and float(top.group(1)) >= 95, f"verify: {text[-300:]}")
    # without fp32 masters, and on from a checkpoint in the middle
    narrow = [*base[:base.index("150")], "60", *base[base.index("150") + 1:], "--weights", "bf16"]
    text = run(*narrow, "-o", "narrow.onnx", "--json", "-")
    check(json.loads(text)["validation_accuracy"] >= 85, f"--weights bf16: {text}")
    run(*narrow, "-o", "narrow.onnx", "--log", "narrow.jsonl")
    log = [json.loads(l) for l in open("narrow.jsonl")]
    check(len(log) == 60 and log[-1]["validation_accuracy"] >= 85 and [l["step"] for l in log] == list(range(60)), f"JSON log: {log[-1:]}")
    p = subprocess.Popen([systole, *narrow, "-o", "again.onnx", "--checkpoint", "narrow.ckpt", "--log", "again.jsonl"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not os.path.exists("narrow.ckpt") and p.poll() is None:
        time.sleep(0.005)
    p.kill()
    p.wait()
    run(*narrow, "-o", "again.onnx", "--checkpoint", "narrow.ckpt", "--log", "again.jsonl")
    check(open("again.jsonl").read() == open("narrow.jsonl").read(), "another JSON log after a kill")
    check(open("again.onnx", "rb").read() == open("narrow.onnx", "rb").read(), "--weights bf16: other bits after a kill")
    check("another run" in run(*narrow[:-2], "-o", "again.onnx", "--checkpoint", "narrow.ckpt", ok=False), "the checkpoint of other weights was taken")
    # a rate of 0 changes nothing but the note in the file
    run("train", "whole.onnx", "--data", "x-idx3-ubyte.gz", "--labels", "y-idx1-ubyte.gz", "--batch", "16", "--steps", "3", "--optimizer", "sgd", "--momentum", "0", "--rate", "0", "-o", "same.onnx")
    # what it learnt, for classes of one's own: a new last layer, and the rest as it was
    few = ["train", "whole.onnx", "--data", "x-idx3-ubyte.gz", "--batch", "16", "--steps", "60", "--rate", "3e-3", "--npu", "server", "--new-outputs", "2", "--freeze", "conv"]
    idx("two-idx1-ubyte.gz", (600,), [c // 5 for c in labels])
    check(json.loads(run(*few, "--labels", "two-idx1-ubyte.gz", "-o", "two.onnx", "--json", "-"))["validation_accuracy"] >= 90, "--new-outputs 2: it did not learn")
    check("[1,2]" in run("run", "two.onnx", "--random", "1"), "--new-outputs 2: other outputs")
    check("y-idx1-ubyte.gz" in run(*few, "--labels", "y-idx1-ubyte.gz", "-o", "two.onnx", ok=False), "--new-outputs 2: labels up to 9 were taken")
    # numbers to learn, beside the pictures in one archive: they are not cut to whole ones
    npz("bars.npz", [("x", "|u1", (600, 12, 12), pictures), ("y", "<f4", (600,), [c / 10 + 0.05 for c in labels])])
    numbers = ["train", "lenet.onnx", "--data", "bars.npz", "--batch", "16", "--steps", "200", "--rate", "3e-3", "--npu", "server", "--new-outputs", "1", "-o", "numbers.onnx"]
    loss = json.loads(run(*numbers, "--loss", "mse", "--json", "-"))["loss"]
    check(loss < 0.01, f"numbers: loss {loss}, where a constant would have 0.08")
    check("whole numbers" in run(*numbers, ok=False), "numbers were taken for classes")
    # what a step takes: a line per layer of both programs, and pictures of forward and backward
    text = run("train", "lenet.onnx", "--random", "16", "--batch", "16", "--steps", "1", "--validation-share", "0", "--profile", "--csv", "step.csv", "--trace", "step.json", "--report", "step.html", "-o", "one.onnx")
    step, update = text.split("\nupdate\n")
    check(step.startswith("forward and backward\n") and " contract " in step and "gradient." in step, f"--profile: {step[:300]}")
    check(" map " in update and " contract " not in update, f"--profile, update: {update[:300]}")
    lines = open("step.csv").read().splitlines()
    check(len(lines) == len(step.splitlines()) - 1 and any("gradient." in l for l in lines), f"--csv: {len(lines)} lines for {len(step.splitlines())}")
    check(json.load(open("step.json"))["traceEvents"] and "</html>" in open("step.html").read(), "--trace, --report")
    # errors say what to do
    for args, expected in ((["--loss", "guess"], "cross-entropy"), (["--optimizer", "hope"], "adamw"), (["--schedule", "never"], "cosine"), (["--batch", "10000"], "samples to learn from"), (["--precision", "int8"], "bf16"), (["--weights", "int8"], "fp32 or bf16"), (["--weights", "bf16", "--precision", "fp32"], "bf16 or fp8"),
                           (["--checkpoint", "whole.ckpt"], "another run")):
        batch = [] if "--batch" in args else ["--batch", "16"]
        more = run(*base[:2], "--data", "x-idx3-ubyte.gz", "--labels", "y-idx1-ubyte.gz", *batch, "--steps", "2", *args, ok=False)
        check(expected in more, f"{args}: {more}")
    data = open("whole.ckpt", "rb").read()
    for n in (0, 10, len(data) // 2, len(data) - 1):
        open("cut.ckpt", "wb").write(data[:n])
        check("systole:" in run(*base, "--checkpoint", "cut.ckpt", ok=False), "a cut checkpoint was taken")
    run("model", "gpt2-tiny", "-o", "g.onnx")
    check("systole:" in run("train", "g.onnx", "--data", "x-idx3-ubyte.gz", "--labels", "y-idx1-ubyte.gz", ok=False), "token input")
    print(f"{killed} kills, {done} runs to the end")
print("\n".join(failures) or "training agrees")
sys.exit(bool(failures))
