"use strict";
// The URL holds what is shown: head, relation and tail of a query or a triple, any_type=true, the
// explained answer in `why`; or an entity. Labels are inserted by textContent only, never as markup.

const PLACES = ["head", "relation", "tail"];
const MOST = 20, MOST_FACTS = 10, FOLD = 0.01, NARROW = matchMedia("(max-width: 44rem)");
// The scale of the graph of paths.
const SCALE = 1.15;
const by = (id) => document.getElementById(id);
const count = (number) => number.toLocaleString("en");
const SVG = "http://www.w3.org/2000/svg";
let about = {}, relations = [], shown = 0;

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const make = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

async function get(path, query = {}, signal = undefined) {
  const reply = await fetch(`/api/${path}?${new URLSearchParams(query)}`, { signal });
  const found = await reply.json();
  if (!reply.ok) throw new Error(found.message);
  return found;
}

function say(text, error = false) {
  by("status").textContent = text;
  by("status").classList.toggle("error", error);
}

// Addresses. A link of this page changes the address and shows the new content.

function address(query, why) {
  const given = Object.entries(query).filter(([place, value]) => PLACES.includes(place) && value && value !== "?");
  const asked = new URLSearchParams(given);
  if (by("any_type").checked) asked.set("any_type", "true");
  if (why !== undefined) asked.set("why", why);
  return `?${asked}`;
}

const entityAddress = (entity) => `?${new URLSearchParams({ entity })}`;
const link = (href, ...children) => make("a", { href }, ...children);

function go(href) {
  history.pushState(null, "", href);
  show();
}

addEventListener("click", (event) => {
  const href = event.target.closest?.("a")?.getAttribute("href");
  if (!href?.startsWith("?") || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(href);
});

// Names

function named({ label, name }) {
  return name === label ? [name] : [name, make("small", {}, label)];
}

function entityLink(entity) {
  return link(entityAddress(entity.label), entity.name);
}

function arrow({ head, relation, tail }) {
  return [head, make("span", { class: "arrow" }, ` —${relation}→ `), tail];
}

// The parts of a triple or a query; its entities are links.
function linkedArrow({ head, tail, names }) {
  const end = (label, name) => (label === "?" ? "?" : link(entityAddress(label), name));
  return arrow({ head: end(head, names.head), relation: names.relation, tail: end(tail, names.tail) });
}

function shownProbability(value) {
  return value < 0.001 ? "<0.001" : value > 0.999 ? ">0.999" : value.toFixed(3);
}

function chance(probability) {
  if (probability === null) return ["–"];
  const part = make("span");
  part.style.width = `${100 * probability}%`;
  return [make("span", { class: "bar", "aria-hidden": "true" }, part), shownProbability(probability)];
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
    }, make("span", { class: "count" }, count(each.facts)), ...named(each))));
    list.hidden = !found.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    if (found.length && input.value.trim()) point(0);
  };
  input.addEventListener("input", () => { delete input.dataset.label; open(); });
  input.addEventListener("focus", () => input.select());
  input.addEventListener("click", () => { if (list.hidden) open(); });
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

function fill(input, { label, name }) {
  input.value = name;
  input.dataset.label = label;
  input.title = label;
}

// Relations are few, so the search runs here, not on the server. Inverses come last.
function findRelations(text) {
  const words = text.toLowerCase().split(/[\s_]+/).filter(Boolean);
  const inverse = relations.map(({ label, name, facts }) => ({ label: `^${label}`, name: `^${name}`, facts }));
  const rank = ({ label, name }) => Math.min(...[label, name].map((each) => {
    const line = each.toLowerCase();
    if (!words.every((word) => line.includes(word))) return 3;
    return line === text.toLowerCase() ? 0 : line.startsWith(words[0]) ? 1 : 2;
  }));
  const hits = [...relations, ...inverse].filter((each) => rank(each) < 3);
  return words.length ? hits.sort((a, b) => rank(a) - rank(b)) : relations;
}

// Shows what the URL asks for, unless a newer address has come meanwhile.

async function show() {
  const own = ++shown, isNew = () => own === shown;
  const query = Object.fromEntries(new URLSearchParams(location.search));
  const given = PLACES.filter((place) => query[place]);
  by("any_type").checked = query.any_type === "true";
  for (const place of PLACES) fill(by(place), { label: query[place] ?? "", name: query[place] ?? "" });
  const view = query.entity !== undefined ? "entity" : given.length > 2 ? "score" : given.length ? "answers" : "start";
  const again = view === "answers" && !by("answers").hidden && by("answers").dataset.asked === JSON.stringify(given.map((place) => query[place]));
  for (const id of ["start", "answers", "score", "entity", "why"]) by(id).hidden = !(id === "start" && view === id || id === "answers" && again);
  document.title = about.run ? `${about.run} – kgtool` : "kgtool";
  if (view === "start") return say("");
  say("Asking …");
  try {
    let why;
    if (view === "entity") {
      const found = await get("facts", { entity: query.entity, limit: MOST_FACTS });
      if (!isNew()) return;
      showEntity(found);
    } else {
      const asked = Object.fromEntries(given.map((place) => [place, query[place]]));
      if (view === "score") {
        const found = await get("scores", asked);
        if (!isNew()) return;
        showScore(found);
        why = found.why;
      } else {
        const type = query.any_type === undefined ? {} : { any_type: query.any_type };
        const found = await get("answers", { ...asked, ...type, limit: MOST });
        if (!isNew()) return;
        showAnswers(found, query.why);
        by("answers").dataset.asked = JSON.stringify(given.map((place) => query[place]));
        why = [...found.known, ...found.answers].find((each) => each.label === query.why)?.why;
      }
    }
    const heading = { entity: "entity-name", score: "scored", answers: "asked" }[view];
    if (query.why === undefined) by(heading).focus({ preventScroll: true });
    if (why) {
      say("Looking for its paths …");
      const found = await get("explanation", { ...why, limit: 8 });
      if (!isNew()) return;
      showPaths(found, view === "answers");
    }
    say("");
  } catch (error) {
    if (isNew()) say(error.message, true);
  }
}

function showStart({ queries, entities }) {
  by("examples").replaceChildren(...queries.map((query) => make("li", {}, link(address(query), ...arrow(query.names)))));
  by("hubs").replaceChildren(...entities.map((each) => make("li", {}, entityLink(each), make("small", {}, count(each.facts)))));
}

function showAnswers({ asked, question, known, known_count, answers, other_types }, why) {
  for (const place of PLACES) {
    const given = place !== asked;
    fill(by(place), { label: given ? question[place] : "", name: given ? question.names[place] : "" });
  }
  const { head, relation, tail } = question.names;
  document.title = `${head} —${relation}→ ${tail} – kgtool`;
  by("asked").replaceChildren(...linkedArrow(question));
  const chosen = (each) => (each.label === why ? "chosen" : "");
  const target = (each) => (asked === "relation" ? link(address({ ...question, relation: each.label }), each.name) : entityLink(each));
  const name = (each) => [target(each), ...named(each).slice(1)];
  const reason = (each) => (each.why ? [make("a", {
    href: address(question, each.label), class: "why", "aria-label": `Why ${each.name}?`,
  }, "why?")] : []);
  by("known").hidden = !known_count;
  by("known-title").textContent = known_count === known.length ? `Known: ${count(known_count)}`
    : `Known: ${count(known_count)}, the ${known.length} with most facts`;
  by("known-list").replaceChildren(...known.map((each) => make("li", { class: chosen(each) },
    ...name(each), make("span", { class: "tag" }, each.split), ...reason(each))));
  const row = (each) => make("tr", { class: chosen(each) },
    make("th", { scope: "row", class: "text" }, ...name(each)),
    make("td", { class: "chance" }, ...chance(each.probability)),
    make("td", {}, each.score.toFixed(2)),
    make("td", {}, ...reason(each)));
  const low = answers.filter((each) => each.probability !== null && each.probability < FOLD);
  by("rows").replaceChildren(...answers.filter((each) => !low.includes(each)).map(row));
  by("folded").replaceChildren(...low.map(row));
  fold(!low.some((each) => each.label === why));
  by("answers").hidden = false;
  by("new-title").textContent = !answers.length ? "No answer that is not in the graph"
    : low.length === answers.length ? `Not in the graph: none has a probability of ${FOLD}` : "Not in the graph";
  by("any_type").parentElement.hidden = asked === "relation";
  by("other-types").textContent = other_types ? `include answers of other types: ${count(other_types)} left out` : "include answers of other types";
  by("meaning").textContent = !answers.length ? "" : meaning(answers.every((each) => each.probability === null));
}

function meaning(isScore) {
  return isScore ? "A higher score is a better answer; scores of other queries cannot be compared."
    : `The probability that the triple is a fact, if the graph lacks ${count(about.assumed_missing)} facts.`;
}

function fold(folded) {
  const rows = by("folded").children.length;
  by("folded").hidden = folded;
  by("answers").querySelector(".scroll").hidden = folded && !by("rows").children.length;
  by("unfold").hidden = !rows;
  by("unfold").setAttribute("aria-expanded", String(!folded));
  by("unfold").textContent = folded ? `Show ${rows} with a probability under ${FOLD}` : `Hide those under ${FOLD}`;
}

function showScore({ head, relation, tail, names, score, probability, split }) {
  const triple = { head, relation, tail, names };
  for (const place of PLACES) fill(by(place), { label: triple[place], name: names[place] });
  document.title = `${names.head} —${names.relation}→ ${names.tail} – kgtool`;
  by("scored").replaceChildren(...linkedArrow(triple));
  const rows = [["in the graph", split === null ? "no" : `yes, in ${split}`]];
  if (probability !== null) rows.push(["probability", shownProbability(probability)]);
  rows.push(["score", score.toFixed(2)]);
  by("facts-of-score").replaceChildren(...rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  by("score-meaning").textContent = split !== null
    ? "This is a known fact, so it has no probability. A path of the explanation does not use the fact itself."
    : meaning(probability === null);
  by("next").replaceChildren(...PLACES.map((place) => make("li", {}, link(
    address({ ...triple, [place]: "" }), ...arrow({ ...names, [place]: "?" })))));
  by("score").hidden = false;
}

function showEntity({ label, name, facts, types, as_head, as_tail, groups, neighbours, neighbours_count }) {
  fill(by("head"), { label, name });
  document.title = `${name} – kgtool`;
  by("entity-name").replaceChildren(name, ...named({ label, name }).slice(1));
  by("entity-about").textContent = [
    ...types, `${count(facts)} facts: ${count(as_head)} as head, ${count(as_tail)} as tail`,
  ].join(" · ");
  by("groups").replaceChildren(...groups.flatMap(({ relation, side, count: number, others }) => {
    const ask = { relation: relation.label, [side]: label };
    const text = side === "head" ? `${relation.name} →` : `← ${relation.name}`;
    return [
      make("dt", {}, link(address(ask), text), make("small", {}, count(number))),
      make("dd", {}, make("ul", { class: "inline" },
        ...others.map((each) => make("li", {}, entityLink(each), ...(each.split === "train" ? [] : [make("span", { class: "tag" }, each.split)]))),
        ...(number > others.length ? [make("li", { class: "quiet" }, `and ${count(number - others.length)} more`)] : []))),
    ];
  }));
  by("neighbours").hidden = !neighbours_count;
  by("neighbours-title").replaceChildren("Neighbours", make("small", {}, count(neighbours_count)));
  by("neighbour-list").replaceChildren(
    ...neighbours.map((each) => make("li", {}, entityLink(each), ...(each.facts > 1 ? [make("small", {}, `${each.facts} facts`)] : []))),
    ...(neighbours_count > neighbours.length ? [make("li", { class: "quiet" }, `and ${count(neighbours_count - neighbours.length)} more`)] : []));
  by("entity").hidden = false;
}

// Draws a reply's drawing into an `svg`. Its texts are 11 and 9.5 pixels high before `SCALE`.
function drawPaths(svg, drawing) {
  svg.replaceChildren();
  svg.toggleAttribute("hidden", !drawing);
  if (!drawing) return;
  const { width, height, boxes, lines } = drawing;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.style.minWidth = `${0.8 * SCALE * width}px`;
  svg.style.maxWidth = `${SCALE * width}px`;
  const text = (rows, size, x, y) => draw("text", { "font-size": size }, ...rows.map((row, i) => draw("tspan", {
    x, y: y + (i - (rows.length - 1) / 2) * (size + 1) + 0.35 * size,
  }, row)));
  for (const { path, stroke, lowers, back, title } of lines) {
    const kind = lowers ? "minus" : "plus", tip = `marker-${back ? "start" : "end"}`;
    svg.append(draw("path", { d: path, class: kind, "stroke-width": stroke, [tip]: `url(#${kind})` }, draw("title", {}, title)));
  }
  for (const { lines: rows, x, y, title } of lines) {
    if (rows.length) svg.append(draw("g", { class: "step" }, draw("title", {}, title), text(rows, 9.5, x, y)));
  }
  for (const { label, name, x, y, width: wide, height: tall, lines: rows, end } of boxes) {
    svg.append(draw("a", { href: entityAddress(label), class: end ? "end" : undefined },
      draw("title", {}, name === label ? name : `${name} (${label})`),
      draw("rect", { x: x - wide / 2, y: y - tall / 2, width: wide, height: tall, rx: 7 }), text(rows, 11, x, y)));
  }
}

function showPaths({ head, relation, tail, score, carried, embeddings, paths, drawing }, move) {
  by("why").hidden = false;
  by("explained").replaceChildren(
    "Why ", ...arrow({ head: head.name, relation: relation.name, tail: tail.name }));
  by("total").textContent = !paths.length ? "No path of the model leads from the head to the tail."
    : `${paths.length === 1 ? "This path carries" : `These ${paths.length} paths carry`} ${carried.toFixed(2)}`
      + ` of the score ${score.toFixed(2)}. The rest is ${(score - carried).toFixed(2)}`
      + `${embeddings === null ? "." : `, and ${embeddings.toFixed(2)} of it comes from embeddings.`}`;
  by("legend").hidden = by("in-words").hidden = !paths.length;
  by("words").textContent = paths.length === 1 ? "The path in words" : `The ${paths.length} paths in words`;
  by("in-words").open = NARROW.matches;
  by("paths").replaceChildren(...paths.map((path) => make(
    "li", {}, make("span", { class: path.weight < 0 ? "weight minus" : "weight" }, path.weight.toFixed(2)),
    make("span", { class: "fall" }, ` (fall ${path.fall.toFixed(2)}) `),
    entityLink(path.entities[0]),
    ...path.steps.flatMap((step, i) => [
      make("span", { class: "arrow" }, ` —${step.map((each) => each.name).join(", ")}→ `),
      entityLink(path.entities[i + 1]),
    ]),
  )));
  drawPaths(by("graph"), drawing);
  by("why").classList.remove("broad");
  by("why").classList.toggle("broad", drawing && 0.8 * SCALE * drawing.width > by("why").clientWidth);
  if (!move) return;
  by("explained").focus({ preventScroll: true });
  by("why").scrollIntoView({ block: "nearest" });
}

// Start

async function start() {
  for (const place of ["head", "tail"])
    combobox(by(place), (text, signal) => get("entities", { q: text, limit: 12 }, signal));
  combobox(by("relation"), async (text) => findRelations(text));
  by("question").addEventListener("submit", (event) => {
    event.preventDefault();
    const query = Object.fromEntries(PLACES.map((place) => {
      const { value, dataset: { label } } = by(place), text = value.trim();
      return [place, text === "?" ? "" : text && (label || text)];
    }));
    const [only, ...more] = PLACES.filter((place) => query[place]);
    const alone = only && only !== "relation" && !more.length;
    go(alone ? entityAddress(query[only]) : only ? address(query) : "/");
  });
  by("any_type").addEventListener("change", () => by("question").requestSubmit());
  by("unfold").addEventListener("click", () => fold(!by("folded").hidden));
  addEventListener("popstate", show);
  try {
    let examples;
    [about, relations, examples] = await Promise.all([get("about"), get("relations"), get("examples")]);
    showStart(examples);
  } catch (error) {
    return say(error.message, true);
  }
  by("run").textContent = `Ask ${about.run}`;
  by("about").textContent = `${about.data}: ${count(about.entities)} entities, ${count(about.relations)} relations, ${count(about.train)} train facts.`
    + (about.explains ? "" : " This one-path model has no explanations.");
  show();
}

start();
