"""The shape of every request: the SDK's own request classes, and for `reports.*`, which it has none for, schema/services/reports.conf."""

from __future__ import annotations

import importlib
from typing import Any

import jsonschema

VERSIONS = ((2, 9), (2, 13), (2, 20), (2, 23))
NO_CLASS = {("auth", "login"), ("users", "get_current_user"), ("users", "get_vaults")}
QUERY = {"search_hidden", "only_fields", "order_by", "page", "page_size", "scroll_id", "size", "allow_public", "include_subprojects"}
"""What queries may carry beyond their class: the SDK sends these with `_allow_extra_fields_`."""
TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
REPORTS: dict[str, dict[str, Any]] = {
    "create": {"required": ["name"], "properties": {"name": TEXT, "tags": TEXTS, "comment": TEXT, "report": TEXT, "project": TEXT}},
    "update": {"required": ["task"], "properties": {"task": TEXT, "name": TEXT, "tags": TEXTS, "comment": TEXT, "report": TEXT}},
    "publish": {"required": ["task"], "properties": {"task": TEXT, "comment": TEXT}},
    "get_all_ex": {"properties": {"id": TEXTS, "tags": TEXTS, "project": TEXTS, "status": TEXTS, **{key: {} for key in QUERY}}},
}


for _schema in REPORTS.values():
    _schema |= {"type": "object", "additionalProperties": False}


class Invalid(Exception):
    """A request that the real server's schema does not know."""


def request_class(version: tuple[int, int], service: str, action: str) -> Any:
    """The SDK's class for an endpoint in the newest service version that is not newer than asked. Raises Invalid."""
    known = [candidate for candidate in VERSIONS if candidate <= version] or [VERSIONS[0]]
    name = "".join(part.capitalize() for part in action.split("_")) + "Request"
    for major, minor in reversed(known):
        try:
            module = importlib.import_module(f"clearml.backend_api.services.v{major}_{minor}.{service}")
        except ModuleNotFoundError:
            continue
        if hasattr(module, name):
            return getattr(module, name)
    raise Invalid(f"there is no {service}.{action}")


def check(version: tuple[int, int], service: str, action: str, content: Any) -> None:
    """Raises Invalid unless `content` is a request of this endpoint."""
    if (service, action) in NO_CLASS:
        return
    if service == "reports":
        if action not in REPORTS:
            raise Invalid(f"there is no reports.{action}")
        _validate(content, REPORTS[action])
        return
    cls = request_class(version, service, action)
    if action == "add_batch":
        item = cls._batched_request_cls
        for event in content:
            _validate({**event, "level": event["level"].lower()} if "level" in event else event, item._schema)
            if not (isinstance(event.get("task"), str) and isinstance(event.get("type"), str)):
                raise Invalid("an event without task or type")
        return
    _validate(content, cls._schema)
    unknown = set(content) - set(cls._schema.get("properties", {})) - (QUERY if action.startswith("get_") else set())
    if unknown and not (action.startswith("get_") and all(name.startswith("_") for name in unknown)):
        raise Invalid(f"{service}.{action} has no field {min(unknown)}")
    known = {name: value for name, value in content.items() if name in cls._schema.get("properties", {})}
    try:
        cls.from_dict(known)
    except (ValueError, TypeError, AttributeError) as error:
        raise Invalid(f"{service}.{action}: {error}") from None


_validators: dict[int, Any] = {}


def _validate(content: Any, schema: dict[str, Any]) -> None:
    """As `jsonschema.validate`, which would check the schema itself each time: longer than everything else here."""
    if id(schema) not in _validators:
        _validators[id(schema)] = (jsonschema.Draft7Validator(schema), schema)  # the schema is kept, so that its id stays its own
    error = jsonschema.exceptions.best_match(_validators[id(schema)][0].iter_errors(content))
    if error is not None:
        raise Invalid(f"{'/'.join(map(str, error.path))}: {error.message[:300]}")
