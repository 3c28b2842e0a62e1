// Lineage: of a generated image, what it was made from; of an item or entity, what was made from it, and what an
// opt-out would touch.
import {
  $,
  ask,
  attempt,
  el,
  generatedImage,
  itemUrl,
  lineageUrl,
  number,
  parameter,
  picture,
  plural,
  shortened,
  titleOf,
  words
} from "./common.js";

const isGenerated = (id) => /^[0-9a-f]{16}$/.test(id);
const bar = (share) => {
  const inner = el("i");
  inner.style.width = `${Math.round(100 * share)}%`;
  return el("span", {
    className: "bar-track"
  }, inner);
};

async function image(id) {
  const told = await ask(`/lineage/${id}`);
  const most = Math.max(...told.conditioned_on.map((one) => one.weight), 0) || 1;
  const sum = told.conditioned_on.reduce((total, one) => total + one.weight, 0) || 1;
  const rows = told.conditioned_on.map((one) => el("tr", {}, el("td", {
    className: "pic"
  }, picture(one, 96)), el("td", {}, el("a", {
    className: "bidi cut",
    dir: "auto",
    href: itemUrl(one.id)
  }, shortened(one.title || one.id, 160)), one.opted_out ? el("span", {
    className: "tag"
  }, "withdrawn") : ""), el("td", {
    className: "number",
    "data-name": "part"
  }, bar(one.weight / most), `${number((100 * one.weight) / sum)}%`), el("td", {
    className: "number",
    "data-name": "weight"
  }, number(one.weight, 2)), el("td", {}, el("span", {
    className: "cut small-text"
  }, one.entities.slice(0, 6).map((entity) => shortened(entity.name, 40)).join(", ")))));
  const facts = {
    "made for": told.item ? el("a", {
      href: itemUrl(told.item.id),
      className: "bidi",
      dir: "auto"
    }, shortened(told.item.title || told.item.id, 160)) : "–",
    prompt: shortened(told.settings.text ?? "", 600),
    variant: told.variant,
    seed: String(told.seed),
    steps: String(told.settings.num_inference_steps ?? "–"),
    "text scale": String(told.settings.guidance_scale ?? "–"),
    "graph scale": (told.settings.graph_guidance_scales ?? []).map((scale) => number(scale, 2)).join(", ") || "0",
    model: told.model ? el("a", {
      href: `/models#${told.model.id}`
    }, told.model.id) : "–",
    "trained on": told.snapshot ?
      `graph ${told.snapshot.id}${told.snapshot.items ? `, ${plural(told.snapshot.items, "item")}` : ""}` : "–"
  };
  $("#out").replaceChildren(el("div", {
        className: "split-2"
      }, el("div", {}, el("div", {
        className: "frame"
      }, generatedImage(id, `Generated image ${id}`)), el("p", {
        className: "actions"
      }, el("a", {
        className: "button",
        href: `/images/generated/${id}.png`,
        download: `${id}.png`
      }, "Download"))),
      el("div", {}, el("h2", {}, "Generated image"), el("dl", {
        className: "properties"
      }, Object.entries(facts).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value ?? "–")])))),
    el("section", {}, el("h2", {}, "What it was made from, and how much"), rows.length ? el("div", {
      className: "scroll rows",
      tabIndex: 0,
      role: "region",
      "aria-label": "Neighbors"
    }, el("table", {}, el("thead", {}, el("tr", {}, el("th", {}, el("span", {
      className: "unseen"
    }, "image")), el("th", {
      scope: "col"
    }, "neighbor"), el("th", {
      scope: "col",
      className: "number"
    }, "part"), el("th", {
      scope: "col",
      className: "number"
    }, "weight"), el("th", {
      scope: "col"
    }, "of"))), el("tbody", {}, rows))) : el("p", {
      className: "soft"
    }, "From its text alone.")));
}

async function back(id) {
  const [told, status] = await Promise.all([ask("/touched", {
    parameters: {
      id
    }
  }), ask("/status")]);
  const wall = told.generated.length ? el("div", {
    className: "wall small"
  }, told.generated.map((made) => el("a", {
    className: "tile",
    href: lineageUrl(made)
  }, generatedImage(made, `Generated image ${made}`)))) : "";
  const reason = el("input", {
      name: "reason",
      maxLength: 2000
    }),
    confirm = el("input", {
      name: "confirm",
      autocomplete: "off",
      required: true
    });
  const form = el("form", {
      className: "card narrow",
      onsubmit: (event) => {
        event.preventDefault();
        attempt(async () => {
          await ask("/optout", {
            body: {
              id,
              confirm: confirm.value.trim(),
              reason: reason.value || null
            }
          });
          await show(id);
        });
      }
    },
    el("p", {},
      `This withdraws ${plural(told.item_count, "item")}, for good: from then on they are in no search, sample, training run or image.`
      ), el("label", {}, "Reason ", reason), el("label", {}, "Its id, to confirm ", confirm), el("p", {
      className: "actions"
    }, el("button", {
      className: "primary"
    }, "Withdraw")));
  $("#out").replaceChildren(el("div", {}, el("h2", {
      dir: "auto"
    }, shortened(told.name, 200)), el("p", {
      className: "soft"
    }, id, told.is_withdrawn ? el("span", {}, " ", el("span", {
      className: "tag"
    }, "withdrawn")) : ""), told.has_page ? el("p", {}, el("a", {
      href: itemUrl(id)
    }, "The item")) : ""),
    el("section", {}, el("h2", {}, `${plural(told.generated_count, "image")} made from it`), told.generated_count >
      told.generated.length ? el("p", {
        className: "soft"
      }, `The first ${told.generated.length}.`) : "", wall || el("p", {
        className: "soft"
      }, "None.")),
    el("section", {}, el("h2", {}, "What an opt-out touches"), el("ul", {}, el("li", {}, plural(told.item_count,
        "item"), ", which would be in nothing new any more"), el("li", {}, plural(told.generated_count,
        "generated image"), ", which would be listed, not deleted"), el("li", {}, plural(told.models.length,
        "model"), told.models.length ? `, trained with them: ${told.models.join(", ")}` : "")), told.is_withdrawn ?
      "" : status.allows_optout ? el("details", {}, el("summary", {}, "Withdraw it …"), form) : el("p", {
          className: "soft small-text"
        },
        "This server withdraws nothing. Where it is started with --allow-optout it does, after a confirmation; so does `graph2image optout`."
        )));
}

async function show(id) {
  $("#find").elements.id.value = id;
  $("#options").replaceChildren();
  $("#out").replaceChildren(el("p", {
    className: "soft"
  }, "Looking it up …"));
  if (isGenerated(id)) return image(id);
  return back(id);
}

async function find(text) {
  if (isGenerated(text) || text.includes(":") || text.includes("/")) {
    location.search = `?id=${encodeURIComponent(text)}`;
    return;
  }
  const [entities, items] = await Promise.all([ask("/entities", {
    parameters: {
      q: text,
      limit: 8
    }
  }), ask("/search", {
    parameters: {
      q: text,
      limit: 8
    }
  })]);
  $("#out").replaceChildren();
  $("#options").replaceChildren(...entities.map((entity) => el("li", {}, el("a", {
    className: "button",
    href: lineageUrl(entity.id)
  }, el("b", {}, words(entity.label)), " ", shortened(entity.name, 120)))), ...items.items.map((item) => el(
  "li", {}, el("a", {
    className: "button",
    href: lineageUrl(item.id)
  }, picture(item, 96, {
    className: "square"
  }), el("span", {
    className: "bidi",
    dir: "auto"
  }, shortened(titleOf(item), 120))))));
  if (!entities.length && !items.items.length) $("#options").replaceChildren(el("li", {
    className: "soft"
  }, "Nothing is found."));
}

$("#find").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = event.target.elements.id.value.trim();
  if (text) attempt(() => find(text));
});
if (parameter("id")) attempt(() => show(parameter("id")));
else attempt(async () => {
  const rows = (await ask("/query", {
    body: {
      cypher: "MATCH (g:GeneratedImage) RETURN g.id AS id LIMIT 60"
    }
  })).rows;
  $("#out").replaceChildren(rows.length ? el("section", {}, el("h2", {}, "Some generated images"), el("div", {
    className: "wall small"
  }, rows.map(([id]) => el("a", {
    className: "tile",
    href: lineageUrl(id)
  }, generatedImage(id, `Generated image ${id}`))))) : el("p", {
    className: "empty soft"
  }, "No images were made yet."));
});
