// The figures: each a function that returns Plotly's traces and layout for what is shown now.

const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "cross", "x"];
const dark = matchMedia("(prefers-color-scheme: dark)");
// Later generations stand out from the ground more than earlier ones.
const generations = () => ({colorscale: "Viridis", reversescale: !dark.matches, cmin: 0, cmax: Math.max(1, ...new Set(study.generation))});
const css = property => getComputedStyle(document.documentElement).getPropertyValue(property).trim();
const [up, across] = [study.objectives[0].name, study.objectives[1]?.name ?? "number"];
const column = metric => metric === "number" ? study.number : study.metrics[metric] ?? [];
const pick = (values, indices) => indices.map(index => values[index]);

function axis(metric, more = {}) {
  const title = metric === "number" ? "candidate" : label(metric);
  const tickformat = ["macs", "params"].includes(metric) ? "~s" : undefined;
  return {title: {text: title, standoff: 8}, tickformat, gridcolor: css("--line"), linecolor: css("--line"), zeroline: false,
    automargin: true, ...more};
}

function layout(more = {}) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: {l: 60, r: 16, t: 34, b: 48},
    font: {family: "system-ui, sans-serif", size: 13, color: css("--ink")},
    hoverlabel: {align: "left", bgcolor: css("--panel"), bordercolor: css("--line"),
      font: {family: "ui-monospace, Menlo, Consolas, monospace", size: 12, color: css("--ink")}},
    legend: {orientation: "h", x: 0, y: 1.02, yanchor: "bottom"}, hovermode: "closest",
    modebar: {bgcolor: "rgba(0,0,0,0)", color: css("--line"), activecolor: css("--soft")}, ...more};
}

function marker(indices, island, front) {
  const byGeneration = state.colour === "generation";
  const outline = {color: front ? css("--ground") : "rgba(0,0,0,0)", width: front ? 1 : 0};
  const one = {size: front ? 9 : 5.5, opacity: front ? 1 : byGeneration ? 0.75 : 0.35, line: outline,
    symbol: byGeneration || front ? SYMBOLS[island % SYMBOLS.length] : "circle"};
  if (!byGeneration) return {...one, color: study.colours[island % study.colours.length]};
  return {...one, color: pick(study.generation, indices), ...generations(), showscale: false};
}

// One standard deviation of the score to both sides, for what is on a front and where it is known.
function bars(metric, island) {
  if (!study.noise[metric]) return {visible: false};
  const color = state.colour === "generation" ? css("--soft") : study.colours[island % study.colours.length];
  return {type: "constant", value: study.noise[metric], thickness: 1, width: 3, color};
}

function points(indices, island, front, x, y, words) {
  const errors = front ? {error_x: bars(x, island), error_y: bars(y, island)} : {};
  return {...errors, type: "scatter", mode: "markers", name: words, x: pick(column(x), indices), y: pick(column(y), indices),
    customdata: indices, text: indices.map(summary), hoverinfo: "text", legendgroup: String(island),
    marker: marker(indices, island, front), showlegend: front};
}

// The border of what a front of two objectives dominates; nothing where the axes are something else.
function staircase(indices, x, y, line) {
  if (study.objectives.length !== 2 || x !== across || y !== up) return [];
  const sorted = [...indices].sort((a, b) => column(x)[a] - column(x)[b]);
  const shape = study.objectives[1].maximised ? "vh" : "hv";
  return [{type: "scatter", mode: "lines", x: pick(column(x), sorted), y: pick(column(y), sorted),
    line: {shape, width: 1.6, ...line}, hoverinfo: "skip", showlegend: false}];
}

function candidates() {
  const [x, y] = ["x", "y"].map(id => document.getElementById(id).value), traces = [], now = shown();
  study.islands.forEach((island, number) => {
    const here = now.filter(index => study.island[index] === number), front = here.filter(onFront);
    if (!here.length) return;
    traces.push(points(here.filter(index => !onFront(index)), number, false, x, y, island));
    traces.push(...staircase(front, x, y, {color: study.colours[number % study.colours.length]}));
    traces.push(points(front, number, true, x, y, `${island}: ${front.length} on the front`));
  });
  traces.push(...staircase(now.filter(index => study.merged[index]), x, y, {color: css("--ink"), dash: "dash", width: 1.2}));
  if (state.chosen !== null) traces.push({type: "scatter", mode: "markers", x: [column(x)[state.chosen]],
    y: [column(y)[state.chosen]], hoverinfo: "skip", showlegend: false,
    marker: {size: 17, color: "rgba(0,0,0,0)", line: {color: css("--ink"), width: 2}}});
  if (state.colour === "generation") traces.push(generationBar());
  return {traces, layout: layout({xaxis: axis(x, {range: range(column(x))}), yaxis: axis(y, {range: range(column(y))})})};
}

function generationBar() {
  return {type: "scatter", mode: "markers", x: [null], y: [null], showlegend: false, hoverinfo: "skip",
    marker: {color: [0], ...generations(), showscale: true,
      colorbar: {title: {text: "generation", side: "right"}, thickness: 12, outlinewidth: 0}}};
}

function evolution() {
  const after = Number(document.getElementById("after").value), traces = [];
  for (const [number, island] of study.islands.entries()) {
    if (!state.islands.has(number)) continue;
    const here = all.filter(index => study.island[index] === number && measured(index) && place[index] < after);
    const front = here.filter(index => wasOnFront(index, after)), line = {color: study.colours[number % study.colours.length]};
    const today = all.filter(index => study.island[index] === number && onFront(index));
    const rest = state.frontOnly ? [] : here.filter(index => !front.includes(index));
    traces.push({...points(rest, number, false, across, up, island), hoverinfo: "skip", text: undefined});
    traces.push(...staircase(today, across, up, {...line, width: 1, dash: "dot"}));
    traces.push(...staircase(front, across, up, {...line, width: 2}));
    traces.push(points(front, number, true, across, up, `${island}: ${front.length}`));
  }
  const known = all.filter(measured);
  return {traces, layout: layout({xaxis: axis(across, {range: range(pick(column(across), known))}),
    yaxis: axis(up, {range: range(pick(column(up), known))})})};
}

function hypervolume() {
  const traces = [], line = (x, y, axes, colour, words, dash) => traces.push({type: "scatter", mode: "lines", x, y, name: words,
    xaxis: `x${axes}`, yaxis: `y${axes}`, line: {color: colour, width: 1.8, dash, shape: "hv"}, legendgroup: words,
    showlegend: !axes, hovertemplate: "%{y:.4f} at %{x:.4~s}"});
  const spent = indices => { let sum = 0; return indices.map(index => sum += study.seconds[index]); };
  const turns = study.merged_hypervolume.map((_, turn) => first.map((from, island) => from + turn)
    .filter((index, island) => study.island[index] === island));
  study.islands.forEach((island, number) => {
    const here = all.filter(index => study.island[index] === number);
    if (!state.islands.has(number) || !here.length) return;
    const tone = study.colours[number % study.colours.length], share = pick(study.hypervolume, here);
    line(here.map(index => place[index] + 1), share, "", tone, island);
    line(spent(here), share, "2", tone, island);
  });
  if (several) {
    let count = 0, sum = 0;
    const counts = turns.map(turn => count += turn.length);
    const sums = turns.map(turn => turn.reduce((total, index) => sum = total + study.seconds[index], sum));
    line(counts, study.merged_hypervolume, "", css("--ink"), "all islands", "dash");
    line(sums, study.merged_hypervolume, "2", css("--ink"), "all islands", "dash");
  }
  const timed = study.seconds.some(value => value > 0);
  const plain = (text, more) => axis("", {title: {text, standoff: 8}, ...more});
  if (!timed) return {traces: traces.filter(trace => trace.xaxis === "x"),
    layout: layout({xaxis: plain("evaluations"), yaxis: plain("hypervolume")})};
  return {traces, layout: layout({grid: {rows: 1, columns: 2, pattern: "independent", xgap: 0.12},
    xaxis: plain("evaluations"), yaxis: plain("hypervolume"), xaxis2: plain("device-seconds"), yaxis2: plain("")})};
}

function properties() {
  const now = shown(), numeric = {...Object.fromEntries(common().map(metric => [metric, study.metrics[metric]])), ...study.properties};
  const known = values => new Set(values).size > 1 && now.every(index => values[index] != null);
  const dimensions = Object.entries(numeric).filter(([, values]) => known(values)).slice(0, 14)
    .map(([metric, values]) => ({label: label(metric).replace(" cells", ""), values: pick(values, now),
      tickformat: ["macs", "params"].includes(metric) ? "~s" : undefined}));
  const byGeneration = state.colour === "generation", last = Math.max(1, study.islands.length - 1);
  const bands = study.islands.map((_, island) => [several ? island / last : 0, study.colours[island % study.colours.length]]);
  const line = byGeneration
    ? {color: pick(study.generation, now), ...generations()}
    : {color: pick(study.island, now), colorscale: bands.length > 1 ? bands : [bands[0], [1, bands[0][1]]], cmin: 0, cmax: last};
  return {traces: dimensions.length ? [{type: "parcoords", dimensions, line, labelangle: -18, labelside: "top",
    unselected: {line: {opacity: 0.04}}, labelfont: {size: 12}, tickfont: {size: 11}, rangefont: {size: 10, color: "rgba(0,0,0,0)"}}] : [],
    layout: layout({margin: {l: 50, r: 80, t: 84, b: 24}})};
}

function operators() {
  const {places, kinds, colours, each, codes} = study.choices, rows = [...new Set(places.map(([row]) => row))], traces = [];
  const columns = [...new Set(places.map(([, column]) => column))], axes = {}, notes = [];
  const here = all.filter(index => state.islands.has(study.island[index])), high = 1 / rows.length;
  [here, here.filter(onFront)].forEach((group, side) => rows.forEach((row, down) => {
    const number = 2 * down + side + 1, end = number === 1 ? "" : String(number), counts = new Map();
    places.forEach(([of, column], at) => { if (of === row) counts.set(column, group.map(index => each[index][at])); });
    kinds.forEach((kind, code) => {
      const share = columns.map(column => {
        const found = (counts.get(column) ?? []).filter(one => one !== "."), hits = found.filter(one => one === codes[code]).length;
        return found.length ? hits / found.length : null;
      });
      traces.push({type: "bar", x: columns, y: share, name: kind, marker: {color: colours[code]}, legendgroup: kind,
        showlegend: number === 1, xaxis: `x${end}`, yaxis: `y${end}`, hovertemplate: `${kind}: %{y:.0%} at %{x}<extra></extra>`});
    });
    const [low, top] = [1 - (down + 1) * high + (down + 1 < rows.length ? 0.09 * high : 0), 1 - down * high - 0.09 * high];
    const last = down === rows.length - 1, wide = side ? [0.53, 1] : [0, 0.47];
    axes[`xaxis${end}`] = axis("", {title: {text: last && row ? "layer" : "", standoff: 4}, type: "category", domain: wide,
      anchor: `y${end}`, showgrid: false, showticklabels: last});
    axes[`yaxis${end}`] = axis("", {title: {text: side ? "" : row, standoff: 4, font: {size: 12}}, domain: [low, top], range: [0, 1], anchor: `x${end}`,
      tickformat: ".0%", nticks: 3, showticklabels: !side});
    if (!down) notes.push({text: side ? "on the fronts" : "all candidates", x: wide[0], y: 1, xref: "paper", yref: "paper",
      xanchor: "left", yanchor: "bottom", showarrow: false});
  }));
  return {traces, layout: layout({...axes, barmode: "stack", bargap: 0.12, annotations: notes,
    legend: {orientation: "h", x: 0, y: 1.07, yanchor: "bottom", traceorder: "normal"}, margin: {l: 60, r: 16, t: 64, b: 48}})};
}

// One mark for each network: how it was chosen by shape, its island by colour.
function trained() {
  const groups = [...new Set(study.trained.map(one => one.group))], traces = [];
  groups.forEach((group, shape) => study.islands.forEach((island, number) => {
    const here = study.trained.filter(one => one.group === group && one.island === island);
    if (here.length && state.islands.has(number)) traces.push({type: "scatter", mode: "markers", name: `${group}, ${island}`,
      x: here.map(one => one.shared), y: here.map(one => one.scratch), text: here.map(one => escaped(one.name)),
      marker: {size: 9, opacity: 0.85, symbol: SYMBOLS[shape % SYMBOLS.length], color: study.colours[number % study.colours.length]},
      hovertemplate: "%{text}<br>shared weights %{x:.4f}<br>from scratch %{y:.4f}<extra></extra>"});
  }));
  const words = text => axis("", {title: {text, standoff: 8}});
  return {traces, layout: layout({xaxis: words("mIoU with shared weights"), yaxis: words("mIoU from scratch")})};
}

function time() {
  const stages = [...new Set(study.busy.flatMap(row => Object.keys(row.stages)))];
  const traces = stages.map((stage, number) => ({type: "bar", orientation: "h", name: stage, y: study.busy.map(row => row.worker),
    x: study.busy.map(row => row.stages[stage] ?? 0), marker: {color: study.colours[number % study.colours.length]},
    hovertemplate: `${stage}: %{x:,.0f} s<extra></extra>`}));
  return {traces: study.busy.length ? traces : [], layout: layout({barmode: "stack", legend: {orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "normal"},
    xaxis: axis("", {title: {text: "seconds", standoff: 8}}),
    yaxis: axis("", {title: {text: ""}, autorange: "reversed"})})};
}
