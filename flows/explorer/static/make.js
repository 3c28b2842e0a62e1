// Make: an image of an item, from the neighbors that are ticked or from two entities mixed; watched, cancelled, kept.
import {
  $,
  announce,
  ask,
  attempt,
  download,
  el,
  generatedImage,
  itemUrl,
  later,
  lineageUrl,
  number,
  parameter,
  picture,
  shortened,
  titleOf
} from "./common.js";

const form = $("#order"),
  STRIP_SCALES = [0, 0.5, 1, 1.5, 2, 3],
  STRIP_SHARES = [1, 0.75, 0.5, 0.25, 0];
const named = {
  first: new Map(),
  second: new Map()
};
let item = null,
  offered = [],
  job = null;

const value = (name) => form.elements[name].value;
const isMixed = () => value("from") === "mix";

async function choose(id) {
  const found = await attempt(() => ask("/item", {
    parameters: {
      id
    }
  }));
  if (!found) return;
  item = found;
  history.replaceState(null, "", `?item=${encodeURIComponent(id)}`);
  $("#chosen").replaceChildren(el("div", {
    className: "picked"
  }, picture(item, 96, {
    className: "square"
  }), el("div", {
    className: "grow"
  }, el("a", {
    className: "bidi cut",
    dir: "auto",
    href: itemUrl(id)
  }, shortened(titleOf(item), 140)), el("br"), el("button", {
    type: "button",
    onclick: () => {
      location.href = "/make";
    }
  }, "Another item"))));
  form.prompt.value = item.text ?? "";
  const answer = await attempt(() => ask("/neighbors", {
    body: {
      item_id: id,
      k: 8,
      mode: hasEncoder ? "semantic-ppr" : "ppr"
    }
  }));
  offered = answer?.neighbors ?? [];
  $("#neighbor-list").replaceChildren(...offered.map((one, rank) => el("li", {}, el("label", {}, picture(one, 192, {
    className: "square"
  }), el("input", {
    type: "checkbox",
    checked: rank < 5,
    value: one.item_id,
    "aria-label": shortened(one.title || one.item_id, 120)
  }), el("span", {
    className: "name",
    dir: "auto"
  }, shortened(one.title || one.item_id, 120))))));
  if (!offered.length) $("#neighbor-list").replaceChildren(el("li", {
    className: "soft"
  }, "It has no neighbors: its text alone counts."));
}

const suggest = later(async () => {
  const text = $("#pick").value.trim();
  if (!text) return $("#picked").replaceChildren();
  const exact = /^\S+:\S+$/.test(text) && await ask("/item", {
    parameters: {
      id: text
    }
  }).catch(() => null);
  const found = exact ? {
    items: [exact]
  } : await attempt(() => ask("/search", {
    parameters: {
      q: text,
      limit: 8
    }
  }));
  if (!found || !$("#picked")) return undefined;
  $("#picked").replaceChildren(...found.items.map((one) => el("li", {}, el("button", {
    type: "button",
    onclick: () => choose(one.id)
  }, picture(one, 96, {
    className: "square"
  }), el("span", {
    className: "bidi",
    dir: "auto"
  }, shortened(titleOf(one), 90))))));
  announce(`${found.items.length} suggestions`);
  return undefined;
});

function entityField(name) {
  const list = $(`#entities-${name}`);
  const refresh = later(async () => {
    const entities = await attempt(() => ask("/entities", {
      parameters: {
        q: value(name),
        limit: 12
      }
    }));
    if (!entities) return;
    named[name] = new Map(entities.map((entity) => [`${shortened(entity.name, 120)} (${entity.label})`, entity
      .id]));
    list.replaceChildren(...[...named[name].keys()].map((text) => el("option", {
      value: text
    })));
  });
  form.elements[name].addEventListener("input", () => {
    if (!named[name].has(value(name))) refresh();
  });
  form.elements[name].addEventListener("focus", refresh);
}
const entityId = (name) => named[name].get(value(name)) ?? value(name).trim();

function order() {
  const strip = form.elements.strip.checked,
    scale = Number(value("graph_scale"));
  const body = {
    item_id: item.id,
    model_id: value("model_id") || null,
    seed: Number(value("seed")),
    fast: form.elements.fast.checked,
    guidance_scale: Number(value("guidance_scale")),
    graph_scales: [scale]
  };
  if (!body.fast) body.steps = Number(value("steps"));
  if (value("prompt") !== (item.text ?? "")) body.prompt = value("prompt");
  if (isMixed()) body.mix = {
    first: entityId("first"),
    second: entityId("second"),
    shares: strip ? STRIP_SHARES : [Number(value("share"))]
  };
  else {
    body.neighbors = [...document.querySelectorAll("#neighbor-list input:checked")].map((box) => box.value);
    if (strip) body.graph_scales = STRIP_SCALES;
  }
  return body;
}

const made = (image) => image.share === null ? `graph scale ${number(image.graph_scale, 1)}` :
  `${number(100 * image.share)}% of the first`;

async function show(result, body) {
  $("#empty")?.remove();
  const figures = result.images.map((image) => {
    const record = el("button", {
      type: "button",
      onclick: async () => {
        const told = await attempt(() => ask(`/record/${image.generated_id}`));
        if (told) download(`${image.generated_id}.json`, "application/json", JSON.stringify(told, null, 2));
      }
    }, "Record");
    return el("figure", {}, el("a", {
        href: lineageUrl(image.generated_id),
        "aria-label": `Lineage of the image at ${made(image)}`
      }, generatedImage(image.generated_id, `${shortened(titleOf(item), 100)}, ${made(image)}`)),
      el("figcaption", {}, made(image), el("div", {
          className: "actions"
        }, el("a", {
          className: "button",
          href: `/images/generated/${image.generated_id}.png`,
          download: `${image.generated_id}.png`
        }, "Download"), record),
        el("details", {}, el("summary", {}, "Command"), el("pre", {
          tabIndex: 0
        }, image.command))));
  });
  $("#results").prepend(el("article", {
    className: "result card"
  }, el("header", {}, el("h3", {
    dir: "auto"
  }, shortened(body.prompt ?? titleOf(item), 140)), el("span", {
    className: "soft small-text"
  }, `seed ${body.seed}${body.fast ? ", fast" : `, ${body.steps} steps`}`)), el("div", {
    className: "strip"
  }, figures), result.notes.length ? el("ul", {
    className: "notes"
  }, result.notes.map((note) => el("li", {}, shortened(note)))) : ""));
  announce(result.images.length === 1 ? "The image is made." : `${result.images.length} images are made.`);
}

async function watch(body) {
  const box = $("#progress"),
    frame = box.querySelector(".frame"),
    bar = box.querySelector("progress");
  let seen = 0;
  box.hidden = false;
  $("#cancel").hidden = false;
  form.querySelector("[type=submit]").disabled = true;
  frame.replaceChildren();
  bar.value = 0;
  bar.removeAttribute("value");
  while (job.state === "queued" || job.state === "running") {
    const text = job.state === "queued" ? (job.position ? `Waiting: ${job.position} before it` : "Starting") :
      job.steps ? `Image ${job.image + 1} of ${job.total}, step ${job.step} of ${job.steps}` : "Loading the model";
    if ($("#progress-text").textContent !== text) $("#progress-text").textContent = text;
    if (job.steps) bar.value = (job.image + job.step / job.steps) / job.total;
    if (job.previews > seen) {
      seen = job.previews;
      frame.replaceChildren(el("img", {
        src: `/api/jobs/${job.job_id}/preview?n=${seen}`,
        alt: "Preview",
        onerror: (event) => event.target.remove()
      }));
    }
    await new Promise((resolve) => {
      setTimeout(resolve, 250);
    });
    job = await ask(`/jobs/${job.job_id}`);
  }
  if (job.state === "done") await show(job, body);
  else if (job.state === "failed") throw Object.assign(new Error(job.message), {
    hint: job.hint,
    name: "JobError"
  });
  else announce("Cancelled.");
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    if (!item) {
      $("#pick").focus();
      throw Object.assign(new Error("Choose an item first."), {
        name: "JobError"
      });
    }
    const body = order();
    try {
      job = await ask("/generate", {
        body
      });
      await watch(body);
    } finally {
      $("#progress").hidden = true;
      $("#cancel").hidden = true;
      form.querySelector("[type=submit]").disabled = false;
    }
  });
});
$("#cancel").addEventListener("click", () => attempt(async () => {
  if (job) job = await ask(`/jobs/${job.job_id}`, {
    method: "DELETE"
  });
}));
$("#what").addEventListener("change", () => {
  $("#mix").hidden = !isMixed();
  $("#neighbors").hidden = isMixed();
});
$("#pick").addEventListener("input", suggest);
form.elements.fast.addEventListener("change", () => {
  form.elements.steps.disabled = form.elements.fast.checked;
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.id === "pick") {
    event.preventDefault();
    $("#picked button")?.click();
  }
});
for (const slider of form.querySelectorAll(".slider input")) {
  const output = slider.parentNode.querySelector("output"),
    tell = () => {
      output.value = slider.name === "share" ? `${Math.round(100 * slider.value)}%` : slider.value;
    };
  slider.addEventListener("input", tell);
  tell();
}
entityField("first");
entityField("second");
const status = await attempt(() => ask("/status"));
const hasEncoder = Boolean(status?.encoder);
if (status) {
  form.elements.model_id.replaceChildren(...(status.models.length ? [el("option", {
    value: ""
  }, "the one in use"), ...status.models.map((id) => el("option", {
    value: id
  }, id))] : [el("option", {
    value: ""
  }, "there is no model yet")]));
  form.querySelector("[type=submit]").disabled = !status.models.length;
  if (!status.models.length) $("#empty").textContent = "There is no model yet: `graph2image train` makes one.";
}
if (parameter("item")) await choose(parameter("item"));
