// What page.html does with its data. Text from runs is put in as text nodes; Plotly, which reads tags
// in its labels, gets it with < and & written out.
"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const BLUE = "#0072b2", ORANGE = "#d55e00", GREY = "#8a8a8a";
const find = (id) => document.getElementById(id);
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const percent = (value) => value == null ? "–" : (100 * value).toFixed(1);
const points = (value) => (value >= 0 ? "+" : "") + (100 * value).toFixed(2);
const bounded = (value, bounds) => percent(value) + (bounds ? ` [${bounds.map(percent).join(", ")}]` : "");
const digits = (value, unit) => value == null ? "" : Number((value / unit).toPrecision(3)).toLocaleString("en");
const duration = (s) => s < 90 ? `${s.toFixed(0)} s` : s < 5400 ? `${(s / 60).toFixed(1)} min` : `${(s / 3600).toFixed(1)} h`;
const CONFIG = {responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"]};
const MAX_CURVES = 20, MAX_SHOWN = 24, BINS = 10;

let table, rows, a, b, sorted, rising;

function unpack({bytes, base64}) {
  const raw = Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
  return bytes === 1 ? raw : Uint16Array.from({length: raw.length / 2}, (_, i) => raw[2 * i] + 256 * raw[2 * i + 1]);
}

function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = kind;
  return made;
}

function choices(id, names, act) {
  find(id).replaceChildren(...names.map(([value, text]) => Object.assign(element("option", text), {value})));
  find(id).onchange = act;
}

// The columns: heading, value to sort by, and what stands in the cell where that is not the value.
function columns() {
  const shown = table.settings.filter((name) => new Set(table.rows.map((row) => row.settings[name])).size > 1);
  return [
    ["row", (row) => row.number],
    ["what differs", (row) => row.differs.join(" "), chips],
    ["seeds", (row) => row.seeds],
    ["validation %", (row) => row.validation, (row) => bounded(row.validation, row.validation_interval)],
    ["test %", (row) => row.test, (row) => bounded(row.test, row.interval)],
    ["difference", (row) => row.difference ? row.difference[0] : null, verdict],
    ["balanced %", (row) => row.balanced, (row) => percent(row.balanced)],
    ["worst class %", (row) => row.worst[1], (row) => `${row.worst[0]} ${percent(row.worst[1])}`],
    ["ECE %", (row) => row.ece, (row) => percent(row.ece)],
    ["params M", (row) => row.params, (row) => digits(row.params, 1e6)],
    ["MACs G", (row) => row.macs, (row) => digits(row.macs, 1e9)],
    ["PFLOP", (row) => row.pflop, (row) => digits(row.pflop, 1)],
    ["time", (row) => row.seconds, (row) => duration(row.seconds)],
    ...shown.map((name) => [name, (row) => row.settings[name] ?? "none"]),
  ];
}

function chips(row) {
  const cell = element("td", "", "left wrap");
  if (row.against != null && row.against !== table.reference) cell.append(`of ${row.against + 1}: `);
  for (const each of row.differs) cell.append(element("span", each, "chip"));
  for (const each of row.also) cell.append(element("span", each, "chip more"));
  if (row.also.length) cell.title = "orange: values of the configs that differ, too";
  return cell;
}

function verdict(row) {
  if (row.number - 1 === table.reference) return element("td", "reference");
  if (!row.difference) return element("td", "");
  const [value, low, high] = row.difference.map(points);
  const kind = row.verdict === "better" || row.verdict === "worse" ? row.verdict : "";
  const cell = element("td", "");
  cell.append(element("span", kind ? `${value} ${kind} ` : "no difference shown ", kind), `[${low}, ${high}]`);
  return cell;
}

// "focal 32" keeps rows that hold both words; "test > 88" those whose number is larger.
function kept() {
  const numbers = {test: "test", validation: "validation", balanced: "balanced", seeds: "seeds",
    time: "seconds", seconds: "seconds", macs: "macs", params: "params", pflop: "pflop"};
  let text = find("filter").value.toLowerCase();
  const bounds = [];
  text = text.replace(/(\w+)\s*([<>])=?\s*([\d.]+)/g, (whole, name, sign, value) => {
    if (!numbers[name]) return whole;
    const scale = ["test", "validation", "balanced"].includes(name) ? 100 : 1;
    bounds.push((row) => sign === ">" ? scale * row[numbers[name]] >= value : scale * row[numbers[name]] <= value);
    return "";
  });
  const words = text.split(/\s+/).filter(Boolean);
  return rows.filter((row) => words.every((word) => row.text.includes(word)) && bounds.every((bound) => bound(row)));
}

function draw_table() {
  const all = columns();
  const head = element("tr");
  all.forEach(([name, value], i) => {
    const cell = element("th", name, i === 1 ? "left" : "");
    if (sorted === i) cell.setAttribute("aria-sort", rising ? "ascending" : "descending");
    cell.onclick = () => {
      const first = typeof value(rows[0]) === "string" || name === "time";
      [rising, sorted] = [sorted === i ? !rising : first || i === 0, i];
      draw_table();
    };
    head.append(cell);
  });
  find("rows").tHead.replaceChildren(head);
  const value = all[sorted][1];
  const order = (x, y) => typeof x === "string" ? x.localeCompare(y, "en", {numeric: true}) : x - y;
  const found = kept().sort((one, two) => {
    const [x, y] = [value(one), value(two)];
    if (x == null || y == null) return (x == null) - (y == null);
    return (rising ? 1 : -1) * order(x, y);
  });
  find("rows").tBodies[0].replaceChildren(...found.map((row) => line(row, all)));
  find("count").textContent = `${found.length} of ${rows.length} rows`;
}

function line(row, all) {
  const made = element("tr", "", row === a ? "a" : row === b ? "b" : "");
  for (const [, value, cell] of all) {
    const text = (cell ?? value)(row);
    made.append(text instanceof Node ? text : element("td", text));
  }
  const first = made.firstChild;
  for (const [name, isOn, act] of [
    ["A", row === a, () => choose(row, b)],
    ["B", row === b, () => choose(a, row)],
    ["copy", false, (event) => copy(row.command, event.target)],
  ]) {
    const button = element("button", name, isOn ? `on ${name.toLowerCase()}` : "");
    button.title = name === "copy" ? row.command : `compare as ${name}`;
    button.onclick = act;
    first.append(" ", button);
  }
  return made;
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {  // not allowed: shown, to be copied by hand
    window.prompt("the command", text);
  }
}

function choose(first, second) {
  [a, b] = [first, second];
  draw_table();
  draw_pareto();
  draw_curves();
  draw_pair();
}

const name_of = (row) => `${row.number}: ${row.differs.join(" ")}`;
const short = (text, length) => text.length > length ? `${text.slice(0, length - 1)}…` : text;
const colour_of = (row) => row === a ? BLUE : row === b ? ORANGE : GREY;

function layout(title, x, y, more = {}) {
  return {title: {text: title, font: {size: 13}}, margin: {l: 52, r: 12, t: 44, b: 46}, font: {size: 12},
    xaxis: {title: {text: x}, automargin: true, ...more.xaxis}, yaxis: {title: {text: y}, automargin: true, ...more.yaxis},
    legend: {orientation: "h", y: -0.2, font: {size: 11}}, hoverlabel: {align: "left", font: {size: 11}}, ...more.rest};
}

const COSTS = {seconds: ["training time (minutes)", 60], macs: ["MACs of one image (G)", 1e9],
  pflop: ["PFLOP of training", 1], params: ["parameters (M)", 1e6]};

function draw_pareto() {
  const [cost, accuracy] = [find("cost").value, find("accuracy").value];
  const [words, unit] = COSTS[cost];
  const found = rows.filter((row) => row[cost] != null);
  const lines = (row) => (row.command.match(/.{1,90}(\s|$)|\S{90}/g) ?? []).map(plain).join("<br>");
  const points_of = {
    x: found.map((row) => row[cost] / unit), y: found.map((row) => 100 * row[accuracy]),
    text: found.map((row) => `<b>${plain(short(name_of(row), 90))}</b><br>${lines(row)}`), hoverinfo: "text+x+y",
    mode: "markers", type: "scatter", name: "rows", showlegend: false,
    marker: {size: found.map((row) => row === a || row === b ? 13 : 9), color: found.map(colour_of)},
  };
  if (accuracy === "test") {
    const [over, under] = [1, 0].map((i) => found.map((row) => 100 * Math.abs(row.interval[i] - row.test)));
    points_of.error_y = {type: "data", symmetric: false, array: over, arrayminus: under, thickness: 1, width: 2, color: GREY};
  }
  let best = -Infinity;
  const front = [...found].sort((one, two) => one[cost] - two[cost] || two[accuracy] - one[accuracy])
    .filter((row) => row[accuracy] > best && ((best = row[accuracy]), true));
  const edge = {x: front.map((row) => row[cost] / unit), y: front.map((row) => 100 * row[accuracy]),
    mode: "lines", line: {shape: "hv", color: GREY, width: 1, dash: "dot"}, hoverinfo: "skip", showlegend: false};
  const span = found.map((row) => row[cost]);
  const type = Math.max(...span) > 10 * Math.min(...span) ? "log" : "linear";
  Plotly.react("pareto", [edge, points_of], layout("", words, `${accuracy} accuracy (%)`, {xaxis: {type}}), CONFIG);
  find("pareto").removeAllListeners?.("plotly_click");
  find("pareto").on("plotly_click", ({points: [at]}) => at.curveNumber === 1 && choose(found[at.pointIndex], b));
}

function draw_curves() {
  const [column, axis] = [find("curve").value, find("axis").value];
  const scale = column.includes("accuracy") ? 100 : 1;
  const drawn = [...new Set([...rows.filter((row) => row !== a && row !== b).slice(0, MAX_CURVES), b, a])]
    .filter((row) => row.history[column]);
  const lines = drawn.map((row) => ({
    x: row.history[axis].map((each) => axis === "spent" ? each / 60 : each),
    y: row.history[column].map((each) => each == null ? null : scale * each),
    name: plain(short(name_of(row), 60)), mode: row.history[axis].length > 1 ? "lines" : "markers",
    line: {color: colour_of(row), width: row === a || row === b ? 2.5 : 1},
    opacity: row === a || row === b ? 1 : 0.45, showlegend: row === a || row === b,
  }));
  const words = find("curve").selectedOptions[0].textContent;
  Plotly.react("curves", lines, layout("", axis === "spent" ? "minutes" : "epoch", words + (scale > 1 ? " (%)" : "")), CONFIG);
}

function recalls(row) {
  const size = table.classes.length, counts = Array.from({length: size}, () => new Array(size).fill(0));
  table.truth.forEach((truth, i) => counts[truth][row.said[i]]++);
  const shares = counts.map((each) => {
    const all = each.reduce((x, y) => x + y, 0);
    return each.map((one) => all ? 100 * one / all : null);
  });
  return {counts, shares, recall: shares.map((each, i) => each[i])};
}

function draw_pair() {
  const words = (row, key) => [element("span", key, `key ${key.toLowerCase()}`),
    ` ${name_of(row)} (${row.runs.length > 1 ? `the first of ${row.runs.length} seeds: ` : ""}${row.runs[0]})`];
  find("pair").replaceChildren(...words(a, "A"), element("br"), ...words(b, "B"));
  const known = a.said && b.said;
  for (const id of ["confusion-a", "confusion-b", "confusion-d", "recall", "calibration"]) find(id).hidden = !known;
  if (!known) {
    find("images").replaceChildren();
    find("disagreed").textContent = "The predictions of one of them are not in this page: it was tested on other images, or there were too many.";
    return;
  }
  const [one, two] = [recalls(a), recalls(b)];
  const classes = table.classes.map((each) => plain(short(each, 16)));
  const from_white = (colour) => [[0, "#fff"], [1, colour]];
  heatmap("confusion-a", "A: true classes down, said across", one.shares, one.counts, classes, from_white(BLUE), 0, 100);
  heatmap("confusion-b", "B: true classes down, said across", two.shares, two.counts, classes, from_white(ORANGE), 0, 100);
  const minus = one.shares.map((each, i) => each.map((value, j) => value == null ? null : value - two.shares[i][j]));
  const most = Math.max(1, ...minus.flat().map(Math.abs));
  heatmap("confusion-d", "A minus B, points of the true class", minus, minus.map((each) => each.map((value) => value?.toFixed(1))), classes,
    [[0, ORANGE], [0.5, "#fff"], [1, BLUE]], -most, most);
  const order = [...classes.keys()].sort((i, j) => table.train_counts[j] - table.train_counts[i]);
  const at = (values) => order.map((i) => values[i]);
  const label = order.map((i) => `${classes[i]} (${(table.train_counts[i] ?? 0).toLocaleString("en")})`);
  Plotly.react("recall", [[one, "A", BLUE], [two, "B", ORANGE]].map(([of, name, color]) =>
    ({x: label, y: at(of.recall), name, mode: "lines+markers", line: {color}})),
  layout("recall by class, the most frequent in training first", "", "recall (%)",
    {xaxis: {tickangle: -45}, rest: {legend: {orientation: "h", x: 0.01, y: 0.01, yanchor: "bottom"}}}), CONFIG);
  const perfect = {x: [0, 100], y: [0, 100], mode: "lines", line: {color: GREY, dash: "dot", width: 1}, showlegend: false, hoverinfo: "skip"};
  Plotly.react("calibration", [perfect, bins(a, "A", BLUE), bins(b, "B", ORANGE)],
    layout("calibration: how often it is right when so sure", "surety (%)", "right (%)"), CONFIG);
  draw_images();
}

function heatmap(id, title, values, text, classes, colorscale, zmin, zmax) {
  const few = classes.length <= 12;
  Plotly.react(id, [{type: "heatmap", z: values, x: classes, y: classes, text, colorscale, zmin, zmax,
    texttemplate: few ? "%{text}" : "", textfont: {size: classes.length <= 6 ? 12 : 10}, showscale: false,
    hovertemplate: "true %{y}, said %{x}: %{text} (%{z:.1f})<extra></extra>"}],
  layout(title, "", "", {xaxis: {tickangle: -45}, yaxis: {autorange: "reversed"}}), CONFIG);
}

function bins(row, name, color) {
  const sums = Array.from({length: BINS}, () => ({all: 0, right: 0, sure: 0}));
  table.truth.forEach((truth, i) => {
    const bin = sums[Math.min(BINS - 1, Math.floor(row.sure[i] / 255 * BINS))];
    bin.all++;
    bin.right += row.said[i] === truth;
    bin.sure += row.sure[i] / 255;
  });
  const found = sums.filter((bin) => bin.all);
  return {x: found.map((bin) => 100 * bin.sure / bin.all), y: found.map((bin) => 100 * bin.right / bin.all),
    text: found.map((bin) => `${bin.all.toLocaleString("en")} images`), name, mode: "lines+markers", line: {color}};
}

function draw_images() {
  const told = [[], [], []];  // A alone is right, B alone, neither
  table.truth.forEach((truth, i) => {
    if (a.said[i] !== b.said[i]) told[a.said[i] === truth ? 0 : b.said[i] === truth ? 1 : 2].push(i);
  });
  const [first, second, neither] = told.map((each) => each.length.toLocaleString("en"));
  find("disagreed").textContent = a === b ? "A and B are the same row: choose another."
    : `A alone is right in ${first} of ${table.truth.length.toLocaleString("en")} test images, B alone in ${second}; both are wrong, in different ways, in ${neither}. Of the first seed of each.`;
  const shown = told.flatMap((each) => each.filter((i) => table.images[i]).slice(0, MAX_SHOWN));
  find("images").replaceChildren(...shown.map((i) => {
    const made = element("figure");
    const image = Object.assign(element("img"), {src: `data:image/jpeg;base64,${table.images[i]}`, alt: `test image ${i}`});
    const said = (key, row) => element("div", `${key}: ${table.classes[row.said[i]]} ${Math.round(row.sure[i] / 2.55)} %`,
      row.said[i] === table.truth[i] ? "right" : "wrong");
    made.append(image, element("div", `${table.classes[table.truth[i]]} (${i})`), said("A", a), said("B", b));
    return made;
  }));
}

function show(number) {
  table = DATA.tables[number];
  table.truth ??= unpack(table.labels);
  rows = table.rows;
  rows.forEach((row, i) => {
    row.number = i + 1;
    row.text = [row.name, ...row.differs, ...Object.entries(row.settings).map(([k, v]) => `${k}=${v}`), ...row.runs].join(" ").toLowerCase();
    if (row.predicted) [row.said, row.sure] = [unpack(row.predicted), unpack(row.surety)];
  });
  [sorted, rising] = [0, true];
  find("source").textContent = `${table.data}: ${table.source}`;
  find("caption").textContent = table.caption;
  const [best] = [...rows].sort((one, two) => two.validation - one.validation);
  const other = rows[table.reference] === best ? rows.find((row) => row !== best) ?? best : rows[table.reference];
  choose(best, other);
}

find("filter").oninput = draw_table;
choices("cost", Object.entries(COSTS).map(([key, [words]]) => [key, words]), draw_pareto);
choices("accuracy", [["validation", "validation"], ["test", "test"]], draw_pareto);
choices("curve", [["val_balanced_accuracy", "validation balanced accuracy"], ["val_accuracy", "validation accuracy"],
  ["val_loss", "validation loss"], ["train_loss", "training loss"]], draw_curves);
choices("axis", [["epoch", "epochs"], ["spent", "minutes"]], draw_curves);
choices("tables", DATA.tables.map((each, i) => [i, `${each.data}: ${short(each.source, 60)}`]), (event) => show(Number(event.target.value)));
find("left-out").replaceChildren(...DATA.left_out.map((each) => element("li", each)));
find("left-out-title").hidden = !DATA.left_out.length;
if (DATA.tables.length) show(0);
else find("caption").textContent = "No finished run.";
