"use strict";
// Draws paths as a graph from left to right, with one box an entity and one line a pair of entities.
// Columns of boxes and columns of lines' texts take turns. A line over several columns has a place
// of its own in each. So no line and no text lies under a box, and no text on another one.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = 8, BEND = [22, 60], TALL = 40, SPACE = 10, TEXT = 30, PASS = 8, SHIFT = 9;
const WIDEST_BOX = 150, WIDEST_TEXT = 170, STROKE = 5;
const ruler = document.createElement("canvas").getContext("2d");

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

function width(text, size) {
  ruler.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(text).width;
}

// The text without its middle, if it is wider than `most`.
function cut(text, size, most) {
  const letters = [...text];
  if (width(text, size) <= most) return text;
  for (let half = Math.floor(letters.length / 2); half > 0; half--) {
    const short = `${letters.slice(0, half).join("")}…${letters.slice(-half).join("")}`;
    if (width(short, size) <= most) return short;
  }
  return "…";
}

function twoLines(name, size, most) {
  if (width(name, size) <= most) return [name];
  const breaks = [...name.matchAll(/[\s_/-]+/g)].map((each) => each.index + each[0].length);
  const near = (at) => Math.abs(at - name.length / 2);
  const at = breaks.sort((a, b) => near(a) - near(b))[0];
  if (at === undefined || near(at) > name.length / 4) return [cut(name, size, most)];
  return [name.slice(0, at).trim(), name.slice(at)].map((line) => cut(line, size, most));
}

// The entities and the lines between them, with the sums of the weights.
function collect(paths) {
  const boxes = new Map(), lines = new Map(), loops = [];
  for (const { entities, steps, weight } of paths) {
    for (const entity of entities) {
      if (!boxes.has(entity.label)) boxes.set(entity.label, { entity, out: [], next: [], before: [] });
    }
    steps.forEach((step, i) => {
      const [from, to] = [entities[i].label, entities[i + 1].label];
      const key = JSON.stringify([from, to]);
      if (!lines.has(key)) lines.set(key, { from: boxes.get(from), to: boxes.get(to), weight: 0, names: new Map() });
      const line = lines.get(key);
      line.weight += weight;
      for (const each of step) line.names.set(each.name, (line.names.get(each.name) ?? 0) + each.weight);
    });
  }
  for (const line of lines.values()) {
    if (line.from === line.to) loops.push(line);
    else line.from.out.push(line);
  }
  return { boxes: [...boxes.values()], lines: [...lines.values()].filter((line) => line.from !== line.to), loops };
}

// Gives each box its column: the longest way from the head. Lines that lead back are marked, and
// those that leave the tail, which is in the last column.
function layer(boxes, head, tail) {
  const order = [], state = new Map();
  const visit = (box) => {
    state.set(box, "open");
    for (const line of box.out) {
      if (state.get(line.to) === "open" || box === tail && head !== tail) line.back = true;
      else if (!state.has(line.to)) visit(line.to);
    }
    state.set(box, "done");
    order.unshift(box);
  };
  boxes.forEach((box) => state.has(box) || visit(box));
  for (const box of order) box.column = box === head ? 0 : 2;
  for (const box of order) {
    for (const line of box.out) {
      if (!line.back) line.to.column = Math.max(line.to.column, box.column + 2);
    }
  }
  if (head !== tail) {
    const rest = boxes.filter((box) => box !== tail).map((box) => box.column);
    tail.column = Math.max(tail.column, ...rest.map((column) => column + 2));
  }
  // A box that only lines back lead to stands before the boxes that it leads to.
  const led = new Set(boxes.flatMap((box) => box.out.filter((line) => !line.back).map((line) => line.to)));
  for (const box of [...order].reverse()) {
    const on = box.out.filter((line) => !line.back).map((line) => line.to.column);
    if (box !== head && !led.has(box) && on.length) box.column = Math.max(2, Math.min(...on) - 2);
  }
}

// Heights that are nearest to the wanted ones, and far enough apart (isotonic regression).
function settle(items, wanted) {
  const offset = [0];
  for (let i = 1; i < items.length; i++) {
    offset.push(offset[i - 1] + (items[i - 1].height + items[i].height) / 2 + SPACE);
  }
  const blocks = [];
  items.forEach((item, i) => {
    blocks.push({ sum: wanted.get(item) - offset[i], count: 1 });
    for (let last = blocks.length - 1; last > 0; last--) {
      const [a, b] = [blocks[last - 1], blocks[last]];
      if (a.sum / a.count <= b.sum / b.count) break;
      blocks.splice(last - 1, 2, { sum: a.sum + b.sum, count: a.count + b.count });
    }
  });
  let i = 0;
  for (const { sum, count } of blocks) {
    for (let k = 0; k < count; k++, i++) items[i].y = sum / count + offset[i];
  }
}

function layout(paths) {
  const { boxes, lines, loops } = collect(paths);
  const find = (entity) => boxes.find((box) => box.entity.label === entity.label);
  layer(boxes, find(paths[0].entities[0]), find(paths[0].entities.at(-1)));
  const columns = [];
  const add = (item) => {
    (columns[item.column] ??= []).push(item);
    return item;
  };
  for (const box of boxes) {
    box.texts = twoLines(box.entity.name, 12, WIDEST_BOX - 12);
    box.width = Math.max(48, ...box.texts.map((text) => width(text, 12) + 12));
    box.shift = 0;
    add(box);
  }
  for (const line of lines) {
    const [first, end] = line.back ? [line.to, line.from] : [line.from, line.to];
    const [main, ...more] = [...line.names].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).map(([name]) => name);
    const rest = more.length ? ` +${more.length}` : "";
    line.text = cut(main, 11, WIDEST_TEXT - width(rest, 11)) + rest;
    line.stops = [first];
    for (let column = first.column + 1; column < end.column; column++) {
      const named = column === first.column + 1;
      line.stops.push(add({
        column, next: [], before: [], shift: named ? SHIFT : 0,
        width: named ? width(line.text, 11) + 6 : 0, height: named ? TEXT : PASS,
      }));
    }
    line.stops.push(end);
    for (let i = 1; i < line.stops.length; i++) {
      line.stops[i - 1].next.push(line.stops[i]);
      line.stops[i].before.push(line.stops[i - 1]);
    }
  }
  for (const box of boxes) box.height = Math.max(TALL, 9 * Math.max(box.next.length, box.before.length) + 8);
  for (const column of columns) settle(column, new Map(column.map((item) => [item, 0])));
  const mean = (item, near) => (near.length
    ? near.reduce((sum, each) => sum + each.y + each.shift, 0) / near.length - item.shift : item.y);
  for (let turn = 0; turn < 24; turn++) {
    const ordered = turn % 2 ? [...columns].reverse() : columns;
    for (const column of ordered) {
      const near = (item) => (turn > 7 ? [...item.before, ...item.next] : turn % 2 ? item.next : item.before);
      const wanted = new Map(column.map((item) => [item, mean(item, near(item))]));
      if (turn < 8) column.sort((a, b) => wanted.get(a) - wanted.get(b));
      settle(column, wanted);
    }
  }
  const all = columns.flat();
  const top = Math.min(...all.map((item) => item.y - item.height / 2)) - MARGIN - (loops.length ? 14 : 0);
  for (const item of all) item.y -= top;
  let x = MARGIN;
  columns.forEach((column, at) => {
    const wide = Math.max(...column.map((item) => item.width));
    const steep = Math.max(...column.flatMap((item) => [...item.before, ...item.next].map((each) => Math.abs(each.y - item.y))));
    const bend = at % 2 ? Math.min(Math.max(steep / 4, BEND[0]), BEND[1]) : 0;
    for (const item of column) Object.assign(item, { left: x + bend, right: x + bend + wide });
    x += wide + 2 * bend;
  });
  const height = Math.max(...all.map((item) => item.y + item.height / 2)) + MARGIN;
  return { boxes, lines, loops, width: x + MARGIN, height };
}

// Where a line meets a box: its lines have places of their own on each side.
function port(box, side, stop) {
  const stops = [...box[side]].sort((a, b) => a.y - b.y);
  const pitch = Math.min(12, (box.height - 12) / Math.max(stops.length - 1, 1));
  return box.y + pitch * (stops.indexOf(stop) - (stops.length - 1) / 2);
}

// Draws the paths into an `svg` and returns its width; `link` gives the address of an entity.
function drawGraph(svg, paths, link) {
  svg.replaceChildren();
  svg.toggleAttribute("hidden", !paths.length);
  if (!paths.length) return 0;
  const { boxes, lines, loops, width: wide, height } = layout(paths);
  svg.setAttribute("viewBox", `0 0 ${wide} ${height}`);
  svg.style.minWidth = `${0.72 * wide}px`;
  svg.style.maxWidth = `${wide}px`;
  const most = Math.max(...[...lines, ...loops].map((line) => Math.abs(line.weight))) || 1;
  const thick = (line) => 1 + STROKE * Math.abs(line.weight) / most;
  const told = (line) => make("title", {}, [...line.names].map(([name, weight]) => `${name}: ${weight.toFixed(2)}`).join("\n"));
  const texts = [];
  for (const line of lines) {
    const { stops, weight, back, text } = line;
    const stroke = thick(line), tip = 5 + 1.2 * stroke, kind = weight < 0 ? "minus" : "plus";
    const [first, end] = [stops[0], stops.at(-1)];
    const heights = stops.map((stop, i) => (i === 0 ? port(stop, "next", stops[1])
      : i === stops.length - 1 ? port(stop, "before", stops[i - 1]) : stop.y + stop.shift));
    let x = first.right + (back ? tip : 0), d = `M${x} ${heights[0]}`;
    for (let i = 1; i < stops.length; i++) {
      const to = stops[i].left - (i === stops.length - 1 && !back ? tip : 0);
      d += `C${(x + to) / 2} ${heights[i - 1]} ${(x + to) / 2} ${heights[i]} ${to} ${heights[i]}`;
      if (i < stops.length - 1) d += `H${stops[i].right}`;
      x = stops[i].right;
    }
    const [at, side, y] = back ? [first.right, 1, heights[0]] : [end.left, -1, heights.at(-1)];
    svg.append(
      make("path", { d, class: kind, "stroke-width": stroke }, told(line)),
      make("path", { d: `M${at} ${y}l${side * (tip + 1)} ${-tip / 2 - 1}v${tip + 2}z`, class: `tip ${kind}` }),
    );
    const name = stops[1];
    texts.push(make("text", { class: "step", x: (name.left + name.right) / 2, y: name.y + SHIFT - stroke / 2 - 4 }, text, told(line)));
  }
  for (const line of loops) {
    const { left, right, y, height: tall } = line.from, top = y - tall / 2, x = (left + right) / 2;
    const d = `M${x + 12} ${top}C${x + 18} ${top - 18} ${x - 18} ${top - 18} ${x - 12} ${top}`;
    svg.append(make("path", { d, class: line.weight < 0 ? "minus" : "plus", "stroke-width": thick(line) }, told(line)));
  }
  svg.append(...texts);
  const ends = [paths[0].entities[0].label, paths[0].entities.at(-1).label];
  for (const { entity, texts: rows, left, right, y, height: tall } of boxes) {
    const anchor = document.createElementNS(SVG, "a");
    anchor.setAttribute("href", link(entity.label));
    if (ends.includes(entity.label)) anchor.setAttribute("class", "end");
    anchor.append(
      make("title", {}, entity.name === entity.label ? entity.name : `${entity.name} (${entity.label})`),
      make("rect", { x: left, y: y - tall / 2, width: right - left, height: tall, rx: 7 }),
      make("text", {}, ...rows.map((row, i) => make("tspan", {
        x: (left + right) / 2, y: y + 4 + 14 * (i - (rows.length - 1) / 2),
      }, row))),
    );
    svg.append(anchor);
  }
  return wide;
}
