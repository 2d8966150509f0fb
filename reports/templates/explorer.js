// The explorer of a report: choices become rows, rows fill a chart that Altair has made.
//
// GIVEN has `data` (the section `explorer` of report.json), `charts` (reports/explorer.py) and `colours`. Texts of a
// study are values of rows, titles and text nodes; they are never markup, names of fields or parts of expressions.
(() => {
  "use strict";
  const { data, charts, colours } = GIVEN;
  const { arms, trials, keys, metrics, curves, quantiles } = data;
  const at = (id) => document.getElementById(`explore-${id}`);
  const MOST_FACETS = 12, MOST_COLOURS = 8, MOST_SVG = 4000, MOST_TABLE = 400, STEP = "step";
  const fact = Object.fromEntries(data.facts.map((one) => [one.name, one]));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let printing = false, view = null, turn = 0, shown = { rows: [], means: [] };

  // --- what can be chosen ---------------------------------------------------------------------------------------

  const armKey = { name: "arm", values: arms, of: trials.arm };
  const seedKey = { name: "seed", values: [...new Set(trials.seed)].sort((a, b) => a - b) };
  seedKey.of = trials.seed.map((seed) => seedKey.values.indexOf(seed));
  const several = fact.study.values.length > 1 ? [fact.study] : [];
  const sorts = [armKey, ...several, ...keys, seedKey];
  const numeric = (key) => key.values.every((value) => typeof value === "number");
  const title = (metric) => metric.label + (metric.unit ? ` (${metric.unit})` : "");

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
    const axis = sorts.findIndex((key) => keys.includes(key));
    at("x").value = axis >= 0 ? `key ${axis}` : "key 0";
    arms.forEach((arm, i) => {
      const label = document.createElement("label"), box = document.createElement("input");
      box.type = "checkbox";
      box.checked = true;
      box.value = i;
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.dataset.arm = i;
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

  // --- rows -----------------------------------------------------------------------------------------------------

  const named = (key, i) => (key.of[i] < 0 ? "–" : String(key.values[key.of[i]]));
  const compared = (i) => fact.role.of[i] >= 0 && fact.role.values[fact.role.of[i]] === "compare";
  const ended = (i) => fact.status.values[fact.status.of[i]] === "ok";
  const setting = (i) => keys.map((key) => key.of[i]).join(" ");
  const average = (numbers) => numbers.reduce((sum, one) => sum + one, 0) / numbers.length;

  function rowsOfTrials(asked) {
    const rows = [];
    trials.id.forEach((_, i) => {
      if (!asked.arms.has(trials.arm[i]) || !compared(i) || asked.colour.of[i] < 0 && asked.colour !== armKey) return;
      const y = asked.y.values[i];
      let x = null;
      if (asked.xMetric) x = asked.xMetric.values[i];
      else if (asked.xKey.of[i] >= 0) x = numeric(asked.xKey) ? asked.xKey.values[asked.xKey.of[i]] : named(asked.xKey, i);
      if (x === null || y === null) return;
      rows.push({ k: "t", i, x, y, ...place(asked, i), seed: trials.seed[i], group: asked.xMetric ? `${trials.arm[i]} ${setting(i)}` : x });
    });
    return rows;
  }

  function rowsOfSteps(asked) {
    const rows = [];
    curves.lines.forEach((line, l) => {
      const i = line[0], curve = asked.y.curves[l];
      if (!curve || !asked.arms.has(trials.arm[i]) || !compared(i) || asked.colour.of[i] < 0) return;
      curves.grids[curve[0]].forEach((x, j) => {
        if (curve[1][j] !== null) rows.push({ k: "t", i, l, x, y: curve[1][j], ...place(asked, i), seed: curves.single ? trials.seed[i] : l, group: x });
      });
    });
    return rows;
  }

  function place(asked, i) {
    return { c: named(asked.colour, i), f: asked.facet ? named(asked.facet, i) : "" };
  }

  // Means of finished trials with 95 % t intervals, as the tables have them: within a seed first; geometric where the metric is a ratio.
  function means(rows, asked) {
    const groups = new Map(), lines = new Map();
    for (const row of rows.filter((one) => ended(one.i))) {
      const line = JSON.stringify([row.c, row.f]), name = JSON.stringify([row.group, row.c, row.f]);
      if (asked.step) lines.set(line, (lines.get(line) || new Set()).add(row.l));
      if (!groups.has(name)) groups.set(name, { line, own: [] });
      groups.get(name).own.push(row);
    }
    const ratio = asked.y.log && rows.every((row) => row.y > 0);
    const to = ratio ? Math.log : (v) => v, back = ratio ? Math.exp : (v) => v;
    const found = [];
    for (const { line, own } of groups.values()) {
      if (asked.step && own.length < lines.get(line).size) continue; // a mean that some leave would be that of others
      const seeds = new Map();
      for (const row of own) seeds.set(row.seed, [...(seeds.get(row.seed) || []), row.y]);
      const each = [...seeds.values()].map((ys) => to(average(ys))), n = each.length, mean = average(each);
      const spread = Math.sqrt(each.reduce((sum, one) => sum + (one - mean) ** 2, 0) / (n - 1));
      const known = n > 1 && (!asked.step || curves.single);
      const half = known ? quantiles[Math.min(n - 1, quantiles.length) - 1] * spread / Math.sqrt(n) : 0;
      const x = asked.xMetric ? average(own.map((row) => row.x)) : own[0].x;
      found.push({
        k: "m", i: own[0].i, x, y: back(mean), low: back(mean - half), high: back(mean + half), n, known, c: own[0].c,
        f: own[0].f, p: asked.xMetric ? found.length : line, trials: own.length,
      });
    }
    return found;
  }

  // --- drawing --------------------------------------------------------------------------------------------------

  const scheme = () => (dark.matches && !printing ? "dark" : "light");

  function shades(key, names) {
    if (key === armKey) return names.map((name) => colours[scheme()].arms[arms.indexOf(name)]);
    if (!numeric(key)) return names.map((_, i) => colours[scheme()].palette[i % colours[scheme()].palette.length]);
    const [from, to] = colours[scheme()].ramp.map((one) => [1, 3, 5].map((j) => parseInt(one.slice(j, j + 2), 16)));
    return names.map((_, i) => {
      const part = names.length > 1 ? i / (names.length - 1) : 1;
      return `rgb(${from.map((low, j) => Math.round(low + part * (to[j] - low))).join(",")})`;
    });
  }

  function chart(asked, rows, drawn) {
    const kind = asked.step ? "curves" : asked.xMetric || numeric(asked.xKey) ? "quantitative" : "ordinal";
    const spec = structuredClone(charts[kind]), ink = colours[scheme()];
    spec.layer = spec.layer.filter((layer) => drawn.some((row) => row.k === layer.transform[0].filter.equal));
    const all = drawn.flatMap((row) => [row.y, row.low ?? row.y, row.high ?? row.y]);
    const names = asked.colour.values.map(String).filter((name) => rows.some((row) => row.c === name));
    if (rows.some((row) => row.c === "–")) names.push("–");
    const range = shades(asked.colour, names), log = asked.log && all.every((y) => y > 0);
    const y = { zero: false, nice: true, ...(log ? { type: "log" } : {}) };
    if (asked.step && !log) { // the first fall would flatten all that matters
      const last = Math.max(...rows.map((row) => row.x)), late = drawn.filter((row) => row.x >= 0.05 * last);
      const tops = late.map((row) => row.high ?? row.y), lows = drawn.map((row) => row.low ?? row.y);
      const low = lows.reduce((a, b) => Math.min(a, b), Infinity), high = tops.reduce((a, b) => Math.max(a, b), -Infinity);
      if (high > low) Object.assign(y, { domain: [low - 0.05 * (high - low), high + 0.05 * (high - low)], nice: false });
    }
    const xs = rows.map((row) => row.x), wide = xs.length && xs.every((x) => x > 0) && Math.max(...xs) >= 30 * Math.min(...xs);
    const format = (values) => (values.some((v) => Math.abs(v) >= 1e6) ? ".2~e" : undefined);
    for (const layer of spec.layer) {
      const one = layer.encoding;
      if (asked.step) layer.mark.clip = true;
      one.color.scale = { domain: names, range };
      one.x.title = asked.step ? "step (updates)" : asked.xMetric ? title(asked.xMetric) : asked.xKey.name;
      if (kind !== "ordinal") {
        one.x.scale = { zero: false, nice: !asked.step, ...(wide && !asked.step ? { type: "log" } : {}) };
        one.x.axis = { format: format(xs), labelOverlap: true, tickCount: 6 };
        if (!asked.step && !asked.xMetric && asked.xKey.values.length <= 12) one.x.axis.values = asked.xKey.values;
      } else {
        if (asked.xKey === asked.colour) { // the mean beside its trials; of several colours each has its own place
          delete one.xOffset;
          if (["rule", "point"].includes(layer.mark.type)) layer.mark.xOffset = 14;
        }
        one.x.axis = { labelAngle: 0, labelLimit: 160, labelOverlap: false };
      }
      one.y.title = title(asked.y);
      one.y.scale = y;
      one.y.axis = { format: format(all), tickCount: 6 };
    }
    const room = Math.max(240, at("chart").clientWidth - 12);
    const base = {
      datasets: { rows: drawn },
      data: { name: "rows" },
      background: "transparent",
      padding: 4,
      config: {
        font: "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif",
        view: { stroke: null },
        axis: {
          labelColor: ink.text, titleColor: ink.text, gridColor: ink.faint, domainColor: ink.faint, tickColor: ink.faint,
          labelFontSize: 12, titleFontSize: 12.5, titleFontWeight: 500, gridOpacity: 0.25, titlePadding: 10,
        },
        axisX: { grid: false },
        header: { labelColor: ink.text, titleColor: ink.text, labelFontSize: 12, labelFontWeight: 600, title: null },
      },
    };
    if (!asked.facet) return { ...spec, ...base, width: room, height: 340, autosize: { type: "fit", contains: "padding" } };
    const count = new Set(drawn.map((row) => row.f)).size, columns = Math.max(1, Math.min(count, Math.floor(room / 280)));
    const { $schema, ...inner } = spec;
    const facet = { field: "f", type: "nominal", sort: null, title: null, header: { labelLimit: 240 } };
    return { $schema, ...base, facet, columns, spec: { ...inner, width: Math.floor(room / columns) - 78, height: 220 } };
  }

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
    document.querySelectorAll("#explore-arms .swatch").forEach((one) => {
      one.style.background = colours[scheme()].arms[one.dataset.arm];
    });
    const names = asked.colour === armKey ? [] : [...asked.colour.values.map(String), "–"].filter((name) => rows.some((row) => row.c === name));
    const range = shades(asked.colour, names);
    at("legend").replaceChildren(...names.map((name, i) => {
      const made = document.createElement("span"), swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = range[i];
      made.append(swatch, `${asked.colour.name} ${name}`);
      return made;
    }));
  }

  // --- words ----------------------------------------------------------------------------------------------------

  function number(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    const text = Number.isInteger(value) && size < 1e6 ? String(value) : size !== 0 && (size >= 1e6 || size < 1e-4) ? value.toExponential(2).replace("e+", "e") : value.toPrecision(4);
    return text.replaceAll("-", "−");
  }

  const interval = (row) => (row.known ? `${number(row.y)} [${number(row.low)}, ${number(row.high)}]` : number(row.y));

  function who(row, asked) {
    const parts = [row.c];
    if (!asked.step && !asked.xMetric && asked.xKey !== asked.colour) parts.push(`${asked.xKey.name} = ${row.x}`);
    if (asked.facet && asked.facet !== asked.colour) parts.push(`${asked.facet.name} = ${row.f}`);
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
    made.createCaption().textContent = `${title(asked.y)}: means over seeds with 95 % t interval${over.length > MOST_TABLE ? `; the first ${MOST_TABLE} of ${over.length} rows` : ""}`;
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

  // --- listening ------------------------------------------------------------------------------------------------

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
  dark.addEventListener("change", draw);
  addEventListener("beforeprint", () => { printing = true; draw(); });
  addEventListener("afterprint", () => { printing = false; draw(); });
  let waiting = 0, width = innerWidth;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; draw(); } }, 150);
  });
  draw();
})();
