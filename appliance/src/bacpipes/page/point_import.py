"""The dialog that imports a points CSV: first what it would change, then the change."""

from collections.abc import Awaitable, Callable

from nicegui import events, ui

from bacpipes.errors import BacpipesError
from bacpipes.exporter import point_store
from bacpipes.page.context import Visitor, settings
from bacpipes.page.upload import upload
from bacpipes.tokens import Role


class ImportDialog:
    """``saved`` is awaited when something was imported."""

    def __init__(self, visitor: Visitor, saved: Callable[[], Awaitable[None]]) -> None:
        self._visitor, self._saved = visitor, saved
        self._content, self._name = b"", ""

    def open(self) -> None:
        """Show it."""
        with ui.dialog().props("persistent") as self._dialog, ui.card().classes("panel"):
            ui.label("Import points").classes("heading").props("role=heading aria-level=2")
            ui.label("A CSV as Export writes it. All of it is taken or, where anything is wrong, nothing.")
            upload("CSV file", ".csv,text/csv", point_store.LARGEST_FILE, self._uploaded)
            self._prune = ui.checkbox("Disable points that are not in the file", on_change=self._look)
            self._report = ui.label().classes("mono").style("white-space: pre-wrap; max-height: 40vh; overflow: auto")
            self._report.props("role=status data-report")
            with ui.element("div").classes("bar"):
                ui.space()
                ui.button("Cancel", on_click=self._dialog.close).props("flat")
                self._button = ui.button("Import", on_click=self._import)
                self._button.disable()
        self._dialog.on_value_change(lambda event: None if event.value else self._dialog.delete())
        self._dialog.open()

    async def _uploaded(self, event: events.UploadEventArguments) -> None:
        await self._visitor.require(Role.ADMIN)
        self._content, self._name = await event.file.read(), event.file.name
        await self._look()

    async def _look(self, *_: object) -> None:
        if not self._content:
            return
        good, lines = await self._run(dry_run=True)
        self._report.set_text("\n".join(lines))
        self._button.set_enabled(good)

    async def _import(self) -> None:
        await self._visitor.require(Role.ADMIN)
        good, lines = await self._run(dry_run=False)
        if not good:
            self._report.set_text("\n".join(lines))
            return
        ui.notify(lines[-1], type="positive")
        self._dialog.close()
        await self._saved()

    async def _run(self, *, dry_run: bool) -> tuple[bool, list[str]]:
        """Whether it can be, or was, imported, and what to say."""
        if settings().points_owner != "page":
            return False, [point_store.OWNED]
        try:
            file, plan = await point_store.import_file(
                settings(), self._content, self._name, self._visitor.actor, prune=self._prune.value, dry_run=dry_run
            )
        except BacpipesError as error:
            return False, [str(error)]
        return plan is not None and not plan.problems.errors, point_store.report_lines(file, plan)
