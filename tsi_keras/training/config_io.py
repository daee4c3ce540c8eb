"""Reading and writing configurations; every mistake becomes one readable line."""

import difflib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.error import YAMLError

from tsi_keras.training.config import Config
from tsi_keras.training.config import describe_keys
from tsi_keras.utils.errors import InputError

_OVERRIDE = re.compile(r"(?:--)?([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)=(.*)", re.DOTALL)
_Key = tuple[str, ...]


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML configuration.

    Keys the file does not name keep their defaults (the paper's). Values are YAML
    1.2, so that `1e-4` is a number and `no` a word.

    Args:
        path: YAML file with the sections `model`, `data` and `train`; None for the
            defaults.
        overrides: `--section.key=value` strings, stronger than the file; the value
            is YAML (`--train.milestones=[20,40]`).

    Returns:
        The checked configuration.

    Raises:
        InputError: the file is unreadable or no YAML, or a key or value is wrong;
            one line that names the file or override, the key and the value.

    Example:
        ```python
        config = load_config("configs/demo_tsi.yaml", ["--train.epochs=3"])
        ```
    """
    values = {} if path is None else _read_mapping(Path(path))
    sources = {}
    for override in overrides:
        key, value = _parse_override(override)
        _assign(values, key, value, override)
        sources[key] = override
    return _validate(values, "defaults" if path is None else str(path), sources)


def dump_config(config: Config) -> str:
    """Return `config` as YAML text that `load_config` reads back."""
    text = io.StringIO()
    _yaml().dump(config.model_dump(), text)
    return text.getvalue()


def _yaml() -> YAML:
    """A YAML 1.2 reader and writer (the C variant would read YAML 1.1)."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False
    return yaml


def _read_mapping(path: Path) -> dict[str, Any]:
    """Read the file; an empty one means all defaults."""
    try:
        values = _yaml().load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"`--config` {path} cannot be read: {error.strerror}; give a YAML file, "
            "see configs/."
        ) from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {_yaml_reason(error)}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(
            f"{path} must hold the sections {', '.join(Config.model_fields)}. "
            f"Received: {values!r}"
        )
    return values


def _yaml_reason(error: Exception) -> str:
    """The parser's complaint in one line, with the line number where it has one."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        problem = " ".join(str(error.problem).split())
        return f"line {error.problem_mark.line + 1}: {problem}"
    return " ".join(str(error).split())


def _parse_override(override: str) -> tuple[_Key, Any]:
    """`--train.epochs=3` -> (("train", "epochs"), 3)."""
    match = _OVERRIDE.fullmatch(override)
    if match is None:
        raise InputError(
            "An override has the form --section.key=value, like --train.epochs=3. "
            f"Received: {override}"
        )
    try:
        value = _yaml().load(match[2])
    except YAMLError as error:
        reason = _yaml_reason(error)
        raise InputError(f"The value of {override} is not YAML: {reason}.") from error
    return tuple(match[1].split(".")), value


def _assign(values: dict[str, Any], key: _Key, value: Any, override: str) -> None:
    """Set a nested entry; sections that are not there yet are made."""
    for depth, part in enumerate(key[:-1], start=1):
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise InputError(
                f"{override}: `{'.'.join(key[:depth])}` is no section. "
                f"Received: {values!r}"
            )
    values[key[-1]] = value


def _validate(values: dict[str, Any], path: str, sources: dict[_Key, str]) -> Config:
    """Check against the schema; only the first mistake is reported."""
    try:
        return Config.model_validate(values)
    except ValidationError as failure:
        errors = failure.errors(include_url=False)
        raise InputError(_message(errors, values, path, sources)) from failure


def _message(
    errors: list[dict[str, Any]],
    values: dict[str, Any],
    path: str,
    sources: dict[_Key, str],
) -> str:
    """One line for the first mistake (a union reports one per alternative)."""
    first = errors[0]
    if first["type"] == "value_error":
        return f"{' '.join([path, *sources.values()])}: {first['ctx']['error']}"
    key = _known_part(first["loc"])
    where = next((text for name, text in sources.items() if name[:2] == key[:2]), path)
    name = ".".join(map(str, key))
    if first["type"] in ("extra_forbidden", "invalid_key"):
        return f"{where}: unknown key `{name}`{_suggestion(name)}"
    alternatives = [e for e in errors if _known_part(e["loc"])[:2] == key[:2]]
    expected = _expected(alternatives, name)
    return f"{where}: `{name}` should be {expected}. Received: {_lookup(values, key)!r}"


def _expected(alternatives: list[dict[str, Any]], name: str) -> str:
    """What would have been right, in words."""
    first = alternatives[0]
    if first["type"] in ("model_type", "model_attributes_type"):
        return "a section of `key: value` lines"
    if len(alternatives) > 1:
        return next((row[1] for row in describe_keys() if row[0] == name), "a list")
    return first["msg"].removeprefix("Input should be ")


def _known_part(location: tuple[Any, ...]) -> tuple[Any, ...]:
    """Cut pydantic's location where it names alternatives of a union."""
    inside_list = [part for part in location[2:] if isinstance(part, int)]
    return (*location[:2], *inside_list[:1]) if len(location) > 2 else location


def _lookup(values: Any, key: tuple[Any, ...]) -> Any:
    """The value that was given for `key`."""
    for part in key:
        values = values[part]
    return values


def _suggestion(name: str) -> str:
    """A near match among all keys, else where to find them."""
    names = [row[0] for row in describe_keys()]
    by_last = {known.split(".")[-1]: known for known in names}
    close = difflib.get_close_matches(name, [*names, *Config.model_fields], 1)
    if not close:
        last = difflib.get_close_matches(name.split(".")[-1], by_last, 1)
        close = [by_last[key] for key in last]
    if close:
        return f"; did you mean `{close[0]}`?"
    return "; `python -m pipelines.train --help` lists all keys."
