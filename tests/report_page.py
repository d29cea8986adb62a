"""The HTML report in headless Chromium, and the trace against its format. Usage: report_page.py PATH_TO_SYSTOLE OUT_FOLDER"""
import html, json, os, re, shutil, subprocess, sys

systole, out = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
os.makedirs(out, exist_ok=True)
os.chdir(out)
failures = []

def check(ok, what):
    if not ok:
        failures.append(what)

def run(*args):
    return subprocess.run([systole, *args], check=True, capture_output=True, text=True, timeout=300).stdout

for model, options in (("resnet50-qdq", []), ("gpt2-tiny", ["--npu", "nano"])):
    run("model", model, "-o", f"{model}.onnx")
    run("profile", f"{model}.onnx", *options, "--report", f"{model}.html", "--trace", f"{model}.json", "--csv", f"{model}.csv", "--json", f"{model}-report.json")
report = json.load(open("resnet50-qdq-report.json"))

# the trace: required members by phase, non-overlapping slices per track, flows in pairs, counters
trace = json.load(open("resnet50-qdq.json"))
flows, tracks = {}, {}
for e in trace["traceEvents"]:
    need = {"X": ("ts", "dur", "name", "tid", "pid"), "s": ("id", "ts", "tid"), "f": ("id", "ts", "tid", "bp"), "C": ("ts", "name", "args"), "M": ("name", "args")}.get(e["ph"])
    check(need and all(k in e for k in need), f"trace event {e}")
    if e["ph"] == "X":
        check(e["dur"] >= 0 and e["ts"] >= 0, f"negative time {e}")
        tracks.setdefault(e["tid"], []).append((e["ts"], e["ts"] + e["dur"]))
    elif e["ph"] in "sf":
        flows.setdefault(e["id"], []).append(e["ph"])
check(all(sorted(v) == ["f", "s"] for v in flows.values()) and flows, "flows are not pairs")
check(len(tracks) == 4, f"{len(tracks)} tracks")
for tid in (3, 4):  # MX and VX run one instruction at a time
    spans = sorted(tracks[tid])
    check(all(a[1] <= b[0] + 1e-6 for a, b in zip(spans, spans[1:])), f"slices of track {tid} overlap")
names = {e["name"] for e in trace["traceEvents"] if e["ph"] == "C"}
check(names == {"power", "DRAM"}, f"counters {names}")
last = max(t[1] for spans in tracks.values() for t in spans)
check(abs(last - report["latency_s"] * 1e6) < 1e-3, f"the trace ends at {last} us, the run at {report['latency_s'] * 1e6}")

# the table of layers
lines = open("resnet50-qdq.csv").read().splitlines()
check(len(lines) == 1 + len(report["layers"]) and len({len(re.findall(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', l)) for l in lines}) == 1, "CSV lines and columns")

# the page
PROBE = """<script>
window.failed = [];
window.addEventListener('error', function (e) { window.failed.push(String(e.message)); });
['error', 'warn'].forEach(function (k) { var f = console[k]; console[k] = function () { window.failed.push(Array.prototype.join.call(arguments, ' ')); f.apply(console, arguments); }; });
window.addEventListener('load', function () {
  var found = {};
  try {
    found.roofline_points = document.querySelectorAll('#roofline circle').length;
    found.cycle_bars = document.querySelectorAll('#cycles rect').length;
    found.energy_bars = document.querySelectorAll('#energy rect').length;
    found.comparison_bars = document.querySelectorAll('#comparison rect').length;
    found.host_rows = document.querySelectorAll('#host tbody tr').length;
    ['timeline', 'memory'].forEach(function (id) {
      var c = document.querySelector('#' + id + ' canvas'), d = c.getContext('2d').getImageData(60, 0, c.width - 60, c.height).data, colours = {};
      for (var i = 0; i < d.length; i += 4) if (d[i + 3]) colours[d[i] << 16 | d[i + 1] << 8 | d[i + 2]] = 1;
      found[id + '_colours'] = Object.keys(colours).length;
    });
    var canvas = document.querySelector('#timeline canvas'), box = canvas.getBoundingClientRect(), before = window.systoleTimeline.domain();
    canvas.dispatchEvent(new WheelEvent('wheel', {deltaY: -400, clientX: box.left + 400, clientY: box.top + 40, bubbles: true, cancelable: true}));
    var zoomed = window.systoleTimeline.domain();
    found.zoomed = zoomed[1] - zoomed[0] < before[1] - before[0];
    document.getElementById('reset').click();
    var again = window.systoleTimeline.domain();
    found.reset = again[1] - again[0] === before[1] - before[0];
    var head = Array.prototype.filter.call(document.querySelectorAll('#layers th'), function (h) { return h.textContent === 'MMAC'; })[0];
    head.dispatchEvent(new MouseEvent('click', {bubbles: true}));
    var column = Array.prototype.indexOf.call(head.parentNode.children, head), values = Array.prototype.map.call(document.querySelectorAll('#layers tbody tr'), function (r) { return +r.children[column].textContent; });
    found.layer_rows = values.length;
    found.sorted = values.every(function (v, i) { return i === 0 || values[i - 1] >= v; });
    found.network = performance.getEntriesByType('resource').length;
  } catch (e) { window.failed.push(String(e)); }
  found.failed = window.failed;
  var p = document.createElement('pre'); p.id = 'probe'; p.textContent = JSON.stringify(found); document.body.appendChild(p);
});
</script>"""
browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if browser:  # one that cannot show an empty page here says nothing about ours
    probe = subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={out}/browser", "--dump-dom", "data:text/html,<p>works</p>"], capture_output=True, text=True, timeout=180)
    if "works" not in probe.stdout:
        print(f"{browser} does not run here: {probe.stderr[-500:]}")
        browser = None
if not browser:
    print("no Chromium here: the page was written and its size checked, but not opened (scripts/install_packages.sh test)")
for model in ("resnet50-qdq", "gpt2-tiny"):
    page = open(f"{model}.html").read()
    check(len(page) <= 3 << 20, f"{model}.html has {len(page)} bytes")
    check(not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", re.sub(r"<script>.*?</script>", "", page, flags=re.S)), f"{model}.html refers to the network")
    if not browser:
        continue
    open(f"{model}-probe.html", "w").write(page.replace("<meta charset", PROBE + "<meta charset", 1))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={out}/browser", "--virtual-time-budget=8000", "--window-size=1300,4200"]
    dom = subprocess.run([browser, *flags, "--dump-dom", f"file://{out}/{model}-probe.html"], capture_output=True, text=True, timeout=180).stdout
    probe = re.search(r'<pre id="probe">(.*?)</pre>', dom, re.S)
    check(probe, f"{model}: the page did not load")
    if not probe:
        continue
    found = json.loads(html.unescape(probe.group(1)))
    print(model, found)
    layers = json.load(open(f"{model}-report.json"))["layers"]
    check(found["failed"] == [] and found["network"] == 0, f"{model}: {found['failed']}, {found['network']} requests")
    check(found["zoomed"] and found["reset"] and found["sorted"] and found["layer_rows"] == len(layers), f"{model}: zoom, reset or sorting: {found}")
    check(found["roofline_points"] >= 3 and found["cycle_bars"] >= 10 and found["energy_bars"] >= 10 and found["comparison_bars"] >= 4, f"{model}: plots: {found}")
    check(found["timeline_colours"] > 10 and found["memory_colours"] > 5, f"{model}: canvases: {found}")
    check((found["host_rows"] > 0) == (model == "gpt2-tiny"), f"{model}: host rows: {found}")
    subprocess.run([browser, *flags, f"--screenshot={out}/{model}.png", f"file://{out}/{model}.html"], capture_output=True, timeout=180)
    check(os.path.getsize(f"{model}.png") > 50000, f"{model}: no screenshot")

# the page of a sweep
open("space.yaml", "w").write("base: nano\nparameters: {mx.rows: [2, 4, 8], memory.scratchpad_bytes: [128Ki, 256Ki]}\n")
run("model", "resnet8", "-o", "resnet8.onnx")
run("sweep", "space.yaml", "resnet8.onnx", "-o", "sweep.csv", "--report", "sweep.html")
if browser:
    page = open("sweep.html").read()
    errors = PROBE[:PROBE.index("window.addEventListener('load'")]
    open("sweep-probe.html", "w").write(page.replace("<meta charset", errors + """window.addEventListener('load', function () {
      var head = Array.prototype.filter.call(document.querySelectorAll('#front th'), function (h) { return h.textContent === 'area_mm2'; })[0];
      head.dispatchEvent(new MouseEvent('click', {bubbles: true}));
      var column = Array.prototype.indexOf.call(head.parentNode.children, head), values = Array.prototype.map.call(document.querySelectorAll('#front tbody tr'), function (r) { return +r.children[column].textContent; });
      var p = document.createElement('pre'); p.id = 'probe';
      p.textContent = JSON.stringify({points: document.querySelectorAll('#plot circle').length, rows: values.length, sorted: values.every(function (v, i) { return i === 0 || values[i - 1] >= v; }), failed: window.failed});
      document.body.appendChild(p);
    });
    </script><meta charset""", 1))
    dom = subprocess.run([browser, *flags, "--dump-dom", f"file://{out}/sweep-probe.html"], capture_output=True, text=True, timeout=180).stdout
    probe = re.search(r'<pre id="probe">(.*?)</pre>', dom, re.S)
    found = json.loads(html.unescape(probe.group(1))) if probe else {}
    print("sweep", found)
    front = sum(l.split(",")[1] == "1" for l in open("sweep.csv").read().splitlines()[1:])
    check(found.get("points") == 6 and found.get("rows") == front and found.get("sorted") and found.get("failed") == [], f"sweep page: {found}, {front} on the front")
print("\n".join(failures) or "report, trace and table are as they should be")
sys.exit(1 if failures else 0 if browser else 77)  # 77: skipped in part
