"""Sweeps: killed and resumed, over MPI ranks, with any number of threads, the same file. Usage: sweep.py PATH_TO_SYSTOLE"""
import csv, os, shutil, signal, subprocess, sys, tempfile, time

systole = os.path.abspath(sys.argv[1])
failures = []

def check(ok, what):
    if not ok:
        failures.append(what)

def run(*args, prefix=(), ok=True):
    r = subprocess.run([*prefix, systole, "sweep", *args], capture_output=True, text=True, timeout=300)
    check((r.returncode == 0) == ok, f"{args}: exit {r.returncode}\n{r.stdout}{r.stderr}")
    return r.stdout + r.stderr

SPACE = """base: nano
parameters:
  mx.rows: [2, 4, 8]
  "mx.columns, memory.accumulator_bytes": [[8, 8Ki], [16, 16Ki], [32, 32Ki]]
  memory.scratchpad_bytes: {from: 128Ki, to: 512Ki, factor: 2}
  dram.bytes_per_cycle: [2, 4, 8]
  vx.lanes: [4, 8]
  control.fifo_depth: {from: 2, to: 8, step: 2}
"""

MPI = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", "2"]
mpi = shutil.which("mpirun") and os.path.exists(os.path.join(os.path.dirname(systole), "libsystole_mpi.so"))
if mpi:  # an MPI that cannot start two processes here says nothing about ours
    probe = subprocess.run([*MPI, "true"], capture_output=True, text=True, timeout=60)
    if probe.returncode:
        print(f"mpirun does not run here: {probe.stderr[-500:]}")
        mpi = False
if not mpi:
    print("no MPI here: the ranks were not tried")

with tempfile.TemporaryDirectory() as d:
    os.chdir(d)
    open("space.yaml", "w").write(SPACE)
    for m in ("resnet8-qdq", "ds-cnn"):
        subprocess.run([systole, "model", m, "-o", f"{m}.onnx"], check=True, capture_output=True)
    base = ["space.yaml", "resnet8-qdq.onnx", "ds-cnn.onnx", "--points", "400"]
    for search in ("grid", "random", "evolve"):
        run(*base, "--search", search, "-o", "whole.csv", "--threads", "1", "--report", "whole.html")
        whole = open("whole.csv").read()
        rows = list(csv.DictReader(whole.splitlines()))
        check(len(rows) == 400 and not os.path.exists("whole.csv.journal"), f"{search}: {len(rows)} rows")
        good = [[float(r[k]) for k in ("latency_s", "energy_j", "area_mm2")] for r in rows if r["status"] == "ok"]
        front = {tuple(g) for g in good if not any(all(o <= v for o, v in zip(h, g)) and h != g for h in good)}
        check({tuple(float(r[k]) for k in ("latency_s", "energy_j", "area_mm2")) for r in rows if r["pareto"] == "1"} == front, f"{search}: not the Pareto front")
        check("@DATA@" not in open("whole.html").read() and "mx.rows" in open("whole.html").read(), "the page has no data")
        run(*base, "--search", search, "-o", "threads.csv", "--threads", "2")
        check(open("threads.csv").read() == whole, f"{search}: other results with two threads")
        # killed at some moments, then finished
        kills = 0
        for attempt in range(8):
            p = subprocess.Popen([systole, "sweep", *base, "--search", search, "-o", "killed.csv"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.05 + 0.1 * attempt)
            kills += p.poll() is None
            p.send_signal(signal.SIGKILL)
            p.wait()
            if os.path.exists("killed.csv"):
                break
        if os.path.exists("killed.csv.journal"):
            open("killed.csv.journal", "a").write("399,ok,1,")  # a line cut by a kill
        text = run(*base, "--search", search, "-o", "killed.csv")
        check(open("killed.csv").read() == whole, f"{search}: other results after {kills} kills")
        if search == "grid":
            check(kills > 0, "nothing was killed")
        os.remove("killed.csv")
        if mpi:
            run(*base, "--search", search, "-o", "ranks.csv", prefix=MPI)
            check(open("ranks.csv").read() == whole, f"{search}: other results over two MPI ranks")
    # a journal of another sweep, and bad spaces
    run(*base, "-o", "other.csv")
    open("other.csv.journal", "w").write("# systole sweep 0000000000000000\n1,ok,1,1,1\n")
    check("another sweep" in run(*base, "-o", "other.csv", ok=False), "a foreign journal was taken")
    for text, expected in (("base: nano\n", "parameters"), ("base: abacus\nparameters: {mx.rows: [1]}\n", "no such preset"), ("base: nano\nparameters: {mx.rwos: [1]}\n", "mx.rwos"),
                           ("base: nano\nparameters: {mx.rows: {from: 1, to: 4, step: 0}}\n", "never ends"), ("base: nano\nparameters: {\"mx.rows, mx.depth\": [1]}\n", "2 values"), ("[", "YAML")):
        open("bad.yaml", "w").write(text)
        check(expected in run("bad.yaml", "ds-cnn.onnx", ok=False), f"bad space: {text!r}")
    # impossible machines are rows, not ends
    open("tight.yaml", "w").write("base: nano\nparameters: {mx.rows: [0, 4], memory.scratchpad_bytes: [16Ki, 256Ki]}\n")
    run("tight.yaml", "resnet8-qdq.onnx", "-o", "tight.csv")
    rows = list(csv.DictReader(open("tight.csv")))
    check(sum(r["status"] != "ok" for r in rows) >= 2 and any(r["status"] == "ok" for r in rows), "impossible machines")
print("\n".join(failures) or "sweeps agree")
sys.exit(1 if failures else 0 if mpi else 77)  # 77: skipped in part
