// Draws a sweep from the CSV in #data. D3 version 3.
(function () {
  "use strict";
  var si = systole.si, rows = d3.csv.parse(systole.data.csv), good = rows.filter(function (r) { return r.status === "ok"; }), width = Math.max(640, Math.min(1240, document.body.clientWidth - 20));
  var keys = d3.keys(rows[0] || {}), parameters = keys.slice(2, keys.indexOf("status"));
  good.forEach(function (r) { ["latency_s", "energy_j", "area_mm2"].forEach(function (k) { r[k] = +r[k]; }); });
  document.getElementById("subtitle").textContent = rows.length + " machines, " + (rows.length - good.length) + " of them impossible or too small; " + good.filter(function (r) { return r.pareto === "1"; }).length + " on the Pareto front";
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
      .on("mousemove", function (r) { systole.showTip(d3.event, text(r)); }).on("mouseout", systole.hideTip);
  }
  plot("#plot", "latency_s", "latency, s", "energy_j", "energy per inference, J", "area_mm2");
  plot("#area", "area_mm2", "area, mm\u00b2", "latency_s", "latency, s", "energy_j");
  function number(v) { return isNaN(parseFloat(v)) ? v : parseFloat(v) * ({ k: 1e3, M: 1e6, G: 1e9, Ki: 1024, Mi: 1048576, Gi: 1073741824 }[String(v).replace(/^[0-9.eE+-]+/, "")] || 1); }
  var units = { latency_s: "s", energy_j: "J" }, columns = ["point"].concat(parameters, ["latency_s", "energy_j", "area_mm2"]);
  systole.table("#front", good.filter(function (r) { return r.pareto === "1"; }).sort(function (a, b) { return a.latency_s - b.latency_s; }), columns.map(function (c) {
    return { name: c, value: function (r) { return number(r[c]); }, text: function (r) { return units[c] ? si(r[c], units[c]) : c === "area_mm2" ? r[c].toFixed(2) : r[c]; } };
  }));
})();
