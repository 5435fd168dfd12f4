"use strict";
// The URL holds the query: head, relation, tail, new=false, typed=true, and in `why` the explained
// answer. Labels are inserted by textContent only, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const PLACES = ["head", "relation", "tail"];
const MOST = 20;
const by = (id) => document.getElementById(id);
let about = {}, relations = [], shown = 0;

function make(tag, attributes = {}, ...children) {
  const drawn = ["svg", "g", "path", "rect", "text", "tspan", "title"].includes(tag);
  const element = drawn ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

async function get(path, query = {}, signal = undefined) {
  const answer = await fetch(`/api/${path}?${new URLSearchParams(query)}`, { signal });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.message);
  return found;
}

function say(text, error = false) {
  by("status").textContent = text;
  by("status").classList.toggle("error", error);
}

// Boxes with suggestions

function combobox(input, find) {
  const list = by(`${input.id}-list`);
  let request = null, active = -1, found = [];
  const close = () => {
    request?.abort();
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const point = (at) => {
    active = at;
    [...list.children].forEach((item, i) => item.setAttribute("aria-selected", String(i === at)));
    list.children[at].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", list.children[at].id);
  };
  const pick = (at) => {
    fill(input, found[at]);
    close();
  };
  const open = async () => {
    request?.abort();
    request = new AbortController();
    try {
      found = await find(input.value.trim(), request.signal);
    } catch (error) {
      if (error.name !== "AbortError") say(error.message, true);
      return;
    }
    if (document.activeElement !== input) return;
    list.replaceChildren(...found.map((each, i) => make("li", {
      role: "option", id: `${list.id}-${i}`,
      onpointerdown: (event) => { event.preventDefault(); pick(i); },
    }, ...named(each))));
    list.hidden = !found.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    if (found.length && input.value.trim()) point(0);
  };
  input.addEventListener("input", () => { delete input.dataset.label; open(); });
  input.addEventListener("focus", () => input.select());
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && list.hidden) open();
    else if (step) point((Math.max(active, step > 0 ? -1 : 0) + step + found.length) % found.length);
    else if (["Enter", "Tab"].includes(event.key) && !list.hidden && active >= 0) pick(active);
    else if (event.key === "Escape" && !list.hidden) close();
    else return;
    if (event.key !== "Tab") event.preventDefault();
  });
}

function named({ label, name }) {
  return name === label ? [name] : [name, make("small", {}, label)];
}

function fill(input, { label, name }) {
  input.value = name;
  input.dataset.label = label;
  input.title = label;
}

// Relations are few, so the search runs here, not on the server. Inverses come last.
function findRelations(text) {
  const typed = text.toLowerCase();
  const inverse = relations.map(({ label, name }) => ({ label: `^${label}`, name: `^${name}` }));
  const rank = ({ label, name }) => Math.min(...[label, name].map((each) => {
    const at = each.toLowerCase().indexOf(typed);
    return at < 0 ? 3 : at > 0 ? 2 : Number(each.length > typed.length);
  }));
  const hits = [...relations, ...inverse].filter((each) => rank(each) < 3);
  return typed ? hits.sort((a, b) => rank(a) - rank(b)) : relations;
}

// Questions

function go(question, why) {
  const query = new URLSearchParams(Object.entries(question).filter(([, value]) => value));
  if (!by("known").checked) query.delete("new"); else query.set("new", "false");
  if (!by("typed").checked) query.delete("typed"); else query.set("typed", "true");
  if (why !== undefined) query.set("why", why);
  history.pushState(null, "", `?${query}`);
  show();
}

// Shows the query of the URL, unless a newer query has started meanwhile.
async function show() {
  const own = ++shown;
  const query = new URLSearchParams(location.search);
  const why = query.get("why");
  query.delete("why");
  by("known").checked = query.get("new") === "false";
  by("typed").checked = query.get("typed") === "true";
  for (const place of PLACES) fill(by(place), { label: query.get(place) ?? "", name: query.get(place) ?? "" });
  by("why").hidden = true;
  by("answers").hidden = !query.size;
  document.title = about.run ? `${about.run} – kgtool` : "kgtool";
  if (!query.size) return say("");
  say("Asking …");
  try {
    const found = await get("answers", [...query, ["top", MOST]]);
    if (own !== shown) return;
    tabulate(found, why);
    const explained = found.answers.find((each) => each.label === why)?.why;
    if (explained) {
      say("Looking for its paths …");
      const paths = await get("explanation", { ...explained, top: 8 });
      if (own !== shown) return;
      explain(paths);
    }
    say("");
    if (why === null) by("asked").focus({ preventScroll: true });
  } catch (error) {
    if (own !== shown) return;
    by("answers").hidden ||= !by("rows").children.length || why === null;
    say(error.message, true);
  }
}

function arrow({ head, relation, tail }) {
  return [head, make("span", { class: "arrow" }, ` —${relation}→ `), tail];
}

function tabulate({ asked, question, names, answers }, why) {
  for (const place of PLACES) {
    const given = place !== asked;
    fill(by(place), { label: given ? question[place] : "", name: given ? names[place] : "" });
  }
  document.title = `${names.head} —${names.relation}→ ${names.tail} – kgtool`;
  by("asked").replaceChildren(...arrow(names));
  const other = asked === "head" ? "tail" : "head";
  const next = (label) => ({ ...question, [asked]: label, [other]: "" });
  by("rows").replaceChildren(...answers.map((each) => make(
    "tr", { class: `${each.known ? "fact" : ""} ${each.label === why ? "chosen" : ""}`.trim() },
    make("th", { scope: "row", class: "text" },
      ...(asked === "relation" ? named(each) : linked(each, next(each.label)))),
    make("td", { class: "chance" }, ...chance(each.probability)),
    make("td", {}, each.score.toFixed(2)),
    make("td", { class: "text" }, make("span", { class: each.known ? "tag" : "tag new" }, each.known ?? "new")),
    make("td", {}, ...(each.why ? [make("button", {
      type: "button", class: "link", "aria-label": `Why ${each.name}?`,
      onclick: () => go(question, each.label),
    }, "why?")] : [])),
  )));
  by("answers").hidden = false;
  by("meaning").textContent = !answers.length
    ? "There is no new answer."
    : asked === "relation"
      ? "Probability: among the relations that are not known, given that one of them is true."
      : "Probability: the chance that the answer is a fact, if the graph lacks as many facts as valid has. Select a name to ask about that entity next.";
}

function linked(each, question) {
  return [
    make("button", { type: "button", class: "link", onclick: () => go(question) }, each.name),
    ...named(each).slice(1),
  ];
}

function chance(probability) {
  if (probability === null) return ["–"];
  const part = make("span");
  part.style.width = `${100 * probability}%`;
  return [make("span", { class: "bar", "aria-hidden": "true" }, part), probability.toFixed(3)];
}

// Explanations

const ROW = 50, WIDE = 134, GAP = 108, TALL = 36;

function explain({ head, relation, tail, paths }) {
  by("why").hidden = false;
  by("explained").replaceChildren(
    "Why ", ...arrow({ head: head.name, relation: relation.name, tail: tail.name }));
  by("words").textContent = paths.length ? `The ${paths.length} strongest paths in words` : "The model uses no path to this answer";
  by("paths").replaceChildren(...paths.map((path) => make(
    "li", {}, make("span", { class: path.weight < 0 ? "weight minus" : "weight" }, path.weight.toFixed(2)),
    ` ${path.entities[0].name}`,
    ...path.steps.flatMap((step, i) => [
      make("span", { class: "arrow" }, ` —${step.map((each) => each.name).join(", ")}→ `),
      path.entities[i + 1].name,
    ]),
  )));
  draw(by("graph"), layers(paths));
  by("explained").focus({ preventScroll: true });
  by("why").scrollIntoView({ block: "nearest" });
}

// A layer a step from the head, the tail in the last one. An edge over several layers keeps a place
// free in each between, so that it crosses no entity.
function layers(paths) {
  const last = Math.max(0, ...paths.map((path) => path.steps.length));
  const columns = Array.from({ length: last + 1 }, () => new Map());
  const edges = new Map();
  const place = (at, key, entity) => {
    if (!columns[at].has(key)) columns[at].set(key, { entity, at, into: [], out: [], step: undefined });
    return columns[at].get(key);
  };
  for (const path of paths) {
    let from = place(0, path.entities[0].label, path.entities[0]);
    from.step ??= { ahead: path.steps[0][0] };
    path.steps.forEach((step, i) => {
      const ends = i === path.steps.length - 1, entity = path.entities[i + 1];
      const to = place(ends ? last : i + 1, entity.label, entity);
      to.step ??= { behind: step[0] };
      const key = JSON.stringify([from.at, from.entity.label, to.at, to.entity.label]);
      if (!edges.has(key)) {
        const free = [];
        for (let at = from.at + 1; at < to.at; at++) free.push(place(at, key, null));
        const edge = { stops: [from, ...free, to], weight: 0, names: new Set() };
        edge.stops.slice(1).forEach((stop, k) => { stop.into.push(edge.stops[k]); edge.stops[k].out.push(stop); });
        edges.set(key, edge);
      }
      edges.get(key).weight += path.weight;
      for (const each of step) edges.get(key).names.add(each.name);
      from = to;
    });
  }
  const stops = columns.map((column) => [...column.values()]);
  const most = Math.max(0, ...stops.map((column) => column.length));
  const settle = (column) => column.forEach((stop, i) => { stop.y = ROW * (i + 0.5 + (most - column.length) / 2); });
  stops.forEach(settle);
  for (let turn = 0; turn < 4; turn++) {
    const side = turn % 2 ? "out" : "into";
    for (const column of turn % 2 ? [...stops].reverse() : stops) {
      const aim = new Map(column.map((stop) => [stop, stop[side].length
        ? stop[side].reduce((sum, each) => sum + each.y, 0) / stop[side].length : stop.y]));
      settle(column.sort((a, b) => aim.get(a) - aim.get(b)));
    }
  }
  return { stops, edges: [...edges.values()], width: last * (WIDE + GAP) + WIDE + 8, height: most * ROW + 8 };
}

function draw(svg, { stops, edges, width, height }) {
  svg.replaceChildren();
  svg.toggleAttribute("hidden", !edges.length);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.style.minWidth = `${0.85 * width}px`;
  svg.style.maxWidth = `${1.15 * width}px`;
  const x = (stop) => 4 + WIDE / 2 + stop.at * (WIDE + GAP);
  const most = Math.max(...edges.map((edge) => Math.abs(edge.weight)));
  const texts = [];
  for (const { stops: way, weight, names } of edges) {
    let line = `M${x(way[0]) + WIDE / 2} ${way[0].y}`;
    way.slice(1).forEach((stop, i) => {
      const [a, b] = [x(way[i]) + WIDE / 2, x(stop) - WIDE / 2];
      line += `C${(a + b) / 2} ${way[i].y} ${(a + b) / 2} ${stop.y} ${b} ${stop.y}`;
      if (stop.entity === null) line += `H${b + WIDE}`;
    });
    const shown = [...names];
    svg.append(make("path", { d: line, class: weight < 0 ? "minus" : "plus", "stroke-width": 1 + 6 * Math.abs(weight) / most },
      make("title", {}, `${shown.join(", ")}: ${weight.toFixed(2)}`)));
    // Where its line is alone: on a free place, else near the end that fewer share.
    const free = way.find((stop) => stop.entity === null);
    const t = way[0].out.length > way[1].into.length ? 0.64 : 0.36, near = t * t * (3 - 2 * t);
    const at = free ? [x(free), free.y]
      : [x(way[0]) + WIDE / 2 + t * GAP, way[0].y + near * (way[1].y - way[0].y)];
    const more = shown.length > 1 ? ` +${shown.length - 1}` : "";
    texts.push(make("text", { class: "step", x: at[0], y: at[1] + 3.5 }, cut(shown[0], free ? 30 : 19) + more));
  }
  svg.append(...texts);
  const [first, end] = [stops[0]?.[0], stops.at(-1)?.[0]];
  for (const stop of stops.flat().filter((each) => each.entity)) {
    const { entity, step } = stop;
    const question = step.behind
      ? { relation: step.behind.relation, tail: entity.label }
      : { head: entity.label, relation: step.ahead.relation };
    const ask = () => go(question);
    const lines = twoLines(entity.name);
    svg.append(make("g", {
      role: "link", tabindex: "0", class: stop === first || stop === end ? "end" : "inner", onclick: ask,
      "aria-label": step.behind ? `${entity.name}: ask ? ${step.behind.name} ${entity.name}` : `${entity.name}: ask ${entity.name} ${step.ahead.name} ?`,
      onkeydown: (event) => { if (event.key === "Enter") ask(); },
    },
    make("title", {}, entity.name === entity.label ? entity.name : `${entity.name} (${entity.label})`),
    make("rect", { x: x(stop) - WIDE / 2, y: stop.y - TALL / 2, width: WIDE, height: TALL, rx: 7 }),
    make("text", {}, ...lines.map((line, i) => make("tspan", {
      x: x(stop), y: stop.y + 4 + 14 * (i - (lines.length - 1) / 2),
    }, line)))));
  }
}

function cut(text, most) {
  const letters = [...text];
  return letters.length <= most ? text : `${letters.slice(0, most / 2).join("")}…${letters.slice(-(most / 2 - 1)).join("")}`;
}

function twoLines(name, most = 19) {
  if (name.length <= most) return [name];
  const breaks = [...name.matchAll(/[\s_/-]+/g)].map((each) => each.index + each[0].length);
  const near = (at) => Math.abs(at - name.length / 2);
  const at = breaks.sort((a, b) => near(a) - near(b))[0];
  if (at === undefined || near(at) > name.length / 4) return [cut(name, most)];
  return [name.slice(0, at).trim(), name.slice(at)].map((line) => cut(line, most));
}

// Start

async function start() {
  for (const place of ["head", "tail"])
    combobox(by(place), (text, signal) => get("entities", { q: text, limit: 12 }, signal));
  combobox(by("relation"), async (text) => findRelations(text));
  by("question").addEventListener("submit", (event) => {
    event.preventDefault();
    go(Object.fromEntries(PLACES.map((place) => {
      const { value, dataset: { label } } = by(place), text = value.trim();
      return [place, text === "?" ? "" : text && (label || text)];
    })));
  });
  for (const choice of ["known", "typed"])
    by(choice).addEventListener("change", () => { if (location.search) by("question").requestSubmit(); });
  addEventListener("popstate", show);
  try {
    [about, relations] = await Promise.all([get("about"), get("relations")]);
  } catch (error) {
    return say(error.message, true);
  }
  const count = (number) => number.toLocaleString("en");
  by("run").textContent = `Ask ${about.run}`;
  by("about").textContent = `${about.data}: ${count(about.entities)} entities, ${count(about.relations)} relations, ${count(about.train)} train facts.`
    + (about.explains ? "" : " This one-path model has no explanations.");
  show();
}

start();
