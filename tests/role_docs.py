"""The tables of docs/inventory.md, from the role `site`'s argument_specs; run as a program it writes them anew."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "inventory.md"
_TABLE = re.compile(r"<!-- keys of (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def options(role: str) -> dict[str, Any]:
    """The options of all of a role's entry points."""
    file = ROOT / "roles" / role / "meta" / "argument_specs.yml"
    points: dict[str, Any] = yaml.safe_load(file.read_text())["argument_specs"]
    return {name: option for point in points.values() for name, option in point.get("options", {}).items()}


def keys(spec: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every key below ``path`` that holds no further ones, with its specification."""
    for key, inner in spec.get("options", {}).items():
        if "options" in inner:
            yield from keys(inner, f"{path}.{key}{'[]' if inner['type'] == 'list' else ''}")
        else:
            yield f"{path}.{key}", inner


def table(name: str) -> str:
    """The table of `site`'s or `fleet`'s keys, between the marks that find it again."""
    lines = [f"<!-- keys of {name} -->", "| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    for key, spec in keys(options("site")[name], name):
        kind = " or ".join(f"`{choice}`" for choice in spec["choices"]) if "choices" in spec else spec["type"]
        default = "(required)" if spec.get("required") else _default(spec.get("default"))
        lines.append(f"| `{key}` | {kind} | {default} | {' '.join(spec['description'].split())} |")
    return "\n".join([*lines, "<!-- end -->"])


def _default(value: Any) -> str:
    if value is None:
        return ""
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def fresh(page: str) -> str:
    """The page with its tables as they should be."""
    return _TABLE.sub(lambda match: table(match[1]), page)


if __name__ == "__main__":
    PAGE.write_text(fresh(PAGE.read_text()))
