"use strict";
// What the page knows: the columns of the study, who is shown, and numbers in words.

const study = JSON.parse(document.getElementById("data").textContent);
const size = study.number.length;
const all = Array.from({length: size}, (_, index) => index);
const first = study.islands.map((_, island) => study.island.indexOf(island));
const place = all.map(index => index - first[study.island[index]]);  // in the journal of its island
const state = {islands: new Set(study.islands.keys()), frontOnly: false, colour: "island", chosen: null};

const several = study.islands.length > 1;

const measured = index => study.metrics[study.objectives[0].name]?.[index] != null;
const onFront = index => study.until[index] === null;
const wasOnFront = (index, after) =>
  place[index] < after && study.until[index] !== 0 && (study.until[index] === null || study.until[index] > after);
const shown = () => all.filter(index =>
  measured(index) && state.islands.has(study.island[index]) && (!state.frontOnly || onFront(index)));

const name = index => `${study.islands[study.island[index]]}/${study.number[index]}`;
const colour = index => study.colours[study.island[index] % study.colours.length];
const label = metric => {
  const [known, lane] = metric.split("@");
  return (study.labels[known] ?? known.replaceAll("_", " ")) + (lane ? ` @${lane}` : "");
};
const common = () => Object.keys(study.metrics).filter(metric => metric.split("@")[0] in study.labels);
const escaped = text => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");

function quantity(metric, value) {
  if (value == null) return "–";
  if (["miou", "accuracy", "top5"].includes(metric)) return value.toFixed(4);
  for (const [factor, prefix] of [[1e9, " G"], [1e6, " M"], [1e3, " k"], [1, ""]])
    if (Math.abs(value) >= 0.9995 * factor || !prefix) {
      const scaled = value / factor, large = Math.abs(scaled);
      return scaled.toFixed(Number.isInteger(scaled) && !prefix ? 0 : large < 9.995 ? 2 : large < 99.95 ? 1 : 0) + prefix;
    }
}

function seconds(value) {
  if (value < 90) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  const minutes = Math.round(value / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

function standing(index) {
  if (study.merged[index] && several) return "on the front of all islands";
  return onFront(index) ? `on the front of ${study.islands[study.island[index]]}` : "";
}

function summary(index) {
  const numbers = common().filter(metric => study.metrics[metric][index] != null)
    .map(metric => `${label(metric)} ${quantity(metric, study.metrics[metric][index])}`);
  return [`<b>${escaped(name(index))}</b>  generation ${study.generation[index]}`, standing(index), ...numbers,
    ...escaped(study.words[index]).split(" | ")].filter(Boolean).join("<br>");
}

function range(values) {
  const known = values.filter(value => value != null);
  if (!known.length) return undefined;
  let low = Infinity, high = -Infinity;
  for (const value of known) { low = Math.min(low, value); high = Math.max(high, value); }
  const room = 0.04 * (high - low || Math.abs(high) || 1);
  return [low - room, high + room];
}
