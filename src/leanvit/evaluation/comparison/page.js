// What page.html does with its data: the table; page.plots.js draws. Text from runs is put in as text nodes; Plotly, which reads tags
// in its labels, gets it with < and & written out.
"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const percent = (value) => value == null ? "–" : (100 * value).toFixed(1);
const points = (value) => (value >= 0 ? "+" : "") + (100 * value).toFixed(2);
const bounded = (value, bounds) => percent(value) + (bounds ? ` [${bounds.map(percent).join(", ")}]` : "");
const digits = (value, unit) => value == null ? "" : Number((value / unit).toPrecision(3)).toLocaleString("en");
const duration = (s) => s < 90 ? `${s.toFixed(0)} s` : s < 5400 ? `${(s / 60).toFixed(1)} min` : `${(s / 3600).toFixed(1)} h`;
const FEW_CHIPS = 3;

let table, rows, a, b, sorted, rising;

function unpack({bytes, base64}) {
  const raw = Array.from(atob(base64), (each) => each.charCodeAt(0));
  return bytes === 1 ? raw : Array.from({length: raw.length / bytes},
    (_, i) => raw.slice(bytes * i, bytes * (i + 1)).reduceRight((sum, each) => 256 * sum + each));
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
  const more = row.also.map((each) => element("span", each, "chip more"));
  if (more.length > FEW_CHIPS) {
    const folded = element("details");
    folded.append(element("summary", `also in ${more.length} values`), ...more);
    cell.append(folded);
  } else cell.append(...more);
  if (more.length) cell.title = "orange: values of the configs that differ, too";
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
  tell_width();
  draw_pareto();
  draw_curves();
  draw_pair();
}

const name_of = (row) => `${row.number}: ${row.differs.join(" ")}`;
const short = (text, length) => text.length > length ? `${text.slice(0, length - 1)}…` : text;
function show(number) {
  table = DATA.tables[number];
  table.truth ??= unpack(table.labels);
  rows = table.rows;
  rows.forEach((row, i) => {
    row.number = i + 1;
    row.text = [row.name, ...row.differs, ...Object.entries(row.settings).map(([k, v]) => `${k}=${v}`), ...row.runs].join(" ").toLowerCase();
    if (row.predicted) [row.said, row.sure, row.counts] = [row.predicted, row.surety, row.confusion].map(unpack);
  });
  [sorted, rising] = [0, true];
  find("source").textContent = `${table.data}: ${table.source}`;
  find("tied").textContent = table.tied;
  find("caption").textContent = table.caption;
  const [best] = [...rows].sort((one, two) => two.validation - one.validation);
  const other = rows[table.reference] === best ? rows.find((row) => row !== best) ?? best : rows[table.reference];
  choose(best, other);
}

const largest = () => DATA.tables.reduce((found, each, i) => each.rows.length > DATA.tables[found].rows.length ? i : found, 0);
const tell_width = () => { find("wider").hidden = find("rows").offsetWidth <= find("rows").parentElement.clientWidth; };

addEventListener("resize", tell_width);
find("filter").oninput = draw_table;
choices("cost", Object.entries(COSTS).map(([key, [words]]) => [key, words]), draw_pareto);
choices("accuracy", [["validation", "validation"], ["test", "test"]], draw_pareto);
choices("curve", [["val_balanced_accuracy", "validation balanced accuracy"], ["val_accuracy", "validation accuracy"],
  ["val_loss", "validation loss"], ["train_loss", "training loss"]], draw_curves);
choices("axis", [["epoch", "epochs"], ["spent", "minutes"]], draw_curves);
choices("tables", DATA.tables.map((each, i) => [i, `${each.data}: ${short(each.source, 60)}`]), (event) => show(Number(event.target.value)));
find("left-out").replaceChildren(...DATA.left_out.map((each) => element("li", each)));
find("left-out-title").hidden = !DATA.left_out.length;
if (DATA.tables.length) show(find("tables").selectedIndex = largest());
else find("caption").textContent = "No finished run.";
