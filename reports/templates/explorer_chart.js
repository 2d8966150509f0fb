// The chart of some rows: one that Altair has made, with titles, scales, colours and room.
// Colours are variables of the page's style, which knows light, dark and paper.
const PLACES = 8, ink = "var(--ink)", faint = "var(--faint)";

// The names of what colours tell apart, in their order, of those that are drawn.
function coloursOf(asked, rows) {
  const drawn = new Set(rows.map((row) => row.c));
  return [...asked.colour.values.map(String), NONE].filter((name) => drawn.has(name));
}

function shades(key, names) {
  const known = names.filter((name) => name !== NONE);
  return names.map((name) => {
    if (name === NONE) return faint;
    if (key === armKey) return `var(--a${colours[arms.indexOf(name)]})`;
    const i = known.indexOf(name), part = known.length > 1 ? i / (known.length - 1) : 1;
    return numeric(key) ? `color-mix(in srgb, var(--low), var(--high) ${100 * part}%)` : `var(--a${i % PLACES})`;
  });
}

// A title in lines that an axis has room for.
function wrapped(text) {
  const found = [""];
  for (const word of text.split(" ")) {
    const last = found.length - 1, longer = found[last] ? `${found[last]} ${word}` : word;
    if (longer.length > 40 && found[last]) found.push(word);
    else found[last] = longer;
  }
  return found;
}

function roomOf() {
  return Math.max(240, at("chart").clientWidth - 12);
}

function chart(asked, rows, drawn) {
  const kind = asked.step ? "curves" : asked.xMetric || numeric(asked.xKey) ? "quantitative" : "ordinal";
  const spec = structuredClone(charts[kind]);
  spec.layer = spec.layer.filter((layer) => drawn.some((row) => row.k === layer.transform[0].filter.equal));
  const all = drawn.flatMap((row) => [row.y, row.low ?? row.y, row.high ?? row.y]);
  const names = coloursOf(asked, rows);
  const range = shades(asked.colour, names), log = asked.log && all.every((y) => y > 0);
  const y = { zero: false, nice: true, ...(log ? { type: "log" } : {}) };
  if (asked.step && !log) { // the first fall would flatten all that matters
    const last = Math.max(...rows.map((row) => row.x)), late = drawn.filter((row) => row.x >= 0.05 * last);
    const tops = late.map((row) => row.high ?? row.y), lows = [...late.map((row) => row.low ?? row.y), ...drawn.map((row) => row.y)];
    const low = lows.reduce((a, b) => Math.min(a, b), Infinity), high = tops.reduce((a, b) => Math.max(a, b), -Infinity);
    if (high > low) Object.assign(y, { domain: [low - 0.05 * (high - low), high + 0.05 * (high - low)], nice: false });
  }
  const xs = rows.map((row) => row.x), wide = xs.length && xs.every((x) => x > 0) && Math.max(...xs) >= 30 * Math.min(...xs);
  const format = (values) => (values.some((v) => Math.abs(v) >= 1e6) ? ".2~e" : undefined);
  const room = roomOf();
  const places = [...new Set(drawn.map((row) => String(row.x)))]; // 7 px a letter and 12 between two
  const crowded = (Math.max(...places.map((place) => place.length)) * 7 + 12) * places.length > (asked.facet ? 280 : room);
  for (const layer of spec.layer) {
    const one = layer.encoding;
    if (asked.step) {
      layer.mark.clip = true;
      // many lines would hide their means
      if (layer.mark.type === "line" && one.detail && curves.lines.length > 30) Object.assign(layer.mark, { opacity: 0.2 });
    }
    one.color.scale = { domain: names, range };
    one.x.title = asked.step ? "step (updates)" : asked.xMetric ? title(asked.xMetric) : asked.xKey.name;
    if (kind !== "ordinal") {
      one.x.scale = { zero: false, nice: false, ...(asked.step ? {} : { padding: 24 }), ...(wide && !asked.step ? { type: "log" } : {}) };
      one.x.axis = { format: asked.xKey ? ".6~g" : format(xs), labelOverlap: true, tickCount: 6 };
      if (!asked.step && !asked.xMetric && asked.xKey.values.length <= 12) one.x.axis.values = asked.xKey.values;
    } else {
      if (asked.xKey === asked.colour) { // the mean beside its trials; of several colours each has its own place
        delete one.xOffset;
        if (["rule", "point"].includes(layer.mark.type)) layer.mark.xOffset = 14;
      }
      one.x.axis = { labelAngle: crowded ? -35 : 0, labelLimit: 160, labelOverlap: false };
    }
    one.y.title = wrapped(title(asked.y));
    one.y.scale = y;
    one.y.axis = { format: format(all), tickCount: 6 };
  }
  const base = {
    datasets: { rows: drawn },
    data: { name: "rows" },
    background: "transparent",
    padding: 4,
    config: {
      font: "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif",
      view: { stroke: null },
      axis: {
        labelColor: ink, titleColor: ink, gridColor: faint, domainColor: faint, tickColor: faint,
        labelFontSize: 12, titleFontSize: 12.5, titleFontWeight: 500, gridOpacity: 0.25, titlePadding: 10,
      },
      axisX: { grid: false },
      header: { labelColor: ink, titleColor: ink, labelFontSize: 12, labelFontWeight: 600, title: null },
    },
  };
  if (!asked.facet) return { ...spec, ...base, width: room, height: 340, autosize: { type: "fit", contains: "padding" } };
  const count = new Set(drawn.map((row) => row.f)).size, columns = Math.max(1, Math.min(count, Math.floor(room / 280)));
  const { $schema, ...inner } = spec;
  const facet = { field: "f", type: "nominal", sort: null, title: null, header: { labelLimit: 240 } };
  return { $schema, ...base, facet, columns, spec: { ...inner, width: Math.floor(room / columns) - 78, height: 220 } };
}
