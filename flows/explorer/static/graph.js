// A small graph as SVG: nodes that are links, edges by relation type. The layout is the same for the same graph.
import {
  itemUrl,
  lineageUrl,
  shortened,
  titleOf,
  words
} from "./common.js";

const SVG = "http://www.w3.org/2000/svg";
const COLORS = 10;
const DASHES = ["", "7 4", "2 4", "10 3 2 3"];
let drawn = 0;

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes))
    if (value !== null && value !== undefined) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const RADIUS = {
  item: 52,
  neighbor: 40,
  entity: 11
};

/** Positions by springs and repulsion, from a circle in the order of the nodes; stretched to the shape of the box. */
function layout(nodes, edges, shape) {
  const at = new Map();
  const ring = nodes.filter((node) => node.kind === "neighbor");
  nodes.forEach((node) => {
    if (node.kind === "item") at.set(node.id, {
      x: 0,
      y: 0
    });
  });
  ring.forEach((node, index) => {
    const angle = -Math.PI / 2 + (2 * Math.PI * index) / ring.length;
    at.set(node.id, {
      x: 300 * Math.cos(angle),
      y: 250 * Math.sin(angle)
    });
  });
  nodes.filter((node) => !at.has(node.id)).forEach((node, index) => {
    const ends = edges.filter((edge) => edge.to_id === node.id || edge.from_id === node.id).map((edge) => at.get(
      edge.to_id === node.id ? edge.from_id : edge.to_id)).filter(Boolean);
    const sum = ends.reduce((total, end) => ({
      x: total.x + end.x,
      y: total.y + end.y
    }), {
      x: 0,
      y: 0
    });
    at.set(node.id, {
      x: sum.x / (ends.length || 1) + 14 * Math.cos(index * 2.4),
      y: sum.y / (ends.length || 1) + 14 * Math.sin(index * 2.4)
    });
  });
  const places = nodes.map((node) => at.get(node.id));
  const index = new Map(nodes.map((node, number) => [node.id, number]));
  for (let round = 0; round < 240; round += 1) {
    const cool = 1 - round / 240,
      force = places.map(() => ({
        x: 0,
        y: 0
      }));
    for (let i = 0; i < places.length; i += 1)
      for (let j = i + 1; j < places.length; j += 1) {
        const x = places[i].x - places[j].x,
          y = places[i].y - places[j].y,
          square = Math.max(x * x + y * y, 60);
        const push = (nodes[i].kind === "entity" && nodes[j].kind === "entity" ? 9000 : 26000) / square,
          length = Math.sqrt(square);
        force[i].x += (push * x) / length;
        force[i].y += (push * y) / length;
        force[j].x -= (push * x) / length;
        force[j].y -= (push * y) / length;
      }
    for (const edge of edges) {
      const i = index.get(edge.from_id),
        j = index.get(edge.to_id);
      if (i === undefined || j === undefined) continue;
      const x = places[j].x - places[i].x,
        y = places[j].y - places[i].y,
        pull = 0.012 * (Math.hypot(x, y) - 110) / Math.max(Math.hypot(x, y), 1);
      force[i].x += pull * x;
      force[i].y += pull * y;
      force[j].x -= pull * x;
      force[j].y -= pull * y;
    }
    places.forEach((place, number) => {
      if (nodes[number].kind === "item") return;
      const move = Math.hypot(force[number].x, force[number].y),
        most = 24 * cool;
      const share = move > most ? most / move : 1;
      place.x += force[number].x * share * 1.4;
      place.y += force[number].y * share;
    });
  }
  const widths = places.map((place) => Math.abs(place.x)),
    heights = places.map((place) => Math.abs(place.y));
  const stretch = Math.min(Math.max((shape * (Math.max(...heights) || 1)) / (Math.max(...widths) || 1), 0.7), 2.2);
  places.forEach((place) => {
    place.x *= stretch;
  });
  for (let round = 0; round < 60; round += 1)
    for (let i = 0; i < places.length; i += 1)
      for (let j = i + 1; j < places.length; j += 1) {
        const x = places[j].x - places[i].x || 0.1,
          y = places[j].y - places[i].y || 0.1,
          distance = Math.hypot(x, y);
        const overlap = RADIUS[nodes[i].kind] + RADIUS[nodes[j].kind] + 16 - distance;
        if (overlap <= 0) continue;
        const first = nodes[i].kind === "item" ? 0 : nodes[j].kind === "item" ? 1 : 0.5,
          part = overlap / distance;
        places[i].x -= x * part * first;
        places[i].y -= y * part * first;
        places[j].x += x * part * (1 - first);
        places[j].y += y * part * (1 - first);
      }
  return at;
}

/** Draw `nodes` and `edges` into a box; `types` decides the colors, `only` the nodes that are marked. */
export function drawGraph(box, {
  nodes,
  edges,
  types,
  only = new Set(),
  name
}) {
  const at = layout(nodes, edges, (box.clientWidth || 800) / Math.max(340, Math.min(720, innerHeight * 0.52))),
    mine = (drawn += 1);
  const color = (type) => `var(--r${types.indexOf(type) % COLORS})`;
  const dash = (type) => DASHES[Math.floor(types.indexOf(type) / COLORS) % DASHES.length] || null;
  const lines = svg("g"),
    points = svg("g"),
    scene = svg("g", {}, lines, points);
  const image = svg("svg", {
    role: "group",
    "aria-label": name,
    tabindex: "0"
  }, scene);
  const radius = (node) => RADIUS[node.kind];
  const edgeLines = edges.map((edge) => {
    const line = svg("line", {
      "stroke-dasharray": dash(edge.type)
    }, svg("title", {}, words(edge.type)));
    line.style.stroke = color(edge.type);
    lines.append(line);
    return {
      edge,
      line
    };
  });
  const place = () => {
    for (const {
        edge,
        line
      }
      of edgeLines) {
      const from = at.get(edge.from_id),
        to = at.get(edge.to_id);
      line.setAttribute("x1", from.x);
      line.setAttribute("y1", from.y);
      line.setAttribute("x2", to.x);
      line.setAttribute("y2", to.y);
    }
    for (const [node, group] of groups) group.setAttribute("transform",
      `translate(${at.get(node.id).x} ${at.get(node.id).y})`);
  };
  const groups = nodes.map((node, number) => {
    const size = radius(node),
      isItem = node.kind !== "entity" || node.image_hash;
    const group = svg("a", {
      class: `node ${node.kind}${only.has(node.id) ? " only" : ""}`,
      href: isItem ? itemUrl(node.id) : lineageUrl(node.id),
      "aria-label": `${words(node.label)}: ${shortened(titleOf(node), 120)}${only.has(node.id) ? ", only here" : ""}`
    });
    group.append(svg("title", {}, `${words(node.label)}: ${shortened(titleOf(node), 200)}`));
    group.append(svg("circle", {
      r: size,
      class: "ring"
    }));
    if (node.image_hash && node.kind !== "entity") {
      const clip = `clip-${mine}-${number}`;
      group.append(svg("clipPath", {
        id: clip
      }, svg("circle", {
        r: size - 2
      })));
      group.append(svg("image", {
        href: `/images/192/${node.image_hash}`,
        x: -size,
        y: -size,
        width: 2 * size,
        height: 2 * size,
        preserveAspectRatio: "xMidYMid slice",
        "clip-path": `url(#${clip})`
      }));
    }
    if (node.kind === "entity") group.append(svg("text", {
      y: size + 14
    }, shortened(titleOf(node), 22)));
    const light = (on) => {
      lines.parentNode.classList.toggle("lit", on);
      for (const {
          edge,
          line
        }
        of edgeLines) line.classList.toggle("on", on && (edge.from_id === node.id || edge.to_id === node.id));
    };
    for (const event of ["pointerenter", "focus"]) group.addEventListener(event, () => light(true));
    for (const event of ["pointerleave", "blur"]) group.addEventListener(event, () => light(false));
    group.addEventListener("dragstart", (event) => event.preventDefault());
    points.append(group);
    return [node, group];
  });

  // Panning, zooming and dragging.
  const all = [...at.values()];
  const left = Math.min(...all.map((p) => p.x)) - 80,
    right = Math.max(...all.map((p) => p.x)) + 80,
    top = Math.min(...all.map((p) => p.y)) - 60,
    bottom = Math.max(...all.map((p) => p.y)) + 70;
  const whole = {
    x: left,
    y: top,
    width: right - left,
    height: bottom - top
  };
  let view = {
    ...whole
  };
  const look = () => image.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
  const zoom = (factor, x = view.x + view.width / 2, y = view.y + view.height / 2) => {
    const width = Math.min(Math.max(view.width * factor, 160), whole.width * 3),
      share = width / view.width;
    view = {
      x: x - (x - view.x) * share,
      y: y - (y - view.y) * share,
      width,
      height: view.height * share
    };
    look();
  };
  const point = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(image.getScreenCTM().inverse());
  let held = null,
    moved = false;
  image.addEventListener("pointerdown", (event) => {
    const found = groups.find(([, group]) => group.contains(event.target));
    held = {
      start: point(event),
      node: found?.[0]
    };
    moved = false;
  });
  image.addEventListener("pointermove", (event) => {
    if (!held) return;
    const now = point(event),
      x = now.x - held.start.x,
      y = now.y - held.start.y;
    if (!moved && Math.hypot(x, y) * (image.clientWidth / view.width) < 5) return;
    if (!moved) image.setPointerCapture(event.pointerId);
    moved = true;
    if (held.node) {
      const place_ = at.get(held.node.id);
      place_.x += x;
      place_.y += y;
      held.start = now;
      place();
    } else {
      view.x -= x;
      view.y -= y;
      look();
    }
  });
  for (const event of ["pointerup", "pointercancel"]) image.addEventListener(event, () => {
    held = null;
  });
  image.addEventListener("click", (event) => {
    if (moved) {
      event.preventDefault();
      moved = false;
    }
  }, true);
  image.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== image) return;
    event.preventDefault();
    const at_ = point(event);
    zoom(event.deltaY > 0 ? 1.15 : 0.87, at_.x, at_.y);
  }, {
    passive: false
  });
  image.addEventListener("keydown", (event) => {
    const step = view.width / 10,
      move = {
        ArrowLeft: [-step, 0],
        ArrowRight: [step, 0],
        ArrowUp: [0, -step],
        ArrowDown: [0, step]
      } [event.key];
    if (move && event.target === image) {
      view.x += move[0];
      view.y += move[1];
      look();
      event.preventDefault();
    } else if (event.key === "+" || event.key === "=") zoom(0.8);
    else if (event.key === "-") zoom(1.25);
    else if (event.key === "0") {
      view = {
        ...whole
      };
      look();
    }
  });
  const button = (text, label, work) => {
    const element = document.createElement("button");
    element.type = "button";
    element.textContent = text;
    element.setAttribute("aria-label", label);
    element.addEventListener("click", work);
    return element;
  };
  const buttons = document.createElement("div");
  buttons.className = "zoom";
  buttons.append(button("+", "Zoom in", () => zoom(0.8)), button("−", "Zoom out", () => zoom(1.25)), button("⤢",
    "Show all", () => {
      view = {
        ...whole
      };
      look();
    }));
  const legend = document.createElement("div");
  legend.className = "legend";
  for (const type of types.filter((one) => edges.some((edge) => edge.type === one))) {
    const entry = document.createElement("span"),
      line = svg("line", {
        x1: 0,
        y1: 5,
        x2: 30,
        y2: 5,
        "stroke-dasharray": dash(type)
      });
    line.style.stroke = color(type);
    entry.append(svg("svg", {
      "aria-hidden": "true",
      viewBox: "0 0 30 10"
    }, line), words(type));
    legend.append(entry);
  }
  place();
  look();
  box.replaceChildren(image, buttons, legend);
}
