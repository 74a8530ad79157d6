"""The panel of broker A: its settings with certificates, and a test."""

from typing import Any

from nicegui import events, ui

from bacpipes.errors import BacpipesError
from bacpipes.exporter.problem import DATABASE_ERRORS, reason_of
from bacpipes.mqtt import certificates
from bacpipes.mqtt import config as mqtt_config
from bacpipes.mqtt.check import TestResult, test_connection
from bacpipes.mqtt.config import MqttConfig
from bacpipes.page.context import Visitor, settings, store
from bacpipes.page.upload import upload
from bacpipes.tokens import Role

TEXTS = {"broker": "Host", "client_id": "Client id", "username": "Username"}
NUMBERS = {"port": "Port", "tls_port": "Port with TLS"}
PEMS = {"ca_certificate": "CA certificate", "client_certificate": "Client certificate", "client_key": "Client key"}
KEPT = "unchanged"
LARGEST_PEM = 256 * 1024
PEM_FILES = ".pem,.crt,.cer,.key"
INVENTORY = "the inventory (by environment variables) sets this"


class Broker:
    """Secrets go in and never come out."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self._fields: dict[str, Any] = {}
        self._uploaded: dict[str, str] = {}
        self._notes: dict[str, ui.label] = {}
        self._owned: set[str] = set()

    async def build(self) -> None:
        """Show it."""
        with ui.element("section").classes("panel"):
            ui.label("MQTT broker").classes("heading").props("role=heading aria-level=2")
            try:
                self._owned = set(mqtt_config.environment())
                if "broker" in self._owned:  # then nobody here has a say in how it is reached
                    self._owned = set(MqttConfig.model_fields)
                async with store().connection() as connection:
                    config = await mqtt_config.load(connection, settings())
            except (BacpipesError, *DATABASE_ERRORS) as error:
                ui.label(str(error)).classes("finding bad")
                return
            if self._owned:
                names = "the broker" if self._all_owned else ", ".join(sorted(self._owned))
                ui.label(f"Read-only here, for {INVENTORY}: {names}.").classes("finding warning").props("data-owned")
            self._form(config)
            self._result = ui.element("div").props("role=status data-broker").style("width: 100%")
            with ui.element("div").classes("bar"):
                ui.button("Test the connection", icon="network_check", on_click=self._test).props("outline")
                if not self._all_owned:
                    ui.button("Save", icon="save", on_click=self._save)

    @property
    def _all_owned(self) -> bool:
        return self._owned >= set(MqttConfig.model_fields)

    def _form(self, config: MqttConfig) -> None:
        with ui.element("div").classes("form"):
            self._add("enabled", ui.switch("Publish over MQTT", value=config.enabled))
            for name, label in TEXTS.items():
                self._add(name, ui.input(label, value=getattr(config, name) or "").props("autocomplete=off"))
            hint = KEPT if config.password else "none is set"
            password = ui.input("Password", password=True, placeholder=hint).props("autocomplete=new-password")
            self._add("password", password.props("stack-label"))
            for name, label in NUMBERS.items():
                self._add(name, ui.number(label, value=getattr(config, name), min=1, max=65535, precision=0))
            self._add("protocol", ui.select(["5", "3.1.1"], value=config.protocol, label="MQTT version"))
            self._add("tls_enabled", ui.switch("TLS", value=config.tls_enabled))
        with ui.element("div").classes("form"):
            for name, label in PEMS.items():
                self._pem(name, label, config)

    def _add(self, name: str, field: Any) -> None:
        self._fields[name] = field
        if name in self._owned:
            field.disable()

    def _pem(self, name: str, label: str, config: MqttConfig) -> None:
        stored = getattr(config, name)
        with ui.element("div"):
            field = upload(label, PEM_FILES, LARGEST_PEM, lambda event: self._take(name, event))
            field.props(f"data-pem={name}")
            if name in self._owned:
                field.disable()
            self._notes[name] = ui.label(_described(name, stored)).classes("muted").props(f"data-note={name}")

    async def _take(self, name: str, event: events.UploadEventArguments) -> None:
        """Check a file at once, and whether key and certificate belong together; the chain when all are saved."""
        await self._visitor.require(Role.ADMIN)
        self._uploaded.pop(name, None)
        try:
            text = (await event.file.read()).decode("ascii")
            check = certificates.parse_key if name == "client_key" else certificates.parse_valid
            check(text, f"The {PEMS[name]}")
            self._check_pair(self._uploaded | {name: text})
        except UnicodeDecodeError:
            self._note(name, f"{event.file.name} is not a PEM text.", "bad")
        except BacpipesError as error:
            self._note(name, str(error), "bad")
        else:
            self._uploaded[name] = text
            self._note(name, f"not saved yet: {_described(name, text)}", "warning")

    def _check_pair(self, pems: dict[str, str]) -> None:
        if {"client_certificate", "client_key"} <= pems.keys():
            certificates.check_pair(pems["client_certificate"], pems["client_key"], "client certificate")

    def _note(self, name: str, text: str, level: str) -> None:
        self._notes[name].set_text(text)
        self._notes[name].classes(replace=level)

    def _changes(self) -> dict[str, object]:
        values = {name: field.value for name, field in self._fields.items() if name not in self._owned}
        values |= {name: int(values[name] or 0) for name in NUMBERS if name in values}
        if not values.get("password"):
            values.pop("password", None)  # blank keeps what there is
        return values | self._uploaded

    async def _wanted(self) -> MqttConfig:
        """What is in force with the form's changes, checked whole; `InputError` where it can't be."""
        async with store().connection() as connection:
            config = await mqtt_config.load(connection, settings())
        return mqtt_config.check({name: getattr(config, name) for name in MqttConfig.model_fields} | self._plain())

    def _plain(self) -> dict[str, object]:
        return {name: value if value != "" else None for name, value in self._changes().items()}

    async def _test(self) -> None:
        await self._visitor.require(Role.ADMIN)
        self._say("Trying …", "")
        try:
            result = await test_connection(await self._wanted())
        except (BacpipesError, *DATABASE_ERRORS) as error:
            self._say(_text(error), "bad")
            return
        self._show(result)

    def _show(self, result: TestResult) -> None:
        self._result.clear()
        with self._result:
            for step in result.steps:
                with ui.element("div").classes(f"finding {'good' if step.ok else 'bad'}"):
                    ui.label(f"{step.name}: {step.detail}")
                    if step.remedy:
                        ui.label(step.remedy).classes("strong")

    async def _save(self) -> None:
        await self._visitor.require(Role.ADMIN)
        try:
            config = await self._wanted()
            async with store().connection() as connection:
                changed = await mqtt_config.save(connection, settings(), self._changes(), actor=self._visitor.actor)
        except (BacpipesError, *DATABASE_ERRORS) as error:
            self._say(_text(error), "bad")
            return
        if "password" in self._fields:
            self._fields["password"].set_value("")
        for name in self._uploaded:
            self._note(name, _described(name, self._uploaded[name]), "good")
        self._uploaded.clear()
        said = f"Saved: {', '.join(changed)}. The worker takes it over at once." if changed else "Nothing was changed."
        self._say(" ".join([said, *(f"Note: {remark}." for remark in config.remarks())]), "good")

    def _say(self, text: str, level: str) -> None:
        self._result.clear()
        with self._result:
            ui.label(text).classes(f"finding {level}" if level else "muted")


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, BacpipesError) else " ".join(reason_of(error))


def _described(name: str, stored: Any) -> str:
    """What a PEM field holds, without any of a key."""
    if not stored:
        return "none"
    if name == "client_key":
        return "a key is set"
    try:
        info = certificates.describe(certificates.parse(str(stored), PEMS[name])[0])
    except BacpipesError as error:
        return str(error)
    return f"{info}, {info.days_left} days left"
