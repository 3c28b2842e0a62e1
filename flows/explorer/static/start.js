// Start: a wall of items, which grows as one scrolls; searched by words or by an image, narrowed down by facets.
import {
  $,
  announce,
  ask,
  attempt,
  el,
  number,
  plural,
  shortened,
  tile,
  titleOf,
  trouble
} from "./common.js";

const PAGE = 100;
const facetNames = ["label", "source", "split", "image"];
const wall = $("#wall"),
  more = $("#more"),
  count = $("#count");
let next = null,
  loading = false,
  asked = 0,
  image = null;

const wanted = () => Object.fromEntries(new URLSearchParams(location.search));
const facets = () => Object.fromEntries(facetNames.map((name) => [name, wanted()[name]]));

async function load(fresh) {
  if (loading && !fresh) return;
  const mine = fresh ? ++asked : asked;
  loading = true;
  wall.setAttribute("aria-busy", "true");
  const {
    q,
    like
  } = wanted();
  await attempt(async () => {
    let page;
    if (image) page = await ask("/search/image", {
      parameters: {
        ...facets(),
        limit: 200
      },
      body: image
    });
    else if (q || like) page = await ask("/search", {
      parameters: {
        ...facets(),
        q: like ? null : q,
        like,
        limit: 200
      }
    });
    else page = await ask("/items", {
      parameters: {
        ...facets(),
        after: fresh ? null : next,
        limit: PAGE
      }
    });
    if (mine !== asked) return;
    if (fresh) wall.replaceChildren();
    next = page.next;
    if (page.items.length) wall.append(el("ul", {
      className: "part"
    }, page.items.map((item) => el("li", {}, tile(item)))));
    const shown = wall.querySelectorAll("li").length;
    count.textContent = image || like ?
      `The ${plural(shown, "item")} with the most similar images${image ? " to yours" : ""}` :
      q ?
      `${plural(page.total, "item")} with ${/\s/.test(q.trim()) ? "words of" : "the word"} “${shortened(q, 80)}”${page.total > shown ? `; the ${number(shown)} best` : ""}` :
      plural(page.total, "item");
    if (!page.total) {
      count.textContent += ".";
      announce("Nothing is found.");
    }
    more.hidden = next === null;
    if (like && fresh) title(like);
  });
  if (mine === asked) {
    loading = false;
    wall.setAttribute("aria-busy", "false");
    if (next && isNear()) load(false);
  }
}

async function title(id) {
  const item = await ask("/item", {
    parameters: {
      id
    }
  }).catch(() => null);
  if (item && wanted().like === id) count.textContent =
    `Items whose images are like that of “${shortened(titleOf(item), 80)}”`;
}

async function fillFacets() {
  const counts = await attempt(() => ask("/facets", {
    parameters: facets()
  }));
  if (!counts) return;
  for (const name of facetNames) {
    const select = $(`#facets [name=${name}]`),
      value = wanted()[name] ?? "";
    const options = Object.entries(counts[name]).map(([option, items]) => el("option", {
      value: option
    }, `${option} (${number(items)})`));
    select.replaceChildren(el("option", {
      value: ""
    }, "any"), ...options);
    if (value && !(value in counts[name])) select.append(el("option", {
      value
    }, `${value} (0)`));
    select.value = value;
  }
}

function go(changes) {
  const query = new URLSearchParams(location.search);
  for (const [key, value] of Object.entries(changes)) value ? query.set(key, value) : query.delete(key);
  history.pushState(null, "", query.size ? `?${query}` : location.pathname);
  show();
}

function show() {
  $("#search").q.value = wanted().q ?? "";
  trouble(null);
  load(true);
  fillFacets();
}

const isNear = () => more.getBoundingClientRect().top < innerHeight + 1200;
$("#search").addEventListener("submit", (event) => {
  event.preventDefault();
  image = null;
  go({
    q: event.target.q.value.trim(),
    like: null
  });
});
$("#upload").addEventListener("change", (event) => {
  [image] = event.target.files;
  event.target.value = "";
  if (image) go({
    q: null,
    like: null
  });
});
$("#facets").addEventListener("change", (event) => go({
  [event.target.name]: event.target.value
}));
more.addEventListener("click", () => load(false));
new IntersectionObserver((entries) => {
  if (entries[0].isIntersecting && next) load(false);
}, {
  rootMargin: "1200px"
}).observe(more);
addEventListener("popstate", () => {
  image = null;
  show();
});
show();
