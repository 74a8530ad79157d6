"""What the tables of points and of a discovery share: which of their rows are chosen."""

from typing import Any

from nicegui import ui

OPTIONS: dict[str, Any] = {
    "defaultColDef": {"sortable": True, "filter": True, "resizable": True, "minWidth": 60},
    # Choosing all means all that the filter shows.
    "rowSelection": {"mode": "multiRow", "enableClickSelection": True, "selectAll": "filtered"},
    ":getRowId": "params => String(params.data.id)",
}
CHOSEN = "getElement({}).api.getSelectedNodes().filter(node => node.displayed).map(node => node.data.id)"


async def chosen_ids(grid: ui.aggrid) -> set[Any]:
    """The ids of the rows that are chosen and to be seen: one that a filter hides is nobody's wish any more."""
    return set(await ui.run_javascript(CHOSEN.format(grid.id)))
