// Draws the report from the JSON in #data. D3 version 3.
(function () {
  "use strict";
  var si = systole.si, showTip = systole.showTip, hideTip = systole.hideTip, table = systole.table, data = systole.data, report = data.report, layers = report.layers;
  var width = Math.max(640, Math.min(1240, document.body.clientWidth - 20)), us = 1e6 / report.clock_hz;
  var partColours = d3.scale.category20().domain(report.energy.parts), engines = ["ld", "st", "mx", "vx"];
  function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
  function layerColour(i) { return "hsl(" + (i * 137.508) % 360 + ",62%,52%)"; }
  function sum(a) { return a.reduce(function (x, y) { return x + y; }, 0); }

  function tipped(selection, text) { selection.on("mousemove", function (d, i) { showTip(d3.event, text(d, i)); }).on("mouseout", hideTip); }
  function legend(parent, names, colour) {
    var l = d3.select(parent).append("div").attr("class", "legend");
    names.forEach(function (n) { var s = l.append("span"); s.append("i").style("background", colour(n)); s.append("span").text(n); });
  }

  function summary() {
    document.getElementById("title").textContent = report.model + " on " + report.machine;
    document.getElementById("subtitle").textContent = report.precision + ", " + si(report.clock_hz, "Hz") + ", " + report.energy.node_nm + " nm at " + report.energy.supply_v.toFixed(2) + " V; " + report.instructions +
      " instructions, " + layers.length + " layers" + (report.nodes_on_host ? ", " + report.nodes_on_host + " nodes on the host" : "");
    var n = report.batch, several = n > 1;
    var cards = [[several ? "latency of a batch of " + n : "latency", si(report.latency_s, "s")], ["throughput", si(report.throughput_per_s * n, "/s")], ["of its bound", (100 * report.efficiency).toFixed(1) + " %"], [several ? "energy a sample, with DRAM" : "energy, with DRAM", si(report.energy.system_j / n, "J")],
      [several ? "energy a sample, chip" : "energy, chip", si(report.energy.chip_j / n, "J")], ["power, average / peak", si(report.energy.average_w, "W") + " / " + si(report.energy.peak_w, "W")], ["TOPS/W delivered / nominal", report.energy.tops_per_w.toFixed(2) + " / " + report.energy.nominal_tops_per_w.toFixed(2)],
      ["area, without PHYs", sum(report.energy.area_mm2).toFixed(2) + " mm\u00b2"], ["weights", si(report.weights_bytes, "B")], ["DRAM traffic", si(report.dram_bytes, "B")], ["scratchpad peak", si(report.scratchpad_peak_bytes, "B")], ["multiply-adds", si(report.macs, "")]];
    var c = d3.select("#summary").selectAll("div").data(cards).enter().append("div").attr("class", "card");
    c.append("b").text(function (d) { return d[1]; }); c.append("span").text(function (d) { return d[0]; });
  }

  function roofline() {
    var m = { l: 70, r: 20, t: 10, b: 40 }, h = 360, peak = data.machine.peak_macs_per_s, bandwidth = data.machine.dram_bytes_per_s;
    var points = layers.filter(function (l) { return l.macs > 0 && l.last_cycle > l.first_cycle; }).map(function (l) {
      return { l: l, x: l.macs / Math.max(1, l.dram_bytes), y: l.macs / ((l.last_cycle - l.first_cycle) / report.clock_hz) };
    });
    if (!points.length) { d3.select("#roofline").append("p").text("No layer with multiply-adds."); return; }
    var ridge = peak / bandwidth, x0 = Math.min(ridge / 8, d3.min(points, function (p) { return p.x; })), x1 = Math.max(ridge * 64, Math.min(1e6, d3.max(points, function (p) { return p.x; })));
    var x = d3.scale.log().domain([x0, x1]).range([m.l, width - m.r]).clamp(true), y = d3.scale.log().domain([Math.min(d3.min(points, function (p) { return p.y; }), x0 * bandwidth) / 1.5, peak * 1.6]).range([h - m.b, m.t]).clamp(true);
    var svg = d3.select("#roofline").append("svg").attr("width", width).attr("height", h);
    svg.append("g").attr("class", "axis").attr("transform", "translate(0," + (h - m.b) + ")").call(d3.svg.axis().scale(x).ticks(8, ",.1r"));
    svg.append("g").attr("class", "axis").attr("transform", "translate(" + m.l + ",0)").call(d3.svg.axis().scale(y).orient("left").ticks(6, ".1s"));
    svg.append("text").attr("x", width - m.r).attr("y", h - 6).attr("text-anchor", "end").text("multiply-adds per byte of DRAM traffic");
    svg.append("text").attr("x", m.l + 6).attr("y", m.t + 10).text("multiply-adds per second");
    svg.append("path").attr("class", "roof").attr("d", "M" + [[x0, x0 * bandwidth], [ridge, peak], [x1, peak]].map(function (p) { return x(p[0]) + "," + y(p[1]); }).join("L"));
    var colour = d3.scale.category10().domain(["MX", "VX", "DMA"]);
    var dots = svg.selectAll("circle").data(points).enter().append("circle").attr("class", "point").attr("cx", function (p) { return x(p.x); }).attr("cy", function (p) { return y(p.y); })
      .attr("r", function (p) { return 3 + 9 * Math.sqrt(p.l.macs / report.macs); }).attr("fill", function (p) { return colour(p.l.bound_by); });
    tipped(dots, function (p) { return p.l.name + " (" + p.l.kind + ")\n" + si(p.l.macs, "MAC") + ", " + si(p.l.dram_bytes, "B") + " of DRAM\n" + si(p.y, "MAC/s") + ", bound by " + p.l.bound_by; });
    legend("#roofline", ["MX", "VX", "DMA"], colour);
  }

  var x = d3.scale.linear().domain([0, data.cycles]), redraws = [];
  function redraw() { redraws.forEach(function (f) { f(); }); }
  function canvas(parent, h) {
    var c = document.createElement("canvas"), ratio = window.devicePixelRatio || 1;
    c.width = width * ratio; c.height = h * ratio; c.style.width = width + "px"; c.style.height = h + "px";
    document.querySelector(parent).appendChild(c);
    var g = c.getContext("2d"); g.scale(ratio, ratio);
    return { node: c, g: g, h: h };
  }
  var margin = 60;
  function timeAxis(g, h) {
    g.fillStyle = css("--soft"); g.font = "11px system-ui"; g.textAlign = "center";
    x.ticks(10).forEach(function (t) { var p = x(t); if (p >= margin) { g.fillText(d3.round(t * us, 3) + " \u03bcs", p, h - 4); g.fillRect(p, h - 18, 1, 4); } });
  }
  function timeline() {
    var lane = 34, h = 4 * lane + 2 * 56 + 26, c = canvas("#timeline", h), g = c.g, items = data.items, n = items.length / 4;
    x.range([margin, width - 10]);
    function track(values, top, name, unit, colour) {
      if (!values.length) return;
      var peak = d3.max(values) || 1;
      g.fillStyle = colour;
      values.forEach(function (v, k) { var a = x(data.cycles * k / values.length), b = x(data.cycles * (k + 1) / values.length); if (b > margin && a < width) g.fillRect(Math.max(a, margin), top + 50 * (1 - v / peak), b - Math.max(a, margin) + .5, 50 * v / peak); });
      g.fillStyle = css("--text"); g.textAlign = "left"; g.fillText(name, 4, top + 14); g.fillStyle = css("--soft"); g.fillText(si(peak, unit), 4, top + 28);
    }
    function draw() {
      g.clearRect(0, 0, width, h); g.font = "12px system-ui";
      for (var i = 0; i < n; ++i) {
        var a = x(items[4 * i + 2]), b = x(items[4 * i + 2] + items[4 * i + 3]);
        if (b < margin || a > width) continue;
        a = Math.max(a, margin); g.fillStyle = layerColour(items[4 * i + 1]); g.fillRect(a, items[4 * i] * lane + 4, Math.max(b - a, .6), lane - 8);
      }
      g.fillStyle = css("--text"); g.textAlign = "left";
      engines.forEach(function (e, k) { g.fillText(e.toUpperCase(), 4, k * lane + 22); });
      track(data.power_w, 4 * lane, "power", "W", "#d9822b"); track(data.dram_bytes_per_s, 4 * lane + 56, "DRAM", "B/s", "#2b9bd9");
      timeAxis(g, h);
    }
    var zoom = d3.behavior.zoom().x(x).scaleExtent([1, 20000]).on("zoom", function () {
      var d = x.domain(), span = d[1] - d[0], from = Math.max(0, Math.min(data.cycles - span, d[0]));
      x.domain([from, from + span]); redraw();
    });
    d3.select(c.node).call(zoom);
    c.node.addEventListener("mousemove", function (event) {
      var box = c.node.getBoundingClientRect(), at = x.invert(event.clientX - box.left), e = Math.floor((event.clientY - box.top) / lane);
      for (var i = 0; i < n; ++i) {
        if (items[4 * i] === e && at >= items[4 * i + 2] && at < items[4 * i + 2] + items[4 * i + 3]) {
          var l = layers[items[4 * i + 1]];
          return showTip(event, l.name + " (" + l.kind + ") on " + engines[e] + "\ncycles " + items[4 * i + 2] + " to " + (items[4 * i + 2] + items[4 * i + 3]) + "\n" + si(items[4 * i + 3] / report.clock_hz, "s"));
        }
      }
      hideTip();
    });
    c.node.addEventListener("mouseout", hideTip);
    document.getElementById("reset").addEventListener("click", function () { x.domain([0, data.cycles]); zoom.x(x); redraw(); });
    redraws.push(draw);
  }
  function memory() {
    var h = 240, c = canvas("#memory", h), g = c.g, m = data.memory, n = m.length / 4, row = (h - 22) / data.memory_slices;
    function draw() {
      g.clearRect(0, 0, width, h);
      for (var i = 0; i < n; ++i) {
        var a = Math.max(margin, x(m[4 * i + 2])), b = x(m[4 * i + 3]);
        if (b < margin || a > width) continue;
        g.fillStyle = layerColour(m[4 * i + 1]); g.fillRect(a, h - 22 - (m[4 * i] + 1) * row, Math.max(b - a, .6), row + .3);
      }
      g.fillStyle = css("--text"); g.font = "12px system-ui"; g.textAlign = "left"; g.fillText(si(data.machine.scratchpad_bytes, "B"), 2, 12); g.fillText("0", 2, h - 26);
      timeAxis(g, h);
    }
    redraws.push(draw);
  }

  /// Horizontal stacked bars, a row per layer.
  function stacked(parent, rows, names, values, colour, text) {
    var top = rows.map(function (r, i) { return { r: r, i: i, total: sum(values(r)) }; }).filter(function (d) { return d.total > 0; }).sort(function (a, b) { return b.total - a.total; }).slice(0, 40).sort(function (a, b) { return a.i - b.i; });
    legend(parent, names, colour);
    var row = 16, left = 230, svg = d3.select(parent).append("svg").attr("width", width).attr("height", top.length * row + 4), scale = d3.scale.linear().domain([0, d3.max(top, function (d) { return d.total; }) || 1]).range([0, width - left - 90]);
    top.forEach(function (d, k) {
      var at = left, parts = values(d.r), name = d.r.name.length > 34 ? "\u2026" + d.r.name.slice(-33) : d.r.name;
      svg.append("text").attr("x", left - 6).attr("y", k * row + 12).attr("text-anchor", "end").text(name);
      parts.forEach(function (v, p) {
        var w = scale(v);
        if (w > .2) tipped(svg.append("rect").attr("x", at).attr("y", k * row + 2).attr("width", w).attr("height", row - 3).attr("fill", colour(names[p])), function () { return d.r.name + "\n" + names[p] + ": " + text(v); });
        at += w;
      });
      svg.append("text").attr("x", at + 5).attr("y", k * row + 12).text(text(d.total));
    });
    if (rows.length > top.length) d3.select(parent).append("p").attr("class", "hint").text("The " + top.length + " largest of " + rows.length + " layers, in order of execution.");
  }

  function comparison() {
    var rows = data.comparison.filter(function (r) { return r.energy_j > 0; });
    if (!rows.length) { document.getElementById("comparison-section").style.display = "none"; return; }
    var row = 22, left = 330, svg = d3.select("#comparison").append("svg").attr("width", width).attr("height", rows.length * row + 6), kinds = d3.scale.category10().domain(["NPU", "CPU", "GPU", "MCU"]);
    var scale = d3.scale.log().domain([d3.min(rows, function (r) { return r.energy_j; }) / 2, d3.max(rows, function (r) { return r.energy_j; })]).range([2, width - left - 90]);
    rows.forEach(function (r, k) {
      svg.append("text").attr("x", left - 6).attr("y", k * row + 14).attr("text-anchor", "end").text(r.processor + ", " + r.precision + ", batch " + r.batch + " (" + r.basis + ")");
      tipped(svg.append("rect").attr("x", left).attr("y", k * row + 3).attr("height", row - 6).attr("width", scale(r.energy_j)).attr("fill", kinds(r.kind)), function () { return r.processor + "\n" + r.basis + ": " + r.note; });
      svg.append("text").attr("x", left + scale(r.energy_j) + 5).attr("y", k * row + 14).text(si(r.energy_j, "J"));
    });
    table("#comparison-table", data.comparison, [{ name: "processor", words: true, value: function (r) { return r.processor; } }, { name: "kind", words: true, value: function (r) { return r.kind; } }, { name: "precision", words: true, value: function (r) { return r.precision; } },
      { name: "batch", value: function (r) { return r.batch; } }, { name: "latency", value: function (r) { return r.latency_s; }, text: function (r) { return r.latency_s ? si(r.latency_s, "s") : "-"; } },
      { name: "throughput", value: function (r) { return r.throughput_per_s; }, text: function (r) { return r.throughput_per_s ? si(r.throughput_per_s, "/s") : "-"; } }, { name: "energy", value: function (r) { return r.energy_j; }, text: function (r) { return si(r.energy_j, "J"); } },
      { name: "basis", words: true, value: function (r) { return r.basis + ": " + r.note; } }]);
  }

  function tables() {
    table("#layers", layers, [{ name: "layer", words: true, value: function (l) { return l.name; } }, { name: "kind", words: true, value: function (l) { return l.kind; } }, { name: "MMAC", value: function (l) { return l.macs; }, text: function (l) { return (l.macs * 1e-6).toFixed(3); } },
      { name: "from cycle", value: function (l) { return l.first_cycle; } }, { name: "to cycle", value: function (l) { return l.last_cycle; } }, { name: "MX busy", value: function (l) { return l.mx_cycles; } }, { name: "VX busy", value: function (l) { return l.vx_cycles; } },
      { name: "DMA busy", value: function (l) { return l.dma_cycles; } }, { name: "DRAM kB", value: function (l) { return l.dram_bytes; }, text: function (l) { return (l.dram_bytes * 1e-3).toFixed(1); } },
      { name: "\u03bcJ", value: function (l) { return sum(l.energy_j); }, text: function (l) { return (sum(l.energy_j) * 1e6).toFixed(3); } }, { name: "instr.", value: function (l) { return l.instructions; } }, { name: "bound by", words: true, value: function (l) { return l.bound_by; } }]);
    if (!report.host.length) { document.getElementById("host-section").style.display = "none"; return; }
    table("#host", report.host, [{ name: "node", words: true, value: function (n) { return n.name; } }, { name: "operator", words: true, value: function (n) { return n.type; } }, { name: "why", words: true, value: function (n) { return n.reason; } }, { name: "runs", value: function (n) { return n.runs; } }]);
  }

  summary(); roofline(); timeline(); memory();
  var reasons = ["busy", "dependency", "bank", "dram"], reasonColours = d3.scale.ordinal().domain(reasons).range(["#3b9b57", "#d9a72b", "#b0588f", "#2b9bd9"]);
  stacked("#cycles", layers, reasons, function (l) { return reasons.map(function (r) { return l.cycles_by_reason[r] || 0; }); }, reasonColours, function (v) { return d3.format(",")(v) + " cycles"; });
  stacked("#energy", layers, report.energy.parts, function (l) { return l.energy_j; }, partColours, function (v) { return si(v, "J"); });
  comparison(); tables(); redraw();
  if (window.matchMedia) { var dark = window.matchMedia("(prefers-color-scheme: dark)"); if (dark.addEventListener) dark.addEventListener("change", redraw); }
  window.systoleTimeline = { domain: function () { return x.domain(); } };
})();
