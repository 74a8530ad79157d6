"""The page in a real browser: until the first page stands, and how a table of 500 points takes a filter and scrolls."""

import shutil
import statistics
import time

from playwright.sync_api import Browser, Page, sync_playwright

TIMES = 5
WHOLE = ".content[data-ready]"
ROW = ".ag-center-cols-container .ag-row"
# From the key to the frame in which the table shows what is left; the page waits 150 ms for more keys.
FILTER = """async ([text, left]) => {
  const input = document.querySelector("input[aria-label=Filter]");
  const began = performance.now();
  input.value = text;
  input.dispatchEvent(new Event("input", {bubbles: true}));
  const frame = () => new Promise(done => requestAnimationFrame(done));
  const api = getElement(Number(document.querySelector(".ag-theme-quartz, .nicegui-aggrid").id.slice(1))).api;
  while (api.getDisplayedRowCount() !== left) { await frame(); if (performance.now() - began > 20000) return -1; }
  await frame();
  return performance.now() - began;
}"""
# Two seconds of scrolling from frame to frame: the frames' durations in milliseconds.
SCROLL = """async () => {
  const view = document.querySelector(".ag-body-viewport");
  const frames = [];
  let last = performance.now();
  const began = last;
  while (last - began < 2000) {
    view.scrollTop = (view.scrollTop + 120) % (view.scrollHeight - view.clientHeight);
    await new Promise(done => requestAnimationFrame(done));
    const now = performance.now();
    frames.push(now - last);
    last = now;
  }
  return frames;
}"""


def measure_in_browser(url: str, name: str, password: str, points: int) -> None:
    """Print what a person at the page waits for."""
    program = shutil.which("chromium")
    if program is None:
        print("no Chromium: the page in a browser is not measured")
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        cold = [_first_page(browser, url, name, password) for _ in range(TIMES)]
        _print("first page, empty cache, from the click on Log in", [one[0] for one in cold])
        _print("the same page once more, cached", [one[1] for one in cold])
        _table(browser, url, name, password, points)
        browser.close()


def _first_page(browser: Browser, url: str, name: str, password: str) -> tuple[float, float]:
    page = browser.new_context().new_page()
    began = _login(page, url, name, password)
    first = time.perf_counter() - began
    began = time.perf_counter()
    page.goto(f"{url}/")
    page.wait_for_selector(WHOLE)
    again = time.perf_counter() - began
    page.context.close()
    return first, again


def _login(page: Page, url: str, name: str, password: str) -> float:
    page.goto(f"{url}/login")
    page.fill("#name", name)
    page.fill("#password", password)
    began = time.perf_counter()
    page.click("button")
    page.wait_for_selector(WHOLE)
    return began


def _table(browser: Browser, url: str, name: str, password: str, points: int) -> None:
    page = browser.new_context(viewport={"width": 1366, "height": 850}).new_page()
    _login(page, url, name, password)
    opened = []
    for _ in range(TIMES):
        began = time.perf_counter()
        page.goto(f"{url}/points")
        page.wait_for_selector(ROW)
        opened.append(time.perf_counter() - began)
    _print(f"table of {points} points, until its rows stand", opened)
    page.wait_for_selector(WHOLE)
    filtered = [page.evaluate(FILTER, pair) / 1000 for _ in range(TIMES) for pair in (["Point 499", 1], ["", points])]
    _print("filter, from the key to the rows (150 ms are waited for more keys)", filtered)
    frames = page.evaluate(SCROLL)
    late = sum(frame > 50 for frame in frames)
    print(
        f"scrolling: {len(frames)} frames in 2 s, median {statistics.median(frames):.0f} ms, "
        f"longest {max(frames):.0f} ms, {late} above 50 ms"
    )


def _print(what: str, seconds: list[float]) -> None:
    print(f"{what}: median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s")
