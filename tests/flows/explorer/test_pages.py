"""The pages in a real browser: each is whole, small and dark, by keyboard, and whatever titles say."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest
from conftest import HOSTILE, Served  # type: ignore[import-not-found]
from typer.testing import Result

sys.path.insert(0, str(Path(__file__).parents[1]))
from chromium import Browser, chromium

sys.path.insert(0, str(Path(__file__).parents[2] / "model"))
from tiny_data import TinyData

pytestmark = [pytest.mark.browser, pytest.mark.slow]

READY = {
    "/": "document.querySelectorAll('#wall li').length > 20",
    "/item?id=toy:04": (
        "document.querySelectorAll('.graph .node').length > 4 && document.querySelector('.rows tbody tr')"
    ),
    "/make?item=toy:04": (
        "document.querySelector('#neighbor-list input') && document.querySelector('[name=model_id] option')"
    ),
    "/lineage?id=toy:05": "document.querySelectorAll('#out section').length > 1",
    "/lineage?id=toy/Maker/one": "document.querySelectorAll('#out section').length > 1",
    "/models": "document.querySelector('#models section')",
    "/cypher": "document.querySelector('[name=cypher]').value",
    "/api": "document.querySelector('.operation')",
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        for domain in ("Page", "Runtime", "Log", "Network"):
            browser.call(f"{domain}.enable")
        yield browser


def look(browser: Browser, width: int = 1280, scheme: str = "light") -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


def visit(browser: Browser, served: Served, page: str) -> None:
    browser.call("Page.navigate", url=served.url + page)
    browser.wait_for(f"document.readyState === 'complete' && Boolean({READY.get(page, 'true')})")


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (2560, "dark")])
def test_every_page_is_whole(browser: Browser, served: Served, width: int, scheme: str) -> None:
    look(browser, width, scheme)
    browser.errors.clear()
    browser.requests.clear()
    for page in READY:
        visit(browser, served, page)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width, page
        assert browser.evaluate("document.querySelector('#trouble').hidden"), page
        assert browser.evaluate("document.querySelectorAll('h1').length") == 1, page
        # What is asked of a user has a name, and images say what they show or that they show nothing.
        unnamed = (
            "[...document.querySelectorAll('input, select, textarea, button, a, svg[role]')].filter(e => e.offsetParent"
            " && !(e.labels?.length || e.ariaLabel || e.textContent.trim() || e.querySelector('img[alt]'))).length"
        )
        assert browser.evaluate(unnamed) == 0, page
        assert browser.evaluate("[...document.images].filter(i => !i.hasAttribute('alt')).length") == 0, page
    assert browser.errors == []
    assert {urlsplit(url).netloc for url in browser.requests if not url.startswith("blob:")} == {
        urlsplit(served.url).netloc
    }
    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(251, 249, 245)" if scheme == "light" else "rgb(23, 22, 26)")


def test_titles_are_text(browser: Browser, served: Served) -> None:
    look(browser, 360)
    browser.errors.clear()
    for item_id, title in HOSTILE.items():
        for page, where in (("/", ".tile .name"), ("/item", "h1"), ("/make", ".picked"), ("/lineage", "h2")):
            query = {"/": f"?like={item_id}", "/make": f"?item={item_id}"}.get(page, f"?id={item_id}")
            browser.call("Page.navigate", url=f"{served.url}{page}{query}")
            start = json.dumps(" ".join(title.split())[:20])
            says = f"e.textContent.replace(/\\s+/g, ' ').includes({start})"
            shown = f"[...document.querySelectorAll({where!r})].some(e => {says})"
            if page == "/":
                shown = "document.querySelectorAll('#wall li').length > 5"
            browser.wait_for(f"document.readyState === 'complete' && {shown}")
            assert browser.evaluate("document.title") != "taken"
            assert browser.evaluate("document.querySelector('img[src=x], main script, main b > b')") is None
            assert browser.evaluate("document.documentElement.scrollWidth") <= 360, (page, item_id)
    for query in ("<img src=x onerror=alert(1)>", "toy:none", "\u202ex"):
        browser.call("Page.navigate", url=f"{served.url}/item?id={quote(query)}")
        browser.wait_for("document.querySelector('#trouble')?.textContent.includes('there is no item')")
        assert browser.evaluate("document.querySelector('img[src=x]')") is None
    assert [error for error in browser.errors if "404" not in error] == []


def tab_to(browser: Browser, condition: str) -> None:
    for _ in range(120):
        browser.press("Tab")
        if browser.evaluate(f"(() => {{ const e = document.activeElement; return Boolean({condition}); }})()"):
            assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle !== 'none' || "
                                    "document.activeElement.closest('.node, .file') !== null")  # fmt: skip
            return
    raise AssertionError(condition)


def test_by_keyboard_from_a_search_to_a_neighbor(browser: Browser, served: Served) -> None:
    look(browser)
    visit(browser, served, "/")
    tab_to(browser, "e.className === 'skip'")
    tab_to(browser, "e.name === 'q'")
    for key in "script":
        browser.press(key)
    browser.press("Enter")
    browser.wait_for("location.search === '?q=script' && document.querySelectorAll('#wall li').length === 1")
    tab_to(browser, "e.className === 'tile'")
    browser.press("Enter")
    browser.wait_for("location.pathname === '/item' && document.querySelectorAll('.graph .node').length > 4")
    assert browser.evaluate("new URLSearchParams(location.search).get('id')") == "toy:04"
    tab_to(browser, "e.classList.contains('neighbor')")
    wanted = browser.evaluate("document.activeElement.getAttribute('href')")
    browser.press("Enter")
    browser.wait_for(f"location.pathname + location.search === {json.dumps(wanted)}")


def test_two_settings_are_compared(browser: Browser, served: Served) -> None:
    look(browser)
    visit(browser, served, "/item?id=toy:04")
    browser.evaluate("document.querySelector('#compare').click()")
    browser.wait_for(
        "document.querySelectorAll('.rows').length === 2 && document.querySelectorAll('.rows tbody').length === 2"
    )
    change = "const s = [...document.querySelectorAll('[name=mode]')].at(-1); s.value = 'random';"
    browser.evaluate(f"(() => {{ {change} s.dispatchEvent(new Event('change', {{bubbles: true}})); }})()")
    browser.wait_for("document.querySelectorAll('tr.only .tag').length > 0")
    marked = browser.evaluate("document.querySelectorAll('.rows')[0].querySelectorAll('tr.only').length")
    assert marked == browser.evaluate("document.querySelectorAll('.rows')[1].querySelectorAll('tr.only').length")


def test_an_image_made_by_keyboard_is_that_of_its_command(
    browser: Browser, served: Served, own: TinyData, graph2image: Callable[..., Result]
) -> None:
    look(browser)
    browser.errors.clear()
    visit(browser, served, "/make?item=toy:04")
    browser.evaluate("document.querySelector('#neighbor-list input:checked').focus()")
    browser.press(" ")  # not this one
    browser.evaluate("document.querySelector('[name=steps]').value = '3'")
    tab_to(browser, "e.type === 'submit'")
    browser.press("Enter")
    command = browser.wait_for("document.querySelector('.result pre')?.textContent")
    words = shlex.split(command)
    assert sum(word.startswith("--neighbor=") for word in words) == 4
    place = words.index("--data")
    result = graph2image(*words[1:place], "--json", data=own.root.url)
    (generated_id,) = json.loads(result.stdout)["generate"]["generated_ids"]
    there = browser.evaluate("document.querySelector('.result img').getAttribute('src')")
    assert there == f"/images/generated/{generated_id}.png"
    made = Path(own.root.path("generated", "tiny-1", f"{generated_id}.png")).read_bytes()
    assert httpx.get(served.url + there).content == made
    assert browser.wait_for("document.querySelector('.result img').naturalWidth") == 32
    visit(browser, served, f"/lineage?id={generated_id}")
    browser.wait_for("document.querySelectorAll('.rows tbody tr').length === 3")  # as many as the model looks at
    assert browser.errors == []


def test_cypher_shows_items(browser: Browser, served: Served) -> None:
    visit(browser, served, "/cypher")
    query = (
        "MATCH (a:Thing)-[:MADE_BY]->(m)<-[:MADE_BY]-(b:Thing) WHERE a.id < b.id RETURN a.id AS a, b.id AS b LIMIT 5"
    )
    browser.evaluate(f"document.querySelector('[name=cypher]').value = {json.dumps(query)}")
    browser.evaluate("document.querySelector('[name=cypher]').focus()")
    tab_to(browser, "e.type === 'submit'")
    browser.press("Enter")
    browser.wait_for("document.querySelectorAll('#answer tbody tr').length === 5")
    assert browser.evaluate("document.querySelectorAll('#answer .graph .node').length") >= 4
    browser.evaluate("document.querySelector('[name=cypher]').value = 'MATCH (n) DELETE n'")
    browser.evaluate("document.querySelector('#console [type=submit]').click()")
    browser.wait_for("!document.querySelector('#trouble').hidden")
