// An item: what it is, and its neighbors under one or two settings, as a graph and as a table.
import {
  $,
  announce,
  ask,
  attempt,
  el,
  generatedImage,
  itemUrl,
  later,
  lineageUrl,
  number,
  parameter,
  picture,
  plural,
  shortened,
  titleOf,
  words
} from "./common.js";
import {
  drawGraph
} from "./graph.js";

const id = parameter("id") ?? "";
const sides = [];

function showItem(item) {
  document.title = `${shortened(titleOf(item), 60)} – Graph2Image`;
  $("#image").replaceChildren(picture(item, 768, {
    alt: `Image of ${shortened(titleOf(item), 120)}`,
    className: ""
  }));
  $("#kind").textContent = [words(item.label), item.source, `${item.split} split`].join(" · ");
  $("#title").textContent = shortened(titleOf(item), 600);
  $("#text").textContent = item.text && item.text !== item.title ? item.text : "";
  $("#text").hidden = !$("#text").textContent;
  $("#make").href = `/make?item=${encodeURIComponent(item.id)}`;
  $("#similar").href = `/?like=${encodeURIComponent(item.id)}`;
  $("#similar").hidden = !item.image_hash;
  $("#lineage").href = lineageUrl(item.id);
  $("#entities").replaceChildren(...item.entities.map((entity) => el("a", {
    className: "chip",
    href: lineageUrl(entity.id)
  }, el("b", {}, `${words(entity.type)} `), shortened(entity.name, 80))));
  const properties = Object.entries({
    id: item.id,
    ...item.properties
  });
  $("#properties").replaceChildren(...properties.flatMap(([name, value]) => [el("dt", {}, words(name)), el("dd", {},
    shortened(typeof value === "object" ? JSON.stringify(value) : String(value), 2000))]));
  $("#made").hidden = !item.generated.length;
  $("#made-list").replaceChildren(...item.generated.slice(0, 24).map((made) => el("a", {
    className: "tile",
    href: lineageUrl(made)
  }, generatedImage(made, `Generated image ${made}`))));
  $("#item").setAttribute("aria-busy", "false");
}

/** The settings of one side, and what they give. */
class Side {
  constructor(name, values = {}) {
    this.name = name;
    this.values = {
      mode: "semantic-ppr",
      k: 8,
      pool: 16,
      query: "text",
      any_item: false,
      relation_weights: {},
      directions: {},
      ...structuredClone(values)
    };
    this.answer = null;
    this.form = el("form", {
      className: "controls card",
      "aria-label": `Settings ${name}`,
      onsubmit: (event) => event.preventDefault()
    });
    this.graph = el("div", {
      className: "graph"
    });
    this.table = el("div", {
      className: "scroll rows",
      tabIndex: 0,
      role: "region",
      "aria-label": "Neighbors, best first"
    });
    this.notes = el("ul", {
      className: "notes"
    });
    this.box = el("div", {
      className: "side-inner"
    }, this.form, this.graph, this.notes, this.table);
    this.refresh = later(() => this.load());
    this.controls([]);
  }

  controls(types) {
    const {
      values
    } = this;
    const changed = (name, value) => {
      values[name] = value;
      if (name === "k" && values.pool < value) {
        values.pool = value;
        this.form.pool.value = value;
        this.form.pool.nextSibling.value = value;
      }
      if (name === "pool" && value < values.k) values.pool = values.k;
      this.refresh();
    };
    const select = (label, name, options) => el("label", {}, label, el("select", {
      name,
      onchange: (event) => changed(name, event.target.value)
    }, options.map(([value, text]) => el("option", {
      value,
      selected: values[name] === value
    }, text))));
    const range = (label, name, max) => {
      const output = el("output", {}, String(values[name]));
      return el("label", {
        className: "slider"
      }, label, el("input", {
        type: "range",
        name,
        min: 1,
        max,
        value: values[name],
        oninput: (event) => {
          output.value = event.target.value;
          changed(name, Number(event.target.value));
        }
      }), output);
    };
    const weights = types.map((type) => {
      const output = el("output", {}, String(values.relation_weights[type] ?? 1));
      return el("div", {
          className: "weight"
        }, el("span", {}, words(type)),
        el("input", {
          type: "range",
          min: 0,
          max: 4,
          step: 0.25,
          value: values.relation_weights[type] ?? 1,
          "aria-label": `Weight of ${words(type)}`,
          oninput: (event) => {
            output.value = event.target.value;
            values.relation_weights[type] = Number(event.target.value);
            this.refresh();
          }
        }), output,
        el("select", {
          "aria-label": `Direction of ${words(type)}`,
          onchange: (event) => {
            values.directions[type] = event.target.value;
            this.refresh();
          }
        }, ["both", "forward", "backward"].map((way) => el("option", {
          value: way,
          selected: (values.directions[type] ?? "both") === way
        }, way))));
    });
    const isOpen = this.form.querySelector("details")?.open ?? false;
    this.form.replaceChildren(
      select("How", "mode", [
        ["semantic-ppr", "walks, re-ranked by images"],
        ["ppr", "walks alone"],
        ["semantic", "similar images alone"],
        ["random", "at random"]
      ]),
      range("k", "k", 40), range("pool", "pool", 120),
      select("Compare with its", "query", [
        ["text", "text"],
        ["image", "image, if it is a training item"]
      ]),
      el("label", {
        className: "check"
      }, el("input", {
        type: "checkbox",
        checked: values.any_item,
        onchange: (event) => changed("any_item", event.target.checked)
      }), "also items without an image"),
      types.length ? el("details", {
        open: isOpen
      }, el("summary", {}, "Relations: weights and directions"), el("div", {
        className: "weights"
      }, weights)) : "");
    this.types = types;
  }

  async load() {
    this.abort?.abort();
    this.abort = new AbortController();
    this.table.setAttribute("aria-busy", "true");
    if (!this.answer) this.graph.replaceChildren(el("p", {
      className: "waiting soft"
    }, "Sampling neighbors …"));
    const answer = await attempt(() => ask("/neighbors", {
      body: {
        item_id: id,
        ...this.values
      },
      signal: this.abort.signal
    }));
    if (!answer) {
      if (!this.answer && !this.abort.signal.aborted) this.graph.replaceChildren(el("p", {
        className: "waiting soft"
      }, "No neighbors: see above."));
      return;
    }
    this.table.setAttribute("aria-busy", "false");
    this.answer = answer;
    if (!this.types.length) this.controls(answer.relation_types);
    for (const side of sides) side.show();
    announce(`${plural(answer.neighbors.length, "neighbor")} with settings ${this.name}`);
  }

  show() {
    if (!this.answer) return;
    const {
      neighbors,
      nodes,
      edges,
      relation_types: types,
      notes
    } = this.answer;
    const other = sides.find((side) => side !== this && side.answer)?.answer.neighbors.map((one) => one.item_id);
    const only = new Set(other ? neighbors.map((one) => one.item_id).filter((one) => !other.includes(one)) : []);
    if (neighbors.length) drawGraph(this.graph, {
      nodes,
      edges,
      types,
      only,
      name: "The item, its neighbors and what they share. Arrow keys move, plus and minus zoom, tab goes through the nodes."
    });
    else this.graph.replaceChildren(el("p", {
      className: "empty soft"
    }, "No neighbors under these settings."));
    this.notes.replaceChildren(...notes.map((note) => el("li", {}, shortened(note))));
    const change = (one, rank) => {
      if (!other) return "";
      const before = other.indexOf(one.item_id);
      if (before < 0) return el("span", {
        className: "tag"
      }, "only here");
      return before === rank ? "" : el("span", {
        className: "tag"
      }, before > rank ? `▲ from ${before + 1}` : `▼ from ${before + 1}`);
    };
    this.table.replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, el("th", {
        scope: "col"
      }, "#"), el("th", {}, el("span", {
        className: "unseen"
      }, "image")), el("th", {
        scope: "col"
      }, "neighbor"), el("th", {
        scope: "col",
        className: "number"
      }, "PPR"), el("th", {
        scope: "col",
        className: "number"
      }, "similarity"), el("th", {
        scope: "col"
      }, "path"))),
      el("tbody", {}, neighbors.map((one, rank) => el("tr", {
          className: only.has(one.item_id) ? "only" : ""
        },
        el("td", {
          className: "rank"
        }, String(rank + 1)), el("td", {
          className: "pic"
        }, picture(one, 96)),
        el("td", {}, el("a", {
          href: itemUrl(one.item_id),
          className: "bidi cut",
          dir: "auto"
        }, shortened(one.title || one.item_id, 160)), " ", change(one, rank)),
        el("td", {
          className: "number",
          "data-name": "PPR"
        }, number(one.ppr, 4)), el("td", {
          className: "number",
          "data-name": "similarity"
        }, number(one.similarity, 3)),
        el("td", {}, el("span", {
          className: "cut bidi",
          title: shortened(one.via, 200)
        }, shortened(one.reason, 160))))))));
  }
}

function arrange() {
  const isTwo = $("#compare").checked;
  if (isTwo && sides.length === 1) {
    sides.push(new Side("B", {
      ...sides[0].values,
      mode: sides[0].values.mode === "ppr" ? "semantic-ppr" : "ppr"
    }));
    sides[1].load();
  }
  if (!isTwo && sides.length === 2) {
    sides.pop();
    sides[0].show();
  }
  $("#sides").classList.toggle("two-sides", isTwo);
  $("#sides").replaceChildren(...sides.map((side) => side.box));
}

$("#compare").addEventListener("change", arrange);
const item = await attempt(() => ask("/item", {
  parameters: {
    id
  }
}));
if (item) {
  showItem(item);
  const status = await ask("/status").catch(() => ({}));
  sides.push(new Side("A", status.encoder ? {} : {
    mode: "ppr",
    any_item: !item.image_hash
  }));
  arrange();
  sides[0].load();
} else {
  $("#title").textContent = "This item cannot be shown";
  document.querySelectorAll("section, .actions, details").forEach((part) => {
    part.hidden = true;
  });
}
