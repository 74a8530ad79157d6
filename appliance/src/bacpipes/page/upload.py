"""An upload field whose button has a name, for those who hear the page."""

from collections.abc import Awaitable, Callable

from nicegui import events, ui

HEADER = """
<div class="row no-wrap items-center q-pa-sm">
  <div class="col">{label}</div>
  <q-btn icon="upload_file" flat dense round aria-label="Choose a file: {label}" @click="props.pickFiles" />
  <div class="hidden"><q-uploader-add-trigger /></div>
</div>
"""


def upload(
    label: str, accept: str, largest: int, taken: Callable[[events.UploadEventArguments], Awaitable[None]]
) -> ui.upload:
    """One file of at most ``largest`` bytes, uploaded as soon as it is chosen; another may follow."""
    field = ui.upload(
        auto_upload=True,
        max_file_size=largest,
        on_upload=taken,
        on_rejected=lambda: ui.notify(f"{label}: that file is too large or of another kind.", type="negative"),
    )
    field.add_slot("header", HEADER.format(label=label))
    return field.props(f'flat bordered accept="{accept}"').style("width: 100%")
