// The rows of a chart: what is chosen from the trials of a report, and means over seeds.
//
// GIVEN has `data` (the section `explorer` of report.json), `charts` (reports/explorer.py) and `colours`. Texts of a
// study are values of rows, titles and text nodes; they are never markup, names of fields or parts of expressions.
const { data, charts, colours } = GIVEN;
const { arms, trials, keys, metrics, curves, quantiles } = data;
const fact = Object.fromEntries(data.facts.map((one) => [one.name, one]));
const STEP = "step";

const armKey = { name: "arm", values: arms, of: trials.arm };
const seedKey = { name: "seed", values: [...new Set(trials.seed)].sort((a, b) => a - b) };
seedKey.of = trials.seed.map((seed) => seedKey.values.indexOf(seed));
const several = fact.study.values.length > 1 ? [fact.study] : [];
const sorts = [armKey, ...several, ...keys, seedKey];
const numeric = (key) => key.values.every((value) => typeof value === "number");
const title = (metric) => metric.label + (metric.unit ? ` (${metric.unit})` : "");

const MOST_JOINED = 12; // values of a key whose means a line joins: more are those of a search, which differ in all keys
const NONE = "–"; // of a trial on which a key does not act
const named = (key, i) => (key.of[i] < 0 ? NONE : String(key.values[key.of[i]]));
const compared = (i) => fact.role.of[i] >= 0 && fact.role.values[fact.role.of[i]] === "compare";
const ended = (i) => fact.status.values[fact.status.of[i]] === "ok";
const setting = (i) => keys.map((key) => key.of[i]).join(" ");
const average = (numbers) => numbers.reduce((sum, one) => sum + one, 0) / numbers.length;

const facetOf = (key, i) => (key === armKey ? named(key, i) : `${key.name} = ${named(key, i)}`);

function rowsOfTrials(asked) {
  const rows = [];
  trials.id.forEach((_, i) => {
    if (!asked.arms.has(trials.arm[i]) || !compared(i)) return;
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
    if (!curve || !asked.arms.has(trials.arm[i]) || !compared(i)) return;
    curves.grids[curve[0]].forEach((x, j) => {
      const y = curve[1][j], seed = curves.single ? trials.seed[i] : l; // a mean over seeds counts as one
      if (y !== null) rows.push({ k: "t", i, l, x, y, ...place(asked, i), seed, group: x });
    });
  });
  return rows;
}

function place(asked, i) {
  return { c: named(asked.colour, i), f: asked.facet ? facetOf(asked.facet, i) : "" };
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
  const apart = asked.xMetric || (asked.xKey && asked.xKey.values.length > MOST_JOINED);
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
      f: own[0].f, p: apart ? found.length : line, trials: own.length,
    });
  }
  return found;
}
