#!/usr/bin/env python3
"""Times around a run: compile cold and from the cache, the first execution, the timing model, and the peak resident size of the whole
command. For docs/performance.md. Usage: measure_around.py SYSTOLE MODEL.onnx..."""
import os
import re
import resource
import subprocess
import sys
import tempfile
import time


def run(systole, model, cache):
    """The report of one command, its peak size in MB, and its wall time."""
    environment = dict(os.environ, SYSTOLE_CACHE=cache)
    read, write = os.pipe()
    begin = time.time()
    child = os.fork()
    if child == 0:  # a process of its own, whose peak is the command's
        done = subprocess.run([systole, "run", model, "--random", "1"], env=environment, capture_output=True, text=True)
        os.write(write, (str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) + "\n" + done.stdout + done.stderr).encode()[-60000:])
        os._exit(done.returncode)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    if os.waitpid(child, 0)[1]:
        raise RuntimeError(next((l for l in text.splitlines() if l.startswith("systole:")), text).replace(model, os.path.basename(model)))
    size, report = text.split("\n", 1)
    return report, int(size) / 1024, time.time() - begin


def main():
    systole, models = sys.argv[1], sys.argv[2:]
    print("| model | compile, cold | from the cache | first run | timing model | peak memory cold / cached | whole command, cached |")
    print("|---|---|---|---|---|---|---|")
    for model in models:
        try:
            with tempfile.TemporaryDirectory() as cache:
                cold, cold_mb, _ = run(systole, model, cache)
                best = min((run(systole, model, cache) for _ in range(3)), key=lambda r: r[2])
        except RuntimeError as error:  # a model whose dimensions its recorded inputs give
            print(f"| {os.path.basename(model)} | not measured: {error} | | | | | |", flush=True)
            continue
        times = [re.search(r"compiled in ([0-9.]+) s, executed in ([0-9.]+) s, timed in ([0-9.]+) s", r).groups() for r in (cold, best[0])]
        print(f"| {os.path.basename(model)} | {times[0][0]} s | {times[1][0]} s | {times[0][1]} s | {times[0][2]} s | {cold_mb:.0f} / {best[1]:.0f} MB | {best[2]:.3f} s |", flush=True)


if __name__ == "__main__":
    main()
