// Cypher: a read-only console; rows as a table, items among them as images and as a graph, to export.
import {
  $,
  ask,
  attempt,
  download,
  el,
  itemUrl,
  lineageUrl,
  number,
  parameter,
  plural,
  shortened,
  tile
} from "./common.js";
import {
  drawGraph
} from "./graph.js";

const form = $("#console"),
  MOST_ROWS = 500;
let answer = null;

const text = (value) => value === null ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);

function cell(value) {
  if (typeof value === "string" && answer.items[value]) return el("a", {
    href: itemUrl(value),
    className: "bidi",
    dir: "auto"
  }, shortened(value, 120));
  if (typeof value === "string" && /^[0-9a-f]{16}$/.test(value)) return el("a", {
    href: lineageUrl(value)
  }, value);
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : number(value, 4);
  return el("span", {
    className: "bidi cut",
    dir: "auto"
  }, shortened(text(value), 400));
}

/** Ids of items of a row, in its order. */
const idsOf = (row) => row.flatMap((value) => Array.isArray(value) ? value : [value]).map((value) => value &&
  typeof value === "object" ? value.id : value).filter((value) => typeof value === "string" && answer.items[value]);

function graph() {
  const items = Object.values(answer.items).slice(0, 60),
    known = new Set(items.map((item) => item.id)),
    edges = [],
    seen = new Set();
  for (const row of answer.rows) {
    const ids = [...new Set(idsOf(row))].filter((id) => known.has(id));
    for (let index = 1; index < ids.length; index += 1) {
      const key = `${ids[index - 1]} ${ids[index]}`;
      if (!seen.has(key)) {
        seen.add(key);
        edges.push({
          from_id: ids[index - 1],
          to_id: ids[index],
          type: "in one row"
        });
      }
    }
  }
  if (!edges.length) return null;
  const box = el("div", {
    className: "graph"
  });
  drawGraph(box, {
    nodes: items.map((item) => ({
      ...item,
      kind: "neighbor"
    })),
    edges,
    types: ["in one row"],
    name: "The items of the answer; those of one row are linked."
  });
  return box;
}

async function run() {
  const cypher = form.elements.cypher.value.trim();
  if (!cypher) return;
  form.querySelector("[type=submit]").disabled = true;
  $("#count").textContent = "Running …";
  answer = await attempt(() => ask("/query", {
    body: {
      cypher,
      limit: 2000
    }
  })) ?? null;
  form.querySelector("[type=submit]").disabled = false;
  $("#csv").disabled = $("#json").disabled = answer === null;
  if (answer === null) {
    $("#count").textContent = "";
    $("#answer").replaceChildren();
    return;
  }
  const {
    columns,
    rows
  } = answer, items = Object.values(answer.items);
  $("#count").textContent =
    `${plural(rows.length, "row")}${answer.truncated ? ", the first ones" : ""}${rows.length > MOST_ROWS ? `; ${MOST_ROWS} are shown` : ""}`;
  const isNumber = columns.map((_, index) => rows.length > 0 && rows.every((row) => row[index] === null || typeof row[
    index] === "number"));
  const table = el("div", {
    className: "scroll",
    tabIndex: 0,
    role: "region",
    "aria-label": "Rows"
  }, el("table", {}, el("thead", {}, el("tr", {}, columns.map((name, index) => el("th", {
    scope: "col",
    className: isNumber[index] ? "number" : ""
  }, shortened(name, 80))))), el("tbody", {}, rows.slice(0, MOST_ROWS).map((row) => el("tr", {}, row.map((value,
    index) => el("td", {
    className: isNumber[index] ? "number" : ""
  }, cell(value))))))));
  const drawn = items.length > 1 ? graph() : null;
  $("#answer").replaceChildren(table, ...(drawn ? [el("section", {}, el("h2", {}, "As a graph"), drawn)] : []), ...(
    items.length ? [el("section", {}, el("h2", {}, "The items in it"), el("ul", {
      className: "part wall small"
    }, items.slice(0, 120).map((item) => el("li", {}, tile(item)))))] : []));
}

/** A cell of a CSV file. One that a spreadsheet would take for a formula is not. */
const quoted = (value) => {
  const plain = text(value);
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

form.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
form.elements.cypher.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    run();
  }
});
$("#csv").addEventListener("click", () => download("answer.csv", "text/csv", [answer.columns, ...answer.rows].map((
  row) => row.map(quoted).join(",")).join("\r\n")));
$("#json").addEventListener("click", () => download("answer.json", "application/json", JSON.stringify(answer.rows.map((
  row) => Object.fromEntries(row.map((value, index) => [answer.columns[index], value]))), null, 2)));
const recipes = await attempt(() => ask("/recipes")) ?? [];
const groups = Map.groupBy ? Map.groupBy(recipes, (recipe) => recipe.group) : new Map([
  ["All", recipes]
]);
for (const [name, members] of groups) $("#recipes").append(el("optgroup", {
  label: name
}, members.map((recipe) => el("option", {
  value: recipe.cypher
}, shortened(recipe.title, 90)))));
$("#recipes").addEventListener("change", (event) => {
  if (event.target.value) {
    form.elements.cypher.value = event.target.value;
    run();
  }
});
if (parameter("q")) {
  form.elements.cypher.value = parameter("q");
} else if (recipes.length) form.elements.cypher.value = recipes[0].cypher;
