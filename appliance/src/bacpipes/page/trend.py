"""The trend: any points over any range, drawn from what the database has averaged."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from nicegui import ui

from bacpipes.exporter.monitoring import BUCKETS, MOST_POINTS, sampled
from bacpipes.exporter.parameters import moment
from bacpipes.exporter.problem import DATABASE_ERRORS, Problem, reason_of
from bacpipes.page.context import settings, store

RANGES = {"1 hour": 1, "6 hours": 6, "24 hours": 24, "7 days": 168, "30 days": 720}  # hours
OWN = "from … to"
GREY = "#7d8b98"  # on light and on dark
COLOURS = ["#2f7ec0", "#d9822b", "#3a9a5b", "#b3486b", "#7b62c4", "#8a7a2a", "#2a9aa0", "#a0522d"]


def chosen_ids(text: str) -> list[int]:
    """Ids of points out of an address; what is none is left out."""
    found = [int(part) for part in text.split(",") if part.strip().isdecimal() and len(part) < 10]
    return list(dict.fromkeys(found))[:MOST_POINTS]


class Trend:
    """The panel; ``wanted`` are the points that it begins with."""

    def __init__(self, wanted: list[int]) -> None:
        self._wanted = wanted
        self._points: dict[int, dict[str, Any]] = {}
        self._asked = 0  # so many times; an answer to an earlier question is too late

    async def build(self) -> None:
        """Draw it."""
        rows = await store().rows("page_points", {"site": settings().site_id})
        self._points = {row["id"]: row for row in rows}
        names = {row["id"]: _name(row) for row in rows}
        with ui.expansion("Trend", icon="show_chart", value=bool(self._wanted)).classes("panel").props("dense"):
            with ui.element("div").classes("bar"):
                value = [one for one in self._wanted if one in names]
                self._choice = ui.select(names, label="Points", value=value, multiple=True, with_input=True)
                self._choice.props(f"use-chips max-values={MOST_POINTS}").classes("grow")
                self._range = ui.select([*RANGES, OWN], label="Range", value="24 hours").style("min-width: 120px")
            with ui.element("div").classes("bar") as own:
                self._start = ui.input("From").props("type=datetime-local stack-label")
                self._end = ui.input("To").props("type=datetime-local stack-label")
            own.bind_visibility_from(self._range, "value", value=OWN)
            self._status = ui.label().classes("muted").props("role=status data-trend")
            self._chart = ui.echart({"series": []}).classes("trend").props('role=img aria-label="Trend of the points"')
            self._links = ui.element("div").classes("bar")
        for control in (self._choice, self._range, self._start, self._end):
            control.on_value_change(self.draw)
        await self.draw()

    async def draw(self, *_: object) -> None:
        """Ask for the series and show them; where somebody asked again meanwhile, theirs are shown."""
        self._asked += 1
        question = self._asked
        ids = list(self._choice.value or [])
        self._chart.visible = bool(ids)
        self._links.clear()
        if not ids:
            self._status.set_text("Choose points." if self._points else "There are no points yet.")
            return
        try:
            start, end = self._span()
            series = await sampled(store(), ids, start, end)
        except Problem as problem:
            self._tell(question, str(problem))
        except DATABASE_ERRORS as error:
            self._tell(question, " ".join(reason_of(error)))
        else:
            if question == self._asked:
                self._show(ids, series, start, end)

    def _tell(self, question: int, reason: str) -> None:
        if question == self._asked:
            self._status.set_text(reason)

    def _show(self, ids: list[int], series: list[dict[str, Any]], start: datetime, end: datetime) -> None:
        values = sum(len(one["data"]) for one in series)
        each = (end - start) / BUCKETS
        text = (
            f"{values} values, each the mean of {each.total_seconds():,.0f} s" if values else "No data in this range."
        )
        self._status.set_text(text)
        self._chart.options.clear()
        self._chart.options.update(self._options(series, start, end))
        self._chart.update()
        self._show_links(ids, start, end)

    def _span(self) -> tuple[datetime, datetime]:
        now = datetime.now(UTC)
        if self._range.value != OWN:
            return now - timedelta(hours=RANGES[self._range.value]), now
        zone = settings().zone
        end = moment("to", self._end.value, zone, last=True) if self._end.value else now
        start = moment("from", self._start.value, zone, last=False) if self._start.value else end - timedelta(days=1)
        return start, end

    def _options(self, series: list[dict[str, Any]], start: datetime, end: datetime) -> dict[str, Any]:
        units = list(dict.fromkeys(self._points[one["point"]]["units"] for one in series))
        axes = [
            {
                "type": "value",
                "name": unit,
                "scale": True,
                "splitLine": {"lineStyle": {"color": "rgba(128, 140, 152, 0.3)"}},
                "position": "left" if n == 0 else "right",
                "offset": 55 * max(0, n - 1),
            }
            for n, unit in enumerate(units)
        ]
        return {
            "animation": False,
            "color": COLOURS,
            "textStyle": {"color": GREY},
            "grid": {"left": 60, "right": 30 + 50 * max(0, len(units) - 1), "top": 50, "bottom": 60},
            "legend": {"type": "scroll", "top": 0, "textStyle": {"color": GREY}},
            "tooltip": {"trigger": "axis"},
            "xAxis": {"type": "time", "min": _ms(start), "max": _ms(end)},
            "yAxis": axes or [{"type": "value"}],
            "dataZoom": [{"type": "inside"}, {"type": "slider", "height": 18, "bottom": 8}],
            "series": [self._line(one, units, end - start) for one in series],
        }

    def _line(self, one: dict[str, Any], units: list[str], span: timedelta) -> dict[str, Any]:
        point = self._points[one["point"]]
        return {
            "type": "line",
            "name": _name(point),
            "yAxisIndex": units.index(point["units"]),
            "showSymbol": len(one["data"]) < 3,
            "lineStyle": {"width": 1.6},
            "step": False if point["object_type"].startswith("analog") else "end",
            "data": _with_gaps(one["data"], max(span / BUCKETS * 3, timedelta(seconds=3 * point["interval"]))),
        }

    def _show_links(self, ids: list[int], start: datetime, end: datetime) -> None:
        with self._links:
            ui.label("Every reading:").classes("muted")
            for point in (self._points[one] for one in ids):
                if not point["haystack"]:
                    continue
                for kind in ("csv", "json"):
                    values = {"start": start.isoformat(), "end": end.isoformat(), "haystackName": point["haystack"]}
                    address = f"/api/timeseries/export?{urlencode(values | {'format': kind})}"
                    ui.link(f"{point['dis'] or point['haystack']} {kind.upper()}", address).props("download")


def _with_gaps(data: list[list[Any]], longest: timedelta) -> list[list[Any]]:
    """A line breaks where nothing was read: an empty value stands between two that are too far apart."""
    drawn: list[list[Any]] = []
    for row in data:
        if drawn and row[0] - drawn[-1][0] > longest.total_seconds() * 1000:
            drawn.append([drawn[-1][0] + 1, None])
        drawn.append([row[0], None if row[1] is None else float(f"{row[1]:.6g}")])
    return drawn


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _name(row: dict[str, Any]) -> str:
    return f"{row['dis'] or row['name'] or row['object']} ({row['equipment'] or row['device']})"
