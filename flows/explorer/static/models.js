// Models: what there is, how it was trained, how it did, and several side by side.
import {
  $,
  ask,
  attempt,
  el,
  number,
  plural,
  shortened
} from "./common.js";

const SVG = "http://www.w3.org/2000/svg";
const shape = (name, attributes, text) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  return element;
};

function curve(points) {
  const chart = shape("svg", {
    class: "chart",
    viewBox: "0 0 560 170",
    role: "img",
    "aria-label": `Loss over the steps, at last ${number(points.at(-1)?.[1], 3)}`
  });
  const steps = points.map(([step]) => step),
    losses = points.map(([, loss]) => loss),
    top = Math.max(...losses),
    last = Math.max(...steps);
  const x = (step) => 44 + (500 * step) / last,
    y = (loss) => 12 + 126 * (1 - loss / top);
  chart.append(shape("line", {
      x1: 44,
      y1: 138,
      x2: 544,
      y2: 138
    }), shape("path", {
      d: points.map(([step, loss], index) => `${index ? "L" : "M"}${x(step).toFixed(1)} ${y(loss).toFixed(1)}`)
        .join("")
    }),
    shape("text", {
      x: 38,
      y: 16,
      "text-anchor": "end"
    }, number(top, 2)), shape("text", {
      x: 38,
      y: 142,
      "text-anchor": "end"
    }, "0"), shape("text", {
      x: 544,
      y: 156,
      "text-anchor": "end"
    }, `${number(last)} steps`));
  return chart;
}

const estimate = (value, scale = 1, digits = 2, unit = "") => value?.mean === null || value?.mean === undefined ? "–" :
  `${number(scale * value.mean, digits)}${value.se === null ? "" : ` ± ${number(scale * value.se, digits)}`}${unit}`;

function figures(evaluation) {
  const aspects = [...new Set(evaluation.variants.flatMap((row) => Object.keys(row.accuracy)))];
  return el("div", {}, el("h4", {}, `${plural(evaluation.n, "held-out item")} of the ${evaluation.split} split`), el(
    "div", {
      className: "scroll",
      tabIndex: 0,
      role: "region",
      "aria-label": "Figures"
    }, el("table", {}, el("thead", {}, el("tr", {}, el("th", {
        scope: "col"
      }, "image"), ...aspects.map((aspect) => el("th", {
        scope: "col",
        className: "number"
      }, `${aspect} right ↑`)), el("th", {
        scope: "col",
        className: "number"
      }, "similarity ↑"), el("th", {
        scope: "col",
        className: "number"
      }, "palette distance ↓"), el("th", {
        scope: "col",
        className: "number"
      }, "copies ↓"))),
      el("tbody", {}, evaluation.variants.map((row) => el("tr", {}, el("th", {
        scope: "row"
      }, row.variant), ...aspects.map((aspect) => el("td", {
        className: "number"
      }, estimate(row.accuracy[aspect], 100, 0, "%"))), el("td", {
        className: "number"
      }, estimate(row.similarity, 1, 3)), el("td", {
        className: "number"
      }, estimate(row.palette_distance)), el("td", {
        className: "number"
      }, estimate(row.copy_rate, 100, 0, "%"))))))));
}

function card(model) {
  if (model.trouble) return el("section", {
    className: "card",
    id: model.model_id
  }, el("h2", {}, model.model_id), el("p", {
    className: "trouble"
  }, model.trouble));
  const facts = {
    status: el("span", {}, model.status, model.stale ? el("span", {
      className: "tag"
    }, "stale: trained on what was withdrawn since") : ""),
    "images made": number(model.images),
    preset: model.preset,
    "trained on": `${plural(model.trained_items, "item")}, neighbors ${model.neighbors}`,
    "graph version": model.graph_version ?? "–",
    encoder: model.encoder,
    "image size": model.image_size ? `${model.image_size} px` : "–",
    parameters: number(model.parameters),
    "final loss": number(model.loss, 4),
    trained: `${number(model.seconds)} s on ${model.device}`
  };
  return el("section", {
      className: "card",
      id: model.model_id
    }, el("h2", {}, model.model_id),
    el("div", {
      className: "split-2"
    }, el("dl", {
      className: "properties"
    }, Object.entries(facts).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, typeof value ===
      "string" ? shortened(value) : value)])), model.loss_curve.length > 1 ? curve(model.loss_curve) : ""),
    ...model.evaluations.map(figures), model.evaluations.length ? "" : el("p", {
      className: "soft small-text"
    }, "Not evaluated yet: `graph2image evaluate`."));
}

/** The main variant of every model's evaluations that are of equally many items of one split. */
function comparison(models) {
  const rows = models.flatMap((model) => model.evaluations.map((one) => ({
    model,
    one,
    row: one.variants.find((variant) => variant.variant.startsWith("text + graph") && variant.variant.endsWith(
      "1.5"))
  }))).filter(({
    row
  }) => row);
  if (new Set(rows.map(({
      model
    }) => model.model_id)).size < 2) return "";
  const aspects = [...new Set(rows.flatMap(({
    row
  }) => Object.keys(row.accuracy)))];
  return el("section", {}, el("h2", {}, "Side by side"), el("div", {
    className: "scroll",
    tabIndex: 0,
    role: "region",
    "aria-label": "Models compared"
  }, el("table", {}, el("thead", {}, el("tr", {}, el("th", {
    scope: "col"
  }, "model"), el("th", {
    scope: "col"
  }, "items"), ...aspects.map((aspect) => el("th", {
    scope: "col",
    className: "number"
  }, `${aspect} right ↑`)), el("th", {
    scope: "col",
    className: "number"
  }, "similarity ↑"))), el("tbody", {}, rows.map(({
    model,
    one,
    row
  }) => el("tr", {}, el("th", {
    scope: "row"
  }, el("a", {
    href: `#${model.model_id}`
  }, model.model_id)), el("td", {}, `${one.n} ${one.split}`), ...aspects.map((aspect) => el("td", {
    className: "number"
  }, estimate(row.accuracy[aspect], 100, 0, "%"))), el("td", {
    className: "number"
  }, estimate(row.similarity, 1, 3))))))));
}

const models = await attempt(() => ask("/models"));
if (models) {
  $("#models").replaceChildren(...(models.length ? [comparison(models), ...models.map(card)] : [el("p", {
    className: "empty soft"
  }, "There are no models yet: `graph2image train` makes one.")]));
  $("#models").setAttribute("aria-busy", "false");
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}
