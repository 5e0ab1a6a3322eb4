#!/usr/bin/env python3
"""Opens the page of `qembed-q bench --report` in a real browser, light and dark, and looks whether it is whole.

    check_report.py PAGE.html [--screenshot docs/report.png]

Checks: three plots, each with points and at least as many names as there are levels; both tables; a recommendation; nothing
on the console; no request but for the page itself; text that stands out from its background by 4.5 to 1 (WCAG AA) in both
themes; nothing wider than the window.

Needs: pip install playwright, and Chromium: install_chromium.sh, or `playwright install chromium`.
"""

import argparse
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

LOOK = """() => {
  const numbers = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = colour => {
    const [r, g, b] = numbers(colour).map(x => x / 255).map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const page = light(getComputedStyle(document.body).backgroundColor);
  const contrast = colour => { const own = light(colour); return (Math.max(own, page) + 0.05) / (Math.min(own, page) + 0.05); };
  const boxes = [...document.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect());
  return {
    plots: boxes.filter(box => box.width > 200 && box.height > 100).length,
    points: [...document.querySelectorAll("svg")].map(svg => svg.querySelectorAll("circle").length),
    labels: [...document.querySelectorAll("svg")].map(svg => svg.textContent),
    tables: [...document.querySelectorAll("table")].map(table => table.querySelectorAll("tbody tr").length),
    levels: [...document.querySelectorAll("table")][0]
      ? [...[...document.querySelectorAll("table")][0].querySelectorAll("tbody td:first-child")].map(cell => cell.textContent) : [],
    note: document.querySelector(".note")?.textContent ?? "",
    contrast: [document.body, ...document.querySelectorAll("svg text")].map(element => {
      const style = getComputedStyle(element);
      return contrast(element.tagName === "text" ? style.fill : style.color);
    }).reduce((a, b) => Math.min(a, b)),
    wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    background: getComputedStyle(document.body).backgroundColor,
  };
}"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--screenshot", type=Path, help="of the light page; the dark one goes beside it as NAME-dark")
    options = parser.parse_args()
    address = options.page.resolve().as_uri()
    wrong, backgrounds = [], set()

    def expect(right, what):
        if not right:
            wrong.append(what)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for theme in ("light", "dark"):
            page = browser.new_page(color_scheme=theme, viewport={"width": 1120, "height": 900})
            said, asked = [], []
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(address)
            found = page.evaluate(LOOK)
            backgrounds.add(found["background"])
            expect(found["plots"] == 3, f"{theme}: {found['plots']} plots are to be seen, not 3")
            for count, text in zip(found["points"], found["labels"]):
                expect(count >= len(found["levels"]), f"{theme}: a plot has {count} points for {len(found['levels'])} levels")
                missing = [level for level in found["levels"] if level not in text]
                expect(not missing, f"{theme}: a plot does not name {missing}")
            expect(len(found["tables"]) == 2 and min(found["tables"]) > 0, f"{theme}: tables with {found['tables']} rows")
            expect(found["note"].startswith("On this machine"), f"{theme}: no recommendation: {found['note']!r}")
            expect(found["contrast"] >= 4.5, f"{theme}: contrast {found['contrast']:.1f}")
            expect(not found["wide"], f"{theme}: the page is wider than the window")
            expect(not said, f"{theme}: console: {said}")
            others = [url for url in asked if url != address and not url.startswith("data:")]
            expect(not others, f"{theme}: asked for {others}")
            if options.screenshot:
                name = options.screenshot if theme == "light" else options.screenshot.with_stem(options.screenshot.stem + "-dark")
                page.screenshot(path=name, full_page=True)
        expect(len(backgrounds) == 2, "light and dark look the same")
        print(f"opened with Chromium {browser.version}: " + ("; ".join(wrong) if wrong else "whole"))
        browser.close()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
