// Draws a sweep from the CSV in #data. D3 version 3.
(function () {
  "use strict";
  var rows = d3.csv.parse(JSON.parse(document.getElementById("data").textContent).csv), good = rows.filter(function (r) { return r.status === "ok"; }), width = Math.max(640, Math.min(1240, document.body.clientWidth - 20));
  var keys = d3.keys(rows[0] || {}), parameters = keys.slice(2, keys.indexOf("status"));
  good.forEach(function (r) { ["latency_s", "energy_j", "area_mm2"].forEach(function (k) { r[k] = +r[k]; }); });
  document.getElementById("subtitle").textContent = rows.length + " machines, " + (rows.length - good.length) + " of them impossible or too small; " + good.filter(function (r) { return r.pareto === "1"; }).length + " on the Pareto front";
  function si(v, unit) { var p = d3.formatPrefix(v, 3); return d3.format(".3r")(p.scale(v)) + " " + p.symbol.replace("\u00b5", "\u03bc") + unit; }
  var tooltip = document.getElementById("tooltip");
  function text(r) { return parameters.map(function (k) { return k + ": " + r[k]; }).join("\n") + "\n" + si(r.latency_s, "s") + ", " + si(r.energy_j, "J") + ", " + r.area_mm2.toFixed(2) + " mm\u00b2"; }
  function plot(parent, xKey, xUnit, yKey, yUnit, colourKey) {
    if (!good.length) return;
    var m = { l: 80, r: 20, t: 10, b: 40 }, h = 420, svg = d3.select(parent).append("svg").attr("width", width).attr("height", h);
    var x = d3.scale.log().domain(d3.extent(good, function (r) { return r[xKey]; })).range([m.l, width - m.r]), y = d3.scale.log().domain(d3.extent(good, function (r) { return r[yKey]; })).range([h - m.b, m.t]);
    var colour = d3.scale.log().domain(d3.extent(good, function (r) { return r[colourKey]; })).range(["#2b9bd9", "#d9822b"]).interpolate(d3.interpolateHcl);
    svg.append("g").attr("class", "axis").attr("transform", "translate(0," + (h - m.b) + ")").call(d3.svg.axis().scale(x).ticks(8, ".2s"));
    svg.append("g").attr("class", "axis").attr("transform", "translate(" + m.l + ",0)").call(d3.svg.axis().scale(y).orient("left").ticks(6, ".2s"));
    svg.append("text").attr("x", width - m.r).attr("y", h - 6).attr("text-anchor", "end").text(xUnit);
    svg.append("text").attr("x", m.l + 6).attr("y", m.t + 10).text(yUnit);
    svg.selectAll("circle").data(good).enter().append("circle").attr("cx", function (r) { return x(r[xKey]); }).attr("cy", function (r) { return y(r[yKey]); }).attr("r", function (r) { return r.pareto === "1" ? 5 : 3; })
      .attr("fill", function (r) { return colour(r[colourKey]); }).attr("stroke", function (r) { return r.pareto === "1" ? "#d92b4b" : "none"; }).attr("stroke-width", 1.6)
      .on("mousemove", function (r) { tooltip.textContent = text(r); tooltip.style.display = "block"; tooltip.style.left = Math.min(d3.event.clientX + 14, window.innerWidth - 430) + "px"; tooltip.style.top = d3.event.clientY + 14 + "px"; })
      .on("mouseout", function () { tooltip.style.display = "none"; });
  }
  plot("#plot", "latency_s", "latency, s", "energy_j", "energy per inference, J", "area_mm2");
  plot("#area", "area_mm2", "area, mm\u00b2", "latency_s", "latency, s", "energy_j");
  var columns = ["point"].concat(parameters, ["latency_s", "energy_j", "area_mm2"]), list = good.filter(function (r) { return r.pareto === "1"; }), t = d3.select("#front").append("table"), head = t.append("thead").append("tr"), body = t.append("tbody"), down = false;
  function fill() {
    body.selectAll("tr").remove();
    list.forEach(function (r) { var tr = body.append("tr"); columns.forEach(function (c) { tr.append("td").text(c === "latency_s" ? si(r[c], "s") : c === "energy_j" ? si(r[c], "J") : c === "area_mm2" ? r[c].toFixed(2) : r[c]); }); });
  }
  function number(v) { return isNaN(parseFloat(v)) ? v : parseFloat(v) * ({ k: 1e3, M: 1e6, G: 1e9, Ki: 1024, Mi: 1048576, Gi: 1073741824 }[String(v).replace(/^[0-9.eE+-]+/, "")] || 1); }
  columns.forEach(function (c) {
    head.append("th").text(c).on("click", function () {
      down = !down; head.selectAll("th").classed("up", false).classed("down", false); d3.select(this).classed(down ? "down" : "up", true);
      list.sort(function (a, b) { return (down ? d3.descending : d3.ascending)(number(a[c]), number(b[c])); }); fill();
    });
  });
  list.sort(function (a, b) { return a.latency_s - b.latency_s; }); fill();
})();
