// The page: filters, the chosen candidate, tables, and figures that are drawn when they come into view.

const element = id => document.getElementById(id);
const FIGURES = {"figure-candidates": candidates, "figure-evolution": evolution, "figure-hypervolume": hypervolume,
  "figure-properties": properties, "figure-operators": operators, "figure-trained": trained, "figure-time": time};
const CONFIG = {responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"]};
const stale = new Set(Object.keys(FIGURES)), visible = new Set();

function draw(id) {
  if (!stale.delete(id)) return;
  const {traces, layout} = FIGURES[id](), at = element(id), drawn = at.classList.contains("js-plotly-plot");
  at.classList.toggle("empty", !traces.length);
  if (!traces.length) { if (drawn) Plotly.purge(at); at.textContent = "Nothing to show yet."; return; }
  if (!drawn) at.textContent = "";
  Plotly.react(at, traces, layout, CONFIG);
  if (!drawn) at.on("plotly_click", event => {
    const index = event.points[0]?.customdata;
    if (Number.isInteger(index)) choose(index);
  });
}

function refresh(ids = Object.keys(FIGURES)) {
  ids.forEach(id => stale.add(id));
  ids.filter(id => visible.has(id)).forEach(draw);
  const now = shown(), fronts = now.filter(onFront).length;
  element("shown").textContent = `${now.length.toLocaleString("en")} shown, ${fronts} of them on a front`;
}

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function dotted(island) {
  const dot = make("span", {className: "dot"});
  dot.style.background = study.colours[island % study.colours.length];
  return make("span", {}, dot, study.islands[island]);
}

// A metric of a candidate, with a mark where a latency is not to be relied on.
function reading(metric, index) {
  const spread = study.noise[metric] ? ` ± ${quantity(metric, study.noise[metric])}` : "";
  const text = quantity(metric, study.metrics[metric][index]) + spread, [known, lane] = metric.split("@");
  const unsteady = study.metrics["latency_unsteady" + (lane ? `@${lane}` : "")];
  if (known !== "latency_ms" || !unsteady?.[index]) return text;
  return make("span", {className: "unsteady", title: "unsteady: the device was not at rest while this was measured", textContent: `~ ${text}`});
}

// The mean of a candidate's scores from scratch, and what they scatter by.
function fromScratch(index) {
  const scores = study.scratch[name(index)] ?? [], mean = scores.reduce((sum, one) => sum + one, 0) / scores.length;
  if (scores.length < 2) return quantity("miou", scores[0]);
  const squares = scores.reduce((sum, one) => sum + (one - mean) ** 2, 0);
  return `${quantity("miou", mean)} ± ${quantity("miou", Math.sqrt(squares / (scores.length - 1)))}`;
}

function row(cells, words, tag = "td") {
  return make("tr", {}, ...cells.map((cell, at) => make(tag, {className: at < words ? "word" : ""}, cell)));
}

function tabulatePicks() {
  const table = element("picks"), metrics = common();
  if (!study.picks.length) { table.replaceWith("No candidate has been measured yet."); return; }
  const known = Object.keys(study.scratch).length > 0;
  const last = [...(known ? ["from scratch"] : []), ...(several ? ["on the front of all"] : [])];
  table.append(make("thead", {}, row(["island", "as", "candidate", ...metrics.map(label), ...last], 3, "th")));
  let before = null;
  for (const [index, why] of study.picks) {
    const here = study.island[index], cells = metrics.map(metric => reading(metric, index));
    const line = row([here === before ? "" : dotted(here), why, name(index), ...cells, ...(known ? [fromScratch(index)] : []),
      ...(several ? [study.merged[index] ? "yes" : "–"] : [])], 3);
    line.className = here === before ? "chooses" : "chooses first";
    line.dataset.index = index;
    line.onclick = () => choose(index);
    table.append(line);
    before = here;
  }
}

function numbers(index) {
  return Object.entries(study.metrics).filter(([, values]) => values[index] != null)
    .map(([metric, values]) => make("div", {}, make("span", {textContent: label(metric)}), reading(metric, index)));
}

function legend() {
  const kinds = study.choices.kinds.map((kind, code) => {
    const patch = make("i");
    patch.style.background = study.choices.colours[code];
    return make("span", {}, patch, kind);
  });
  return make("div", {className: "legend"}, ...kinds, "height of a cell: its width");
}

function look(index) {
  if (!(index in study.drawings)) return make("p", {className: "words", textContent: study.words[index].replaceAll(" | ", "\n")});
  const holder = make("div");
  holder.innerHTML = study.drawings[index];
  return holder;
}

function choose(index) {
  state.chosen = index;
  const classes = Object.entries(study.classes).filter(([, values]) => values[index] != null)
    .map(([of, values]) => make("div", {}, make("span", {textContent: of}), values[index].toFixed(3)));
  element("chosen").replaceChildren(make("h3", {}, [name(index), standing(index)].filter(Boolean).join(" · ")), make("div", {className: "numbers"}, ...numbers(index)),
    look(index), ...(index in study.drawings ? [legend()] : []), ...(classes.length ? [make("div", {className: "classes"}, ...classes)] : []));
  element("commands").replaceChildren(...study.commands.map(command => {
    const text = command.replaceAll("{candidate}", name(index)).replaceAll("{file}", name(index).replace("/", "-"));
    const button = make("button", {type: "button", textContent: "copy", onclick: async () => {
      await navigator.clipboard.writeText(text).then(() => button.textContent = "copied", () => button.textContent = "select it");
      setTimeout(() => button.textContent = "copy", 1500);
    }});
    return make("div", {className: "command"}, make("code", {textContent: text}), button);
  }));
  document.querySelectorAll("#picks tr").forEach(line => line.classList.toggle("chosen", line.dataset.index === String(index)));
  refresh(["figure-candidates"]);
}

function card(index) {
  const numbers = study.objectives.map(({name}) => `${label(name)} ${quantity(name, study.metrics[name][index])}`);
  const caption = make("figcaption", {}, make("b", {textContent: name(index)}), ...numbers.map(text => make("span", {}, text)));
  return make("figure", {}, caption, look(index));
}

function listNetworks() {
  const list = element("network-list"), picked = new Set(study.picks.map(([index]) => index));
  list.append(legend());
  study.islands.forEach((island, number) => {
    const front = all.filter(index => study.island[index] === number && onFront(index));
    front.sort((a, b) => (column(up)[b] - column(up)[a]) * (study.objectives[0].maximised ? 1 : -1));
    const chosen = front.filter(index => picked.has(index)), rest = front.filter(index => !picked.has(index));
    const cards = make("div", {className: "cards"}, ...chosen.map(card));
    const more = make("button", {type: "button", textContent: `show the other ${rest.length}`, onclick: () => {
      cards.replaceChildren(...front.map(card));
      more.remove();
    }});
    list.append(make("div", {className: "of-island"}, make("h3", {}, dotted(number)), cards, ...(rest.length ? [more] : [])));
  });
}

function tabulateWorkers() {
  const stages = [...new Set(study.busy.flatMap(of => Object.keys(of.stages)))];
  if (!study.busy.length) return;
  element("workers").append(make("thead", {}, row(["worker", "candidates", ...stages, "in all"], 1, "th")));
  for (const of of study.busy) {
    const spent = stages.map(stage => of.stages[stage] ?? 0), sum = spent.reduce((total, value) => total + value, 0);
    element("workers").append(row([of.worker, of.candidates.toLocaleString("en"), ...[...spent, sum].map(seconds)], 1));
  }
  element("figure-time").style.height = `${Math.min(420, 130 + 34 * study.busy.length)}px`;
}

function listSheets() {
  for (const sheet of study.sheets) {
    const table = make("table", {}, make("thead", {}, row(sheet.header, sheet.words, "th")), ...sheet.rows.map(cells => row(cells, sheet.words)));
    element("sheets").append(make("h3", {textContent: sheet.title}), make("div", {className: "scroll"}, table));
  }
  element("figure-trained").hidden = !study.trained.length;
}

function listFailures() {
  const list = element("failure-list");
  if (!study.failures.length) { list.textContent = "No candidate has failed."; return; }
  const table = make("table", {}, make("thead", {}, row(["kind", "message", "candidates", "such as"], 2, "th")));
  for (const failure of study.failures) {
    const line = row([failure.kind, failure.message, String(failure.candidates.length), failure.candidates.slice(0, 3).map(name).join(", ")], 2);
    line.children[1].classList.add("long");
    if (failure.traceback) line.children[1].append(make("details", {}, make("summary", {textContent: "traceback"}), make("pre", {textContent: failure.traceback})));
    table.append(line);
  }
  list.append(make("div", {className: "scroll"}, table));
}

function setFilters() {
  study.islands.forEach((island, number) => {
    const box = make("input", {type: "checkbox", checked: true, value: island, onchange: () => {
      state.islands[box.checked ? "add" : "delete"](number);
      document.querySelectorAll(".of-island")[number].hidden = !box.checked;
      refresh();
    }});
    element("islands").append(make("label", {}, box, dotted(number)));
  });
  element("front-only").onchange = event => { state.frontOnly = event.target.checked; refresh(); };
  element("colour").onchange = event => { state.colour = event.target.value; refresh(); };
  for (const [id, chosen] of [["x", across], ["y", up]]) {
    const metrics = [...Object.keys(study.metrics), "number"];
    element(id).append(...metrics.map(metric => make("option", {value: metric, textContent: metric === "number" ? "candidate" : label(metric)})));
    element(id).value = chosen;
    element(id).onchange = () => refresh(["figure-candidates"]);
  }
}

function setSlider() {
  const slider = element("after"), longest = Math.max(1, study.merged_hypervolume.length);
  const moved = () => {
    element("after-words").textContent = `${slider.value} of ${longest}`;
    refresh(["figure-evolution"]);
  };
  Object.assign(slider, {max: longest, value: longest, oninput: () => requestAnimationFrame(moved)});
  moved();
  element("play").onclick = () => {
    const step = Math.max(1, Math.round(longest / 40));
    let after = 0;
    const timer = setInterval(() => {
      slider.value = after = Math.min(longest, after + step);
      moved();
      if (after >= longest) clearInterval(timer);
    }, 150);
  };
}

// Sections that this study has nothing for are left out.
function leaveOut() {
  const empty = {operators: study.choices.places.length < 2, networks: !Object.keys(study.drawings).length,
    trained: !study.sheets.length, time: !study.seconds.some(value => value > 0)};
  for (const id of Object.keys(empty).filter(id => empty[id])) {
    element(id).hidden = true;
    document.querySelector(`nav a[href="#${id}"]`).hidden = true;
  }
  const noise = Object.entries(study.noise).map(([metric, value]) => `${label(metric)} ± ${quantity(metric, value)}`).join(", ");
  if (noise) element("noise").textContent = ` Bars: a standard deviation of the score between recalibration subsets, ${noise}.`;
  document.querySelectorAll(".several").forEach(words => words.hidden = !several);
}

// Called when Plotly is there; the tables are not kept waiting for it.
function begin() {
  const watcher = new IntersectionObserver(entries => entries.forEach(({target, isIntersecting}) => {
    visible[isIntersecting ? "add" : "delete"](target.id);
    if (isIntersecting) draw(target.id);
  }), {rootMargin: "300px"});
  Object.keys(FIGURES).forEach(id => watcher.observe(element(id)));
  dark.addEventListener("change", () => refresh());
  window.addEventListener("beforeprint", () => Object.keys(FIGURES).forEach(draw));
  draw("figure-candidates");
  document.documentElement.dataset.readyMs = Math.round(performance.now());
}

element("figure-operators").style.height = `${150 + 115 * new Set(study.choices.places.map(([row]) => row)).size}px`;
leaveOut();
setFilters();
tabulatePicks();
setSlider();
listNetworks();
listSheets();
tabulateWorkers();
listFailures();
if (study.picks.length) choose(study.picks[0][0]);
refresh();
