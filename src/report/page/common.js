// What the pages share. D3 version 3.
var systole = (function () {
  "use strict";
  function si(v, unit) { if (!v) return "0 " + unit; var p = d3.formatPrefix(v, 3); return d3.format(".3r")(p.scale(v)) + " " + p.symbol.replace("\u00b5", "\u03bc") + unit; }
  var tooltip = document.getElementById("tooltip");
  function showTip(event, text) {
    tooltip.textContent = text; tooltip.style.display = "block";
    tooltip.style.left = Math.min(event.clientX + 14, window.innerWidth - 430) + "px"; tooltip.style.top = event.clientY + 14 + "px";
  }
  function hideTip() { tooltip.style.display = "none"; }
  /// A table whose heads sort. columns: {name, value(row), text(row)?, words?}
  function table(parent, rows, columns) {
    var t = d3.select(parent).append("table"), head = t.append("thead").append("tr"), body = t.append("tbody"), down = null, sorted = null;
    function fill(list) {
      body.selectAll("tr").remove();
      list.forEach(function (row) {
        var tr = body.append("tr");
        columns.forEach(function (c) { tr.append("td").attr("class", c.words ? "text" : null).text(c.text ? c.text(row) : c.value(row)); });
      });
    }
    columns.forEach(function (c) {
      head.append("th").attr("class", c.words ? "text" : null).text(c.name).on("click", function () {
        down = sorted === c ? !down : !c.words; sorted = c;
        head.selectAll("th").classed("up", false).classed("down", false);
        d3.select(this).classed(down ? "down" : "up", true);
        fill(rows.slice().sort(function (a, b) { return (down ? d3.descending : d3.ascending)(c.value(a), c.value(b)); }));
      });
    });
    fill(rows);
  }
  return { data: JSON.parse(document.getElementById("data").textContent), si: si, showTip: showTip, hideTip: hideTip, table: table };
})();
