#!/usr/bin/env python3
"""Uses the pages of a running `qembed-q serve` in a real browser, as a person would, and looks whether they are right.

    check_page.py http://127.0.0.1:30000 [--api-key KEY] [--screenshot docs/page.png]

The page at /: texts typed and compared by the keyboard alone; a heat map of the right size, 1.00 on its diagonal and symmetric;
other values with other dimensions and instructions; its curl and Python lines, run as they stand, give what it shows; live
figures; an error of the server in words. The page at /docs: every route of /openapi.json. Both, light and dark: a name for every
control, focus that is seen, text that stands out from its background by 4.5 to 1 (WCAG AA), nothing wider than a window of 320
pixels, no request to another origin, nothing on the console.

Needs: pip install playwright openai, and Chromium: install_chromium.sh, or `playwright install chromium`.
"""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Error, expect, sync_playwright

TEXTS = ["It's 5 o'clock in \"Paris\"", "What time is it in France?", "Größe & Gewicht: 100 % $HOME `id` \\n 🐈"]
DOCUMENTS = ["Paris lies in the zone of Central European Time.", "Cats weigh four kilograms."]
CONTROLS = {"textbox", "combobox", "slider", "checkbox", "button", "link", "spinbutton"}

# The least contrast of a text with what is behind it, and that text.
CONTRAST = """() => {
  const numbers = colour => { const all = colour.match(/[\\d.]+/g).map(Number); return colour.startsWith("color(") ? all : [...all.slice(0, 3).map(x => x / 255), ...all.slice(3)]; };
  const light = colour => {
    const [r, g, b] = numbers(colour).map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    const colour = getComputedStyle(element).backgroundColor;
    return numbers(colour)[3] === 0 ? behind(element.parentElement) : colour;
  };
  const all = [...document.body.querySelectorAll("*")].filter(element => element.checkVisibility() && !["SCRIPT", "OPTION"].includes(element.tagName)
    && (element.value || [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())));
  return all.map(element => {
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.textContent.slice(0, 40)];
  }).reduce((a, b) => (a[0] < b[0] ? a : b));
}"""

# The cells of the heat map as text, and whether its headers are headers.
HEAT = """() => {
  const table = document.querySelector("#result table");
  const rows = [...table.tBodies[0].rows];
  return {
    cells: rows.map(row => [...row.querySelectorAll("td")].map(cell => cell.textContent)),
    rows: rows.map(row => row.querySelector("th[scope=row]")?.textContent ?? ""),
    columns: [...table.tHead.rows[0].querySelectorAll("th[scope=col]")].slice(1).map(cell => cell.textContent),
    caption: table.caption?.textContent ?? "",
    colours: new Set(rows.flatMap(row => [...row.querySelectorAll("td")]).map(cell => getComputedStyle(cell).backgroundColor)).size,
  };
}"""

OUTLINE = "() => [document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle, getComputedStyle(document.activeElement).outlineWidth]"


class Visit:
    """A page opened in one theme; what is wrong with it goes into `wrong`."""

    def __init__(self, browser, origin, theme, wrong):
        self.context = browser.new_context(color_scheme=theme, viewport={"width": 1120, "height": 900})
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=origin)
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.origin, self.theme, self.wrong = origin, theme, wrong
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def expect(self, right, what):
        if not right:
            self.wrong.append(f"{self.theme}: {what}")

    def open(self, path):
        policy = self.page.goto(self.origin + path).headers.get("content-security-policy", "")
        self.expect("default-src 'none'" in policy, f"{path}: content security policy {policy!r}")

    def look(self, where):
        """What holds for every page, in whatever state it is."""
        contrast, text = self.page.evaluate(CONTRAST)
        self.expect(contrast >= 4.5, f"{where}: contrast {contrast:.2f} of {text!r}")
        tree = self.context.new_cdp_session(self.page).send("Accessibility.getFullAXTree")["nodes"]
        controls = [node for node in tree if node.get("role", {}).get("value") in CONTROLS and not node["ignored"]]
        nameless = [node["role"]["value"] for node in controls if not node.get("name", {}).get("value")]
        self.expect(controls and not nameless, f"{where}: controls without a name: {nameless} of {len(controls)}")
        self.page.set_viewport_size({"width": 320, "height": 640})
        width = self.page.evaluate("document.documentElement.scrollWidth")
        self.expect(width <= 320, f"{where}: {width} pixels wide in a window of 320")
        self.page.set_viewport_size({"width": 1120, "height": 900})

    def close(self):
        unasked = [text for text in self.said if "the server responded with a status of 4" not in text]
        self.expect(not unasked, f"console: {unasked}")
        others = [url for url in self.asked if not url.startswith((self.origin + "/", "data:"))]
        self.expect(not others, f"asked for {others}")
        self.context.close()


def heat(visit, rows, columns, what):
    """The numbers of the heat map, once `what` is done and they are there."""
    page = visit.page
    page.evaluate("document.querySelector('#result').replaceChildren()")
    what()
    page.wait_for_selector("#result table")
    found = page.evaluate(HEAT)
    shape = (len(found["cells"]), len(found["cells"][0]))
    visit.expect(shape == (rows, columns), f"heat map of {shape}, not {(rows, columns)}")
    visit.expect(len(found["rows"]) == rows and len(found["columns"]) == columns, f"headers {found['rows']}, {found['columns']}")
    visit.expect(all(found["rows"]) and "Cosine" in found["caption"], f"caption {found['caption']!r} or a row without a name")
    status = page.text_content("#status[role=status]")
    visit.expect(f"{rows} × {columns}" in status, f"the live region says {status!r}")
    return [[float(cell) for cell in row] for row in found["cells"]], found


def cosines(rows, columns):
    def product(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    return [[product(a, b) / math.sqrt(product(a, a) * product(b, b)) for b in columns] for a in rows]


def near(a, b, step=0.0051):
    """Two matrices that agree where one is written with two decimals."""
    return len(a) == len(b) and all(abs(x - y) <= step for r, s in zip(a, b, strict=True) for x, y in zip(r, s, strict=True))


def run_lines(visit, key, shown):
    """What the curl and the Python lines print is what the page shows; the copy buttons give these lines."""
    page, environment = visit.page, {**os.environ, "OPENAI_API_KEY": key or ""}
    for name in ("curl", "python"):
        page.click(f"[data-copy={name}]")
        expect(page.locator(f"#{name}-copied")).to_have_text("Copied.")
        visit.expect(page.evaluate("navigator.clipboard.readText()") == page.text_content(f"#{name}"), f"copied are other lines than those of {name}")
    lines = page.text_content("#curl")
    visit.expect(not key or key not in lines + page.text_content("#python"), "the lines give away the key")
    answer = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, env=environment, check=False)
    try:
        decoder, rest, vectors = json.JSONDecoder(), answer.stdout.strip(), []
        while rest:
            body, end = decoder.raw_decode(rest)
            vectors.append([item["embedding"] for item in body["data"]])
            rest = rest[end:].strip()
        given = cosines(vectors[0], vectors[-1])
        visit.expect(near(given, shown), f"curl gives {given}, the page shows {shown}")
    except (ValueError, KeyError, IndexError):
        visit.expect(False, f"curl: {answer.stdout[:200]} {answer.stderr}")
    answer = subprocess.run([sys.executable, "-c", page.text_content("#python")], capture_output=True, text=True, env=environment, check=False)
    printed = [[float(number) for number in line.split()] for line in answer.stdout.splitlines()]
    visit.expect(near(printed, shown, 0.0101), f"Python gives {printed}, the page shows {shown} {answer.stderr[-200:]}")


def by_keyboard(visit, key):
    """Types the texts and compares them with nothing but the keyboard; gives what the heat map shows."""
    page, keys = visit.page, visit.page.keyboard
    reached = []

    def tab_to(name):
        for _ in range(20):
            keys.press("Tab")
            id, style, width = page.evaluate(OUTLINE)
            reached.append(id)
            visit.expect(style != "none" and width != "0px", f"the focus on {id or 'a link'} is not seen")
            if id == name:
                return
        raise Error(f"{name} is not reached by Tab: {reached}")

    tab_to("texts")
    keys.press("Control+A")
    keys.type("\n".join(TEXTS))
    if key:
        tab_to("key")
        keys.type(key)

    def compare():
        while page.evaluate("document.activeElement.textContent") != "Compare":
            tab_to("" if reached[-1] == "key" else "key")
        keys.press("Enter")

    values, found = heat(visit, len(TEXTS), len(TEXTS), compare)
    order = [name for name in reached if name]
    wanted = ["texts", "documents", "blocks", "model", "dimensions", "slider", "instruction", "key"]
    visit.expect(order == wanted, f"Tab goes {order}, not {wanted}")
    visit.expect(all(values[i][i] == 1 for i in range(len(values))), f"diagonal of {values}")
    visit.expect(all(values[i][j] == values[j][i] for i in range(len(values)) for j in range(i)), f"not symmetric: {values}")
    visit.expect(values[0][1] < 1 and found["colours"] > 1, f"nothing differs: {values}")
    visit.expect(all(text in name for text, name in zip(TEXTS, found["rows"], strict=True)), f"the rows are called {found['rows']}")
    return values


def use(visit, key):
    """All of the page at /, in its order."""
    page = visit.page
    visit.open("/")
    if key:
        expect(page.locator("[role=alert]")).to_contain_text("401")
    else:
        page.wait_for_selector("#model option", state="attached")
        visit.expect(page.text_content("[role=alert]") == "", f"alert {page.text_content('[role=alert]')!r}")
    visit.look("at first")
    first = by_keyboard(visit, key)
    visit.expect(page.locator("#model option").count() > 0, "no model to choose")
    expect(page.locator("#speed")).to_have_text(re.compile("^[1-9]"))
    visit.expect(page.text_content("#queue").isdigit(), f"{page.text_content('#queue')!r} texts waiting")
    run_lines(visit, key, first)

    def change(control, value):
        page.locator(control).focus()
        page.fill(control, value)
        page.locator(control).blur()

    size = len(TEXTS)
    cut, _ = heat(visit, size, size, lambda: page.locator("#slider").press("Home"))
    visit.expect(cut != first and "of 32 dimensions" in page.text_content("#status"), f"32 dimensions: {page.text_content('#status')}")
    query, _ = heat(visit, size, size, lambda: page.select_option("#instruction", "query"))
    visit.expect(query != cut, f"an instruction changes nothing: {query}")
    for task in page.eval_on_selector_all("option[value^='task:']", "all => all.map(option => option.value)"):
        heat(visit, size, size, lambda task=task: page.select_option("#instruction", task))
    none, _ = heat(visit, size, size, lambda: page.select_option("#instruction", "custom"))
    visit.expect(none == cut, f"no words of one's own are not the same as no instruction: {none}")
    custom, _ = heat(visit, size, size, lambda: change("#custom", "Find what is about \"animals\", it's all"))
    visit.expect(custom != cut and custom != query, f"words of one's own change nothing: {custom}")
    page.fill("#documents", "\n".join(DOCUMENTS))
    pairs, _ = heat(visit, size, len(DOCUMENTS), lambda: page.get_by_role("button", name="Compare").click())
    visit.look("with a heat map")
    run_lines(visit, key, pairs)

    page.fill("#documents", "")
    page.fill("#texts", "\n\n".join(["one line\nand another", "third"]))
    heat(visit, 2, 2, lambda: page.check("#blocks"))
    page.uncheck("#blocks")

    change("#dimensions", "5")
    expect(page.locator("[role=alert]")).to_have_text(re.compile("^4"))
    words = page.text_content("[role=alert]")
    visit.expect("dimensions" in words and page.locator("#result").is_hidden(), f"alert {words!r}, and the old heat map is there")
    visit.look("with an error")
    page.fill("#dimensions", "64")
    page.fill("#texts", "\n".join(f"text {number} of a long list" for number in range(12)))
    heat(visit, 12, 12, lambda: page.get_by_role("button", name="Compare").click())
    visit.expect(page.text_content("[role=alert]") == "", "the alert stays after all is well")
    visit.look("with a wide heat map")
    page.set_viewport_size({"width": 320, "height": 640})
    inside = page.evaluate("(box => [box.scrollWidth > box.clientWidth, box.tabIndex])(document.querySelector('#result'))")
    visit.expect(inside == [True, 0], f"a wide heat map does not scroll by itself: {inside}")


def read(visit, _):
    """The page at /docs."""
    page = visit.page
    visit.open("/docs")
    page.wait_for_selector("article")
    api = page.evaluate("fetch('/openapi.json').then(answer => answer.json())")
    methods = {"get", "post", "put", "patch", "delete", "head", "options"}
    routes = {f"{method.upper()} {path}" for path, item in api["paths"].items() for method in item if method in methods}
    shown = page.eval_on_selector_all("article h3", "all => all.map(title => title.textContent)")
    visit.expect(set(shown) == routes and len(shown) == len(routes), f"routes {sorted(routes ^ set(shown))}")
    lost = page.eval_on_selector_all("nav a", "all => all.map(link => decodeURIComponent(link.hash.slice(1))).filter(id => !document.getElementById(id))")
    visit.expect(not lost, f"links to nothing: {lost}")
    bare = page.eval_on_selector_all("article", "all => all.filter(one => !one.querySelector('pre').textContent.startsWith('curl ')).map(one => one.id)")
    visit.expect(not bare, f"without an example: {bare}")
    visit.expect(page.text_content("[role=alert]") == "", f"alert {page.text_content('[role=alert]')!r}")
    visit.look("docs")
    return len(shown)


def picture(browser, origin, key, theme, file):
    page = browser.new_page(color_scheme=theme, viewport={"width": 1120, "height": 900})
    page.goto(origin)
    page.fill("#key", key or "")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_selector("#result table")
    page.screenshot(path=file, full_page=True)


def main():
    expect.set_options(timeout=30_000)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--api-key", help="of a server that was started with one")
    parser.add_argument("--screenshot", type=Path, help="of the light page; the dark one goes beside it as NAME-dark")
    options = parser.parse_args()
    origin, wrong, routes = options.url.rstrip("/"), [], 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for theme in ("light", "dark"):
            visit = Visit(browser, origin, theme, wrong)
            for part in (use, read):
                try:
                    routes = part(visit, options.api_key)
                except (Error, AssertionError) as error:
                    alert = visit.page.locator("[role=alert]").all_text_contents()
                    wrong.append(f"{theme}: {part.__name__}: {str(error).splitlines()[0]} (alert: {alert})")
            visit.close()
            if options.screenshot:
                file = options.screenshot if theme == "light" else options.screenshot.with_stem(options.screenshot.stem + "-dark")
                picture(browser, origin, options.api_key, theme, file)
        print(f"used with Chromium {browser.version}, {routes} routes: " + ("; ".join(wrong) if wrong else "right"))
        browser.close()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
