// What page.html draws of its rows, and of A and B: cost, learning curves, confusion, recall, calibration
// and the images that they disagree about.
"use strict";
const BLUE = "#0072b2", ORANGE = "#d55e00", GREY = "#8a8a8a";
const CONFIG = {responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"]};
const MAX_CURVES = 20, MAX_SHOWN = 24;
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
  const bounds = found.map((row) => (accuracy === "test" ? row.interval : row.validation_interval) ?? [row[accuracy], row[accuracy]]);
  const [over, under] = [1, 0].map((i) => found.map((row, at) => 100 * Math.abs(bounds[at][i] - row[accuracy])));
  points_of.error_y = {type: "data", symmetric: false, array: over, arrayminus: under, thickness: 1, width: 2, color: GREY};
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
    .filter((row) => row.curves.length);
  const line = (row, curve, more) => ({
    x: curve[axis].map((each) => axis === "spent" && each != null ? each / 60 : each),
    y: curve[column].map((each) => each == null ? null : scale * each),
    name: plain(short(name_of(row), 60)), mode: curve[axis].length > 1 ? "lines" : "markers", ...more,
  });
  const lines = drawn.flatMap((row) => {
    const is_chosen = row === a || row === b, color = colour_of(row);
    const [first, ...seeds] = row.curves;  // of several seeds the first is their mean
    return [...(is_chosen ? seeds : []).map((each) => line(row, each, {line: {color, width: 1}, opacity: 0.4, showlegend: false, hoverinfo: "skip"})),
      line(row, first, {line: {color, width: is_chosen ? 2.5 : 1}, opacity: is_chosen ? 1 : 0.45, showlegend: is_chosen})];
  });
  find("seeds").textContent = drawn.some((row) => row.curves.length > 1)
    ? "Lines are means over the seeds of a row, as far as all of them came; thin lines are the seeds of A and B." : "";
  const words = find("curve").selectedOptions[0].textContent;
  Plotly.react("curves", lines, layout("", axis === "spent" ? "minutes" : "epoch", words + (scale > 1 ? " (%)" : "")), CONFIG);
}

function recalls(row) {
  const size = table.classes.length, counts = table.classes.map((_, i) => row.counts.slice(size * i, size * (i + 1)));
  const shares = counts.map((each) => {
    const all = each.reduce((x, y) => x + y, 0);
    return each.map((one) => all ? 100 * one / all : null);
  });
  return {counts, shares, recall: shares.map((each, i) => each[i])};
}

function draw_pair() {
  const words = (row, key) => [element("span", key, `key ${key.toLowerCase()}`),
    ` ${name_of(row)} (${row.seeds > 1 ? `${row.seeds} seeds, all in the figures: ${row.runs[0]} and ${row.seeds - 1} more` : row.runs[0]})`];
  find("pair").replaceChildren(...words(a, "A"), element("br"), ...words(b, "B"));
  const known = a.said && b.said;
  for (const id of ["confusion-a", "confusion-b", "confusion-d", "recall", "calibration"]) find(id).hidden = !known;
  if (!known) {
    find("images").replaceChildren();
    find("disagreed").textContent = "The predictions of one of them are not in this page: it was tested on other images, or there were too many.";
    return;
  }
  const [one, two] = [recalls(a), recalls(b)];
  const seeds_of = (row) => row.seeds > 1 ? ` (sum of ${row.seeds} seeds)` : "";
  const classes = table.classes.map((each) => plain(short(each, 16)));
  const from_white = (colour) => [[0, "#fff"], [1, colour]];
  heatmap("confusion-a", `A: true classes down, said across${seeds_of(a)}`, one.shares, one.counts, classes, from_white(BLUE), 0, 100);
  heatmap("confusion-b", `B: true classes down, said across${seeds_of(b)}`, two.shares, two.counts, classes, from_white(ORANGE), 0, 100);
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
    {xaxis: {tickangle: -45}, yaxis: {range: [-14, 104], tickvals: [0, 20, 40, 60, 80, 100]}, rest: {legend: {orientation: "h", x: 0.01, y: 0.01, yanchor: "bottom"}}}), CONFIG);
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
  const [x, y, number] = [0, 1, 2].map((i) => row.bins.map((each) => each[i]));
  return {x, y, text: number.map((each) => `${each.toLocaleString("en")} images`), name, mode: "lines+markers", line: {color}};
}

function draw_images() {
  const told = [[], [], []];  // A alone is right, B alone, neither
  table.truth.forEach((truth, i) => {
    if (a.said[i] !== b.said[i]) told[a.said[i] === truth ? 0 : b.said[i] === truth ? 1 : 2].push(i);
  });
  const [first, second, neither] = told.map((each) => each.length.toLocaleString("en"));
  find("disagreed").textContent = a === b ? "A and B are the same row: choose another."
    : `A alone is right in ${first} of ${table.truth.length.toLocaleString("en")} test images, B alone in ${second}; both are wrong, in different ways, in ${neither}.${a.seeds > 1 || b.seeds > 1 ? " Of the first seed of each." : ""}`;
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
