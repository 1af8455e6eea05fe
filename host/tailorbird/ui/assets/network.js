"use strict";
// Draws the atlas: every open module is laid out by itself (dagre), inside out, so that any number of operators stays
// quick and opening one module moves nothing inside another.
const atlas = JSON.parse(document.getElementById("atlas").textContent);
const stage = document.getElementById("stage");
const tip = document.getElementById("tip");
const names = new Map([...document.querySelectorAll("aside [data-d]")].map((row) => [Number(row.dataset.d), row]));
const SVG = "http" + "://www.w3.org/2000/svg";
const HEAD = 26, PAD = 14, BAND = 5;

// ---- the tree of module calls; an operator is [index], a call is an object with children

const root = { index: -1, path: "", parent: null, across: false, children: [], open: true, operators: [] };
const calls = atlas.calls.map((call, index) => ({ ...call, index, children: [], open: false, operators: [] }));
const operators = atlas.operators.map((o, index) => ({ ...o, shape: o.shape.replaceAll(" x ", " × "), index, leaf: true }));
for (const call of calls) {
  call.parent = call.parent < 0 ? root : calls[call.parent];
  call.parent.children.push(call);
}
root.depth = -1;
for (const call of calls) call.depth = call.parent.depth + 1;
for (const o of operators) {
  o.parent = o.call < 0 ? root : calls[o.call];
  o.parent.children.push(o);
  for (let up = o.parent; up; up = up.parent) up.operators.push(o);
}
for (const call of [root, ...calls]) {
  const first = (child) => (child.leaf ? child.index : child.operators[0].index);
  call.children.sort((a, b) => first(a) - first(b));
  const last = call.operators.at(-1);
  call.bands = last ? last.bands : [];
  call.dimensions = [...new Set(call.operators.flatMap((o) => o.dimensions))];
  call.parameters = call.operators.reduce((sum, o) => sum + o.parameters, 0);
  
}

// Blocks: an operator belongs to those whose body it is in; a call to one that holds all of its weights.
for (const o of operators) o.blocks = [];
for (const area of atlas.areas) for (const index of area.operators) operators[index].blocks.push(area.dimension);
for (const call of calls) {
  const weighty = call.operators.filter((o) => o.parameters);
  call.blocks = weighty.length ? weighty[0].blocks.filter((d) => weighty.every((o) => o.blocks.includes(d))) : [];
  call.covered = weighty.length > 0 && weighty.every((o) => o.blocks.length); // by one block or by several
}
const outermost = (item) => {
  const around = new Set();
  for (let up = item.parent; up && up !== root; up = up.parent) for (const d of up.blocks) around.add(d);
  return item.blocks.some((d) => !around.has(d));
};

// ---- words

const short = (path, parent) => (parent && parent.path && path.startsWith(parent.path + ".") ? path.slice(parent.path.length + 1) : path);
function count(value) {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (value >= size) return (value / size).toPrecision(3) + " " + unit;
  }
  return String(value);
}
function labels(item) {
  if (!item.leaf) return [short(item.path, item.parent), [item.kind, item.parameters ? count(item.parameters) : ""].filter(Boolean).join(" · ")];
  if (item.op === "input" || item.op === "output") return [item.op === "input" ? item.name : "output", item.shape];
  const title = item.module ? short(item.module, item.parent) : item.op;
  return [title, [item.module && item.kind !== title ? item.op : "", item.shape.replace(/^N × /, "")].filter(Boolean).join("  ")];
}
const dimensionWords = (d) => {
  const row = names.get(d);
  return row ? ["b", "span", "em"].map((part) => row.querySelector(part)?.textContent).filter(Boolean).join(" ") : "";
};
function details(item) {
  const lines = [item.leaf ? item.module || item.name : item.path];
  if (item.kind) lines[0] += `  (${item.kind})`;
  if (item.leaf) {
    lines.push([item.op === "input" || item.op === "output" ? "" : item.op, item.shape].filter(Boolean).join("  "));
    const seen = [...new Set(item.bands.map((band) => band.dimension))];
    for (const d of seen.slice(0, 6)) lines.push(d < 0 ? "a part that keeps its size" : "output: " + dimensionWords(d));
    if (seen.length > 6) lines.push(`and ${seen.length - 6} more groups`);
    if (!item.bands.length) lines.push(item.pin ? "keeps its size: " + item.pin : "nothing here can shrink");
  } else {
    lines.push(`${item.operators.length} operators, ${item.dimensions.length} groups; click to ${item.open ? "close" : "open"}`);
  }
  if (item.parameters) lines.push(count(item.parameters) + " parameters");
  const skips = item.leaf || item.blocks.length ? item.blocks : item.covered ? [...new Set(item.operators.flatMap((o) => o.blocks))] : [];
  for (const d of skips.slice(0, 4)) lines.push("can be skipped: " + dimensionWords(d));
  if (item.line) lines.push(item.line);
  return lines.filter(Boolean).join("\n");
}

// ---- layout: sizes from the inside out, then places from the outside in

const ruler = document.createElement("canvas").getContext("2d");
const family = getComputedStyle(document.body).fontFamily;
function width(words, font) {
  ruler.font = `${font} ${family}`;
  return ruler.measureText(words).width;
}
function clip(words, font, most) {
  if (width(words, font) <= most) return words;
  let end = words.length;
  while (end > 1 && width(words.slice(0, end) + "…", font) > most) end -= 1;
  return words.slice(0, end) + "…";
}
const STRONG = "600 13px", SOFT = "11px";

function measure(item) {
  if (item.leaf || !item.open) {
    const [title, under] = labels(item);
    item.title = clip(title, STRONG, 230);
    item.under = clip(under, SOFT, 230);
    item.w = Math.max(84, Math.ceil(Math.max(width(item.title, STRONG) + (item.leaf ? 0 : 20), width(item.under, SOFT)) + 24));
    item.h = item.under ? 44 : 32;
    return;
  }
  for (const child of item.children) measure(child);
  const across = item.across;
  const signature = [across, ...item.children.map((child) => `${child.w},${child.h},${child.open},${child.across}`), ...item.sources.keys()].join("|");
  if (signature === item.signature) { // nothing inside changed: the last layout holds
    for (const [child, dx, dy] of item.placed) [child.dx, child.dy] = [dx, dy];
    [item.w, item.h] = item.size;
    return;
  }
  item.signature = signature;
  const graph = new dagre.graphlib.Graph({ multigraph: false });
  graph.setGraph({ rankdir: across ? "LR" : "TB", ranksep: 26, nodesep: across ? 18 : 22, edgesep: 10, marginx: 0, marginy: 0 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const child of item.children) graph.setNode(key(child), { width: child.w, height: child.h, child });
  for (const [from, to] of item.inner) {
    for (const end of [from, to]) if (typeof end === "string" && !graph.hasNode(end)) graph.setNode(end, { width: 2, height: 1 });
    graph.setEdge(typeof from === "string" ? from : key(from), typeof to === "string" ? to : key(to), {});
  }
  dagre.layout(graph);
  const size = graph.graph();
  const nodes = graph.nodes().map((name) => graph.node(name));
  const bends = graph.edges().flatMap((e) => graph.edge(e).points);
  const left = Math.min(...nodes.map((n) => n.x - n.width / 2), ...bends.map((p) => p.x), 0);
  const right = Math.max(...nodes.map((n) => n.x + n.width / 2), ...bends.map((p) => p.x));
  const isRoot = item === root;
  const [title, under] = isRoot ? ["", ""] : labels(item);
  item.title = title;
  item.under = under;
  const wanted = isRoot ? 0 : width(title, "600 12.5px") + width(under, SOFT) + 60;
  const inner = right - left;
  // A border that edges come through needs no padding: its port already keeps the distance of a rank.
  const pad = (port, along) => (isRoot || (along && graph.hasNode(port)) ? 0 : PAD);
  const above = (isRoot ? 0 : HEAD) + pad("in", !across), below = pad("out", !across);
  const before = pad("in", across), after = pad("out", across);
  item.w = Math.max(inner + before + after, Math.ceil(wanted));
  item.h = size.height + above + below;
  const dx = before + (item.w - inner - before - after) / 2 - left, dy = above;
  for (const node of nodes) if (node.child) [node.child.dx, node.child.dy] = [node.x - node.width / 2 + dx, node.y - node.height / 2 + dy];
  item.routes = graph.edges().map((e) => {
    const from = graph.node(e.v), to = graph.node(e.w);
    let points = graph.edge(e).points.map((p) => [p.x + dx, p.y + dy]);
    if (points.length <= 3) points = [points[0], points.at(-1)];
    points[0] = from.child ? leave(from, across, dx, dy) : across ? [0, from.y + dy] : [from.x + dx, HEAD];
    points[points.length - 1] = to.child ? enter(to, across, dx, dy) : across ? [item.w, to.y + dy] : [to.x + dx, item.h];
    return { points, across, source: item.sources.get(e.v + ">" + e.w) };
  });
  item.placed = item.children.map((child) => [child, child.dx, child.dy]);
  item.size = [item.w, item.h];
}
// Where an edge meets a box; an open module is met where its own edges begin and end.
function enter(node, across, dx, dy) {
  const child = node.child, x = node.x + dx, y = node.y + dy, open = !child.leaf && child.open;
  if (across) return [x - child.w / 2, open && !child.across ? y - child.h / 2 + HEAD / 2 : y];
  return [open && child.across ? x - child.w / 2 + 16 : x, y - child.h / 2];
}
function leave(node, across, dx, dy) {
  const child = node.child, x = node.x + dx, y = node.y + dy, open = !child.leaf && child.open;
  if (across) return [x + child.w / 2, open && !child.across ? y + child.h / 2 - 12 : y];
  return [open && child.across ? x + child.w / 2 - 16 : x, y + child.h / 2];
}
const key = (item) => (item.leaf ? "o" : "c") + item.index;

// Edges of the level each belongs to: between two children of the innermost module that holds both ends, and from or
// to the border of every open module in between.
function connect() {
  for (const item of [root, ...calls]) [item.inner, item.sources] = [[], new Map()];
  const put = (level, from, to, source) => {
    const name = (typeof from === "string" ? from : key(from)) + ">" + (typeof to === "string" ? to : key(to));
    if (!level.sources.has(name)) {
      level.sources.set(name, []);
      level.inner.push([from, to]);
    }
    level.sources.get(name).push(source);
  };
  for (const [from, to] of atlas.edges) {
    const a = chain(operators[from]), b = chain(operators[to]);
    let depth = 0;
    while (a[depth] === b[depth] && depth + 1 < a.length && depth + 1 < b.length) depth += 1;
    if (a[depth] === b[depth]) continue; // both inside one closed module
    put(a[depth].parent, a[depth], b[depth], from);
    for (let i = depth + 1; i < a.length; i += 1) put(a[i].parent, a[i], "out", from);
    for (let i = depth + 1; i < b.length; i += 1) put(b[i].parent, "in", b[i], from);
  }
}
/** What is visible of an operator, outermost first: open modules around it, then a closed one or the operator. */
function chain(operator) {
  const found = [operator];
  for (let up = operator.parent; up !== root; up = up.parent) found.unshift(up);
  const closed = found.findIndex((item) => !item.leaf && !item.open);
  return closed < 0 ? found : found.slice(0, closed + 1);
}

// ---- drawing

function make(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  if (parent) parent.append(node);
  return node;
}
const colour = (d) => (d < 0 ? "var(--fixed)" : `var(--d${d})`);

function strip(item, group) {
  const bands = item.bands.length ? item.bands : [{ dimension: -1, size: 1 }];
  const total = bands.reduce((sum, band) => sum + band.size, 0);
  const clipped = make("g", { class: "strip" }, group);
  const room = item.w - 16;
  let x = 8;
  for (const band of bands) {
    const wide = (room * band.size) / total;
    make("rect", { x: x.toFixed(1), y: item.h - BAND - 3, width: Math.max(wide - (bands.length > 1 && wide > 4 ? 1 : 0), 0.6).toFixed(1), height: BAND, rx: 2, style: `fill:${colour(band.dimension)}` }, clipped);
    x += wide;
  }
}
function smooth(points, across) {
  if (points.length < 3) {
    const [[x1, y1], [x2, y2]] = [points[0], points.at(-1)];
    const mid = (y1 + y2) / 2, middle = (x1 + x2) / 2;
    if (across) return `M${x1.toFixed(1)} ${y1.toFixed(1)}C${middle.toFixed(1)} ${y1.toFixed(1)} ${middle.toFixed(1)} ${y2.toFixed(1)} ${x2.toFixed(1)} ${y2.toFixed(1)}`;
    return `M${x1.toFixed(1)} ${y1.toFixed(1)}C${x1.toFixed(1)} ${mid.toFixed(1)} ${x2.toFixed(1)} ${mid.toFixed(1)} ${x2.toFixed(1)} ${y2.toFixed(1)}`;
  }
  let path = `M${points[0].map((v) => v.toFixed(1)).join(" ")}`;
  for (let i = 1; i + 1 < points.length; i += 1) {
    const end = i + 2 === points.length ? points[i + 1] : [(points[i][0] + points[i + 1][0]) / 2, (points[i][1] + points[i + 1][1]) / 2];
    path += `Q${points[i].map((v) => v.toFixed(1)).join(" ")} ${end.map((v) => v.toFixed(1)).join(" ")}`;
  }
  return path;
}
let world, shown = [];

function paint(item, parent) {
  const group = make("g", { transform: `translate(${item.dx.toFixed(1)} ${item.dy.toFixed(1)})`, tabindex: 0 }, parent);
  group.item = item;
  const kinds = [item.leaf ? "operator" : item.open ? "frame" : "module"];
  if ((item.blocks.length && outermost(item)) || (item.covered && !item.open && !item.blocks.length)) kinds.push("skip");
  if (item.leaf && !item.bands.length) kinds.push("pinned");
  if (item.op === "input" || item.op === "output") kinds.push("io");
  group.setAttribute("class", kinds.join(" "));
  group.kinds = kinds;
  shown.push(group);
  make("rect", { class: "box", width: item.w, height: item.h }, group);
  if (!item.leaf && item.open) {
    make("rect", { class: "head", width: item.w, height: HEAD }, group);
    make("text", { class: "label", x: 12, y: 18 }, group).textContent = item.title;
    make("text", { class: "under", x: 12 + width(item.title, "600 12.5px") + 8, y: 18 }, group).textContent = item.under;
    make("text", { class: "sign", x: item.w - 14, y: 18 }, group).textContent = "−";
    inside(item, group);
    return;
  }
  make("text", { class: "label", x: 12, y: item.under ? 17 : 19 }, group).textContent = item.title;
  if (item.under) make("text", { class: "under", x: 12, y: 31 }, group).textContent = item.under;
  if (!item.leaf) make("text", { class: "sign", x: item.w - 13, y: 18 }, group).textContent = "+";
  strip(item, group);
}
function inside(item, group) {
  for (const route of item.routes) {
    const bands = operators[route.source[0]].bands;
    const dimensions = [...new Set(route.source.flatMap((index) => operators[index].bands.map((band) => band.dimension)))];
    const widest = [...bands].sort((a, b) => b.size - a.size)[0];
    const path = make("path", { class: "edge", d: smooth(route.points, route.across), style: `stroke:${colour(widest ? widest.dimension : -1)}` }, group);
    path.dimensions = dimensions;
    shown.push(path);
  }
  for (const child of item.children) paint(child, group);
}
function render() {
  connect();
  measure(root);
  stage.replaceChildren();
  shown = [];
  world = make("g", {}, stage);
  inside(root, world);
  move();
  light(locked);
}

// ---- view: pan, zoom, fit

let view = { x: 0, y: 0, k: 1 };
function move() {
  world.setAttribute("transform", `translate(${view.x.toFixed(2)} ${view.y.toFixed(2)}) scale(${view.k.toFixed(4)})`);
}
function fit(least = 0) {
  const { width: w, height: h } = stage.getBoundingClientRect();
  const room = { w: w - 48, h: h - 96 };
  const k = Math.max(Math.min(room.w / root.w, room.h / root.h, 1.15), Math.min(least, room.w / root.w));
  view = { k, x: (w - root.w * k) / 2, y: root.h * k > room.h ? 52 : 52 + (room.h - root.h * k) / 2 };
  move();
}
function zoom(factor, x, y) {
  const k = Math.min(Math.max(view.k * factor, 0.02), 4);
  view = { k, x: x - ((x - view.x) * k) / view.k, y: y - ((y - view.y) * k) / view.k };
  move();
}
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = stage.getBoundingClientRect();
  if (event.ctrlKey || event.metaKey || !event.shiftKey) zoom(Math.exp(-event.deltaY * 0.0016), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
let drag = null;
stage.addEventListener("pointerdown", (event) => {
  drag = { x: event.clientX, y: event.clientY, from: { ...view }, moved: false };
});
addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
  if (!drag.moved && Math.hypot(dx, dy) < 4) return;
  drag.moved = true;
  stage.classList.add("drag");
  view = { ...view, x: drag.from.x + dx, y: drag.from.y + dy };
  move();
});
addEventListener("pointerup", () => {
  stage.classList.remove("drag");
  setTimeout(() => { drag = null; });
});

// ---- what moves together

let locked = null;
const local = new Set(operators.flatMap((o) => [...o.dimensions, ...o.blocks]));
/** Light up whatever holds a dimension (a Set of them); null for everything as it is. */
function light(wanted) {
  stage.classList.toggle("lit", wanted !== null);
  const everywhere = wanted !== null && [...wanted].some((d) => !local.has(d)); // such as the resolution
  const only = wanted && wanted.size === 1 ? [...wanted][0] : null;
  for (const node of shown) {
    const item = node.item;
    const on = everywhere || wanted !== null && (item ? [...item.dimensions, ...item.blocks].some((d) => wanted.has(d)) : node.dimensions.some((d) => wanted.has(d)));
    node.classList.toggle("on", on);
    if (item) node.style.setProperty("--c", on && only !== null && item.dimensions.includes(only) ? colour(only) : "");
  }
  for (const [d, row] of names) row.classList.toggle("on", wanted !== null && wanted.has(d));
}
for (const [d, row] of names) {
  row.addEventListener("pointerenter", () => light(new Set([d])));
  row.addEventListener("focus", () => light(new Set([d])));
  for (const leave of ["pointerleave", "blur"]) row.addEventListener(leave, () => light(locked));
  row.addEventListener("click", () => {
    locked = locked && locked.has(d) && locked.size === 1 ? null : new Set([d]);
    light(locked);
  });
}
const groupOf = (target) => {
  for (let node = target; node && node !== stage; node = node.parentNode) if (node.item) return node;
  return null;
};
function toggle(call) {
  const before = place(call);
  call.open = !call.open;
  render();
  const after = place(call); // what was clicked stays under the pointer
  view = { ...view, x: view.x + (before[0] - after[0]) * view.k, y: view.y + (before[1] - after[1]) * view.k };
  move();
}
function place(item) {
  let [x, y] = [0, 0];
  for (let up = item; up !== root; up = up.parent) [x, y] = [x + up.dx, y + up.dy];
  return [x, y];
}
stage.addEventListener("click", (event) => {
  if (drag && drag.moved) return;
  const group = groupOf(event.target);
  if (!group) {
    locked = null;
    light(null);
  } else if (!group.item.leaf && (!group.item.open || event.target.classList.contains("head") || event.target.classList.contains("sign") || event.target.parentNode === group && event.target.classList.contains("label"))) {
    tip.textContent = "";
    toggle(group.item);
  } else if (group.item.leaf) {
    const own = new Set(group.item.bands.map((band) => band.dimension).filter((d) => d >= 0));
    locked = own.size && !(locked && [...own].every((d) => locked.has(d))) ? own : null;
    light(locked);
    if (locked) names.get([...own][0])?.scrollIntoView({ block: "nearest" });
  }
});
stage.addEventListener("keydown", (event) => {
  const group = groupOf(event.target);
  if ((event.key === "Enter" || event.key === " ") && group && !group.item.leaf) {
    event.preventDefault();
    toggle(group.item);
    shown.find((node) => node.item === group.item)?.focus();
  }
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    locked = null;
    search.value = "";
    find("");
    light(null);
  }
});
stage.addEventListener("pointermove", (event) => {
  const group = drag && drag.moved ? null : groupOf(event.target);
  tip.textContent = group && (group.item.leaf || !group.item.open || event.target.classList.contains("head")) ? details(group.item) : "";
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(6, Math.min(event.clientX + 16, innerWidth - box.width - 8)) + "px";
  tip.style.top = (event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 12 : event.clientY + 18) + "px";
});
stage.addEventListener("pointerleave", () => { tip.textContent = ""; });

// ---- how much is open

const levels = Math.max(0, ...calls.map((call) => call.depth));
let level = 0;
// Each level runs from top to bottom or from left to right, whichever shows more of the network in this window.
const COURSES = [[false, false], [true, false], [false, true], [true, true]];
function arrange(depth) {
  for (const call of calls) call.open = call.depth <= depth;
  connect();
  const box = stage.getBoundingClientRect();
  const scales = COURSES.map(([outer, inner]) => {
    root.across = outer;
    for (const call of calls) call.across = call.depth === 0 && inner;
    measure(root);
    return Math.min((box.width - 48) / root.w, (box.height - 96) / root.h);
  });
  const best = scales.indexOf(Math.max(...scales));
  root.across = COURSES[best][0];
  for (const call of calls) call.across = call.depth === 0 && COURSES[best][1];
  return scales[best];
}
function openTo(depth) {
  level = Math.max(-1, Math.min(depth, levels));
  arrange(level);
  render();
}
const visible = (depth) => [...calls, ...operators].filter((item) => (item.parent === root || item.parent.depth <= depth) && (item.leaf || item.depth > depth)).length;
document.getElementById("more").addEventListener("click", () => { openTo(level + 1); fit(0.5); });
document.getElementById("less").addEventListener("click", () => { openTo(level - 1); fit(0.5); });
document.getElementById("fit").addEventListener("click", () => fit());
for (const [name, factor] of [["in", 1.3], ["out", 1 / 1.3]]) {
  document.getElementById(name).addEventListener("click", () => {
    const box = stage.getBoundingClientRect();
    zoom(factor, box.width / 2, box.height / 2);
  });
}
document.getElementById("theme").addEventListener("click", () => {
  const page = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  page.dataset.theme = (page.dataset.theme || system) === "dark" ? "light" : "dark";
});

// ---- search: rows of the panel, modules and operators

const search = document.getElementById("search");
function find(words) {
  const wanted = words.trim().toLowerCase();
  for (const row of names.values()) row.parentNode.hidden = wanted !== "" && !row.textContent.toLowerCase().includes(wanted);
  if (!wanted) return light(locked);
  stage.classList.add("lit");
  const hit = (item) => [item.path, item.module, item.name, item.op, item.kind].some((text) => text && text.toLowerCase().includes(wanted));
  for (const node of shown) {
    node.classList.toggle("on", Boolean(node.item) && (hit(node.item) || (!node.item.leaf && !node.item.open && node.item.operators.some(hit))));
  }
}
search.addEventListener("input", () => find(search.value));

// ---- start: as deep as fits into a look

// A link may ask for more: network.html#level=2&group=layer2.0.conv1
const asked = new URLSearchParams(location.hash.slice(1));
let start = levels;
while (start >= 0 && (visible(start) > 90 || arrange(start) < 0.6)) start -= 1;
openTo(asked.has("level") ? Number(asked.get("level")) : start);
fit(0.5);
for (const [d, row] of names) {
  if (row.querySelector("b").textContent === asked.get("group")) {
    locked = new Set([d]);
    light(locked);
    row.scrollIntoView({ block: "center" });
  }
}
addEventListener("resize", () => fit(0.5));
