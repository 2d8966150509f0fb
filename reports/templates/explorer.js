// The explorer of a report: choices become rows, rows fill a chart; what is drawn is said, tabled, and told to a pointer.
const at = (id) => document.getElementById(`explore-${id}`);
const MOST_FACETS = 12, MOST_COLOURS = 8, MOST_SVG = 4000, MOST_TABLE = 400;
let view = null, turn = 0, shown = { rows: [], means: [] };

// --- what can be chosen ---

function option(value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  return made;
}

function group(select, label, options) {
  if (!options.length) return;
  const made = document.createElement("optgroup");
  made.label = label;
  made.append(...options);
  select.append(made);
}

function fill() {
  if (curves.metrics.length) group(at("x"), "over training", [option(STEP, "step (updates)")]);
  group(at("x"), "by", sorts.map((key, i) => option(`key ${i}`, key.name)));
  group(at("x"), "another value", metrics.map((one, i) => option(`metric ${i}`, title(one))));
  const coloured = sorts.filter((key) => key !== seedKey && (numeric(key) || key === armKey || key.values.length <= MOST_COLOURS));
  at("colour").append(...coloured.map((key) => option(sorts.indexOf(key), key.name)));
  at("facet").append(option("", "none"));
  const faceted = sorts.filter((key) => key.values.length > 1 && key.values.length <= MOST_FACETS);
  at("facet").append(...faceted.map((key) => option(sorts.indexOf(key), key.name)));
  const reach = (key) => new Set(trials.arm.filter((_, i) => key.of[i] >= 0)).size; // arms that have a value
  const widest = keys.reduce((most, key) => (most && reach(most) >= reach(key) ? most : key), null);
  at("x").value = `key ${widest ? sorts.indexOf(widest) : 0}`;
  arms.forEach((arm, i) => {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.value = i;
    const swatch = document.createElement("span");
    swatch.className = `swatch a${colours[i]}`;
    label.append(box, swatch, arm);
    at("arms").append(label);
  });
  values();
}

// The values to choose from follow the axis: with steps those that have a history. A choice keeps its metric.
function values() {
  const select = at("y"), offered = at("x").value === STEP ? curves.metrics : metrics;
  const bare = (name) => name.replace(/^final_/, "");
  const before = select.selectedOptions.length ? bare(select.selectedOptions[0].dataset.name) : null;
  select.replaceChildren(...offered.map((one, i) => {
    const made = option(i, title(one));
    made.dataset.name = one.name;
    return made;
  }));
  const same = offered.findIndex((one) => bare(one.name) === before);
  select.value = same >= 0 ? same : 0;
  at("log").checked = Boolean(offered[select.value] && offered[select.value].log);
}

function choice() {
  const x = at("x").value, [kind, place] = x.split(" ");
  return {
    step: x === STEP,
    xKey: kind === "key" ? sorts[place] : null,
    xMetric: kind === "metric" ? metrics[place] : null,
    y: (x === STEP ? curves.metrics : metrics)[at("y").value],
    colour: sorts[at("colour").value],
    facet: at("facet").value === "" ? null : sorts[at("facet").value],
    show: at("show").value,
    log: at("log").checked,
    arms: new Set([...at("arms").querySelectorAll("input:checked")].map((box) => Number(box.value))),
  };
}

// --- drawing ---

async function draw() {
  const mine = ++turn, asked = choice();
  let rows = asked.y ? (asked.step ? rowsOfSteps(asked) : rowsOfTrials(asked)) : [];
  const byValue = (a, b) => (typeof a.x === "number" && typeof b.x === "number" ? a.x - b.x : 0);
  const order = (key) => (row) => key.of[row.i];
  if (asked.facet) rows.sort((a, b) => order(asked.facet)(a) - order(asked.facet)(b));
  if (asked.xKey && !numeric(asked.xKey)) rows.sort((a, b) => order(asked.xKey)(a) - order(asked.xKey)(b));
  const over = means(rows, asked).sort(byValue);
  const drawn = asked.show === "means" ? over : asked.show === "trials" ? rows : [...rows, ...over];
  shown = { asked, rows, means: over };
  hide();
  say(asked, rows, over);
  legend(asked, rows);
  if (at("table").open) table();
  const box = at("chart");
  box.removeAttribute("data-drawn");
  if (!rows.length) {
    if (view) view.finalize();
    view = null;
    box.replaceChildren();
    box.dataset.drawn = "0";
    return;
  }
  const options = { ast: true, actions: false, defaultStyle: false, renderer: drawn.length > MOST_SVG ? "canvas" : "svg", tooltip };
  const made = await vegaEmbed(box, chart(asked, rows, drawn), options);
  if (mine !== turn) return made.finalize();
  if (view) view.finalize();
  view = made;
  box.dataset.drawn = String(drawn.length);
}

function legend(asked, rows) {
  const names = asked.colour === armKey ? [] : coloursOf(asked, rows);
  const range = shades(asked.colour, names);
  at("legend").replaceChildren(...names.map((name, i) => {
    const made = document.createElement("span"), swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = range[i];
    made.append(swatch, `${asked.colour.name} ${name}`);
    return made;
  }));
}

// --- words ---

function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  let text = value.toPrecision(4);
  if (Number.isInteger(value) && size < 1e6) text = String(value);
  else if (size >= 1e6 || size < 1e-4) text = value.toExponential(2).replace("e+", "e");
  return text.replaceAll("-", "−");
}

const interval = (row) => (row.known ? `${number(row.y)} [${number(row.low)}, ${number(row.high)}]` : number(row.y));

function who(row, asked) {
  const parts = [row.c];
  if (!asked.step && !asked.xMetric && asked.xKey !== asked.colour) parts.push(`${asked.xKey.name} = ${row.x}`);
  if (asked.facet && asked.facet !== asked.colour) parts.push(row.f);
  return asked.colour === armKey ? parts.join(", ") : `${asked.colour.name} ${parts.join(", ")}`;
}

function say(asked, rows, over) {
  const last = asked.step ? over.reduce((most, row) => Math.max(most, row.x), -Infinity) : null;
  const ends = (asked.step ? over.filter((row) => row.x === last) : over).slice();
  const lines = new Set(rows.map((row) => (asked.step ? row.l : row.i))).size;
  const what = asked.step && !curves.single ? "settings, each the mean over its seeds" : lines === 1 ? "trial" : "trials";
  let text = `${asked.y ? title(asked.y) : "Nothing"}: ${lines} ${what}`;
  const picked = trials.id.map((_, i) => i).filter((i) => asked.arms.has(trials.arm[i]) && compared(i));
  const without = picked.filter((i) => !ended(i)).length;
  if (without) text += `; ${without} of ${picked.length} did not end ok`;
  const idle = !asked.xKey ? [] : arms.filter((_, a) => {
    const own = picked.filter((i) => trials.arm[i] === a);
    return own.length && own.every((i) => asked.xKey.of[i] < 0);
  });
  if (idle.length) text += `; ${idle.join(", ")} without ${asked.xKey.name}`;
  if (ends.length) {
    const sign = asked.y.better === "higher" ? -1 : 1;
    ends.sort((a, b) => sign * (a.y - b.y));
    const [best, worst] = [ends[0], ends[ends.length - 1]];
    const at = asked.step ? ` at step ${last}` : "";
    text += `. Best mean${at}: ${who(best, asked)}, ${interval(best)}`;
    if (worst !== best) text += `; last: ${who(worst, asked)}, ${interval(worst)}`;
  }
  at("said").textContent = `${text}.`;
  at("chart").setAttribute("aria-label", `Chart. ${text}.`);
}

function facts(row) {
  const asked = shown.asked, i = row.i, whole = row.k === "m";
  const found = whole ? [["", `Mean of ${row.trials} trials, n = ${row.n}`], ["", who(row, asked)]]
    : asked.step && !curves.single ? [["", `Mean over ${curves.lines[row.l].length} trials`], ["arm", arms[trials.arm[i]]]]
      : [["trial", trials.id[i]], ["arm", arms[trials.arm[i]]], ["seed", String(trials.seed[i])]];
  if (!whole) {
    if (several.length) found.push(["study", named(fact.study, i)]);
    for (const key of keys) if (key.of[i] >= 0) found.push([key.name, named(key, i)]);
    found.push(["status", named(fact.status, i)]);
  }
  if (asked.step) found.push(["step", number(row.x)]);
  if (asked.xMetric) found.push([asked.xMetric.label, number(row.x)]);
  found.push([title(asked.y), whole ? interval(row) : number(row.y)]);
  return found;
}

function tooltip(_handler, event, item, value) {
  if (!item || !value || !item.datum) return hide();
  const list = document.createElement("dl");
  for (const [name, text] of facts(item.datum)) {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = text;
    list.append(dt, dd);
  }
  const tip = at("tip");
  tip.replaceChildren(list);
  tip.hidden = false;
  const room = document.documentElement.clientWidth;
  tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, room - tip.offsetWidth - 8))}px`;
  tip.style.top = `${Math.max(8, event.clientY - tip.offsetHeight - 14)}px`;
}

function hide() {
  at("tip").hidden = true;
}

function table() {
  const { asked, means: over } = shown, made = document.createElement("table"), head = made.createTHead().insertRow();
  const x = asked.step ? "step" : asked.xMetric ? title(asked.xMetric) : asked.xKey.name;
  const columns = [x, asked.colour.name, ...(asked.facet ? [asked.facet.name] : []), "mean", "low", "high", "n"];
  const cut = over.length > MOST_TABLE ? `; the first ${MOST_TABLE} of ${over.length} rows` : "";
  made.createCaption().textContent = `${title(asked.y)}: means over seeds with 95 % t interval${cut}`;
  columns.forEach((name) => {
    const th = document.createElement("th");
    th.scope = "col";
    th.textContent = name;
    head.append(th);
  });
  const body = made.createTBody();
  for (const row of over.slice(0, MOST_TABLE)) {
    const cells = [typeof row.x === "number" ? number(row.x) : row.x, row.c, ...(asked.facet ? [row.f] : []), number(row.y)];
    cells.push(row.known ? number(row.low) : "–", row.known ? number(row.high) : "–", String(row.n));
    const line = body.insertRow();
    cells.forEach((text) => { line.insertCell().textContent = text; });
  }
  at("rows").replaceChildren(made);
}

// --- listening ---

fill();
at("app").hidden = false;
for (const id of ["colour", "facet", "show", "log", "arms"]) at(id).addEventListener("change", draw);
at("x").addEventListener("change", () => { values(); draw(); });
at("y").addEventListener("change", () => {
  const offered = at("x").value === STEP ? curves.metrics : metrics;
  at("log").checked = offered[at("y").value].log;
  draw();
});
at("table").addEventListener("toggle", () => { if (at("table").open) table(); });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
// On paper as wide as a page: a wide chart made smaller would have texts too small to read.
const printed = (room) => { if (view && !shown.asked.facet) view.view.width(room).run(); };
addEventListener("beforeprint", () => printed(Math.min(roomOf(), 680)));
addEventListener("afterprint", () => printed(roomOf()));
let waiting = 0, width = innerWidth;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; draw(); } }, 150);
});
draw();
