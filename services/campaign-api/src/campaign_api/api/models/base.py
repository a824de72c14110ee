"""What all models share: unknown fields are refused, read-only fields may be sent back, unbuilt ones say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

T = TypeVar("T")


class Model(BaseModel):
    """JSON types are taken as they are: "5" is no number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class NotBuilt:
    """A field that api.md names and that is not built yet: only the values that mean "without it" are taken."""

    def __init__(self, *accepted: object) -> None:
        self._accepted = accepted

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": list(self._accepted)}

    def _check(self, value: object) -> object:
        for accepted in self._accepted:
            if isinstance(value, bool) == isinstance(accepted, bool) and value == accepted:
                return value
        raise PydanticCustomError("not_built", "not built yet")


class ReadOnly:
    """A field that is ours: it may be sent back as it was read."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"readOnly": True}


Given = Annotated[Any, ReadOnly()]


class Writable(Model):
    """A body of POST or PUT. `content()` is what is kept."""

    id: Given = Field(None, description="Read-only.")
    created_at: Given = Field(None, description="Read-only.")
    updated_at: Given = Field(None, description="Read-only.")
    version: Given = Field(None, description="Read-only.")

    def read_only(self) -> Mapping[str, Any]:
        """Read-only fields that were sent, with what was sent."""
        return {name: getattr(self, name) for name in self._read_only_names() if name in self.model_fields_set}

    def content(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude=self._read_only_names(), by_alias=True)

    @classmethod
    def _read_only_names(cls) -> set[str]:
        return {
            name for name, field in cls.model_fields.items() if any(isinstance(m, ReadOnly) for m in field.metadata)
        }


class Framed(Model):
    """The fields every resource is answered with."""

    id: str = Field(description="Made by the server; sorts by creation.")
    created_at: str = Field(description="RFC 3339, UTC.")
    updated_at: str = Field(description="RFC 3339, UTC.")
    version: int = Field(description="Grows with each change; also the ETag.")


class Page(Model, Generic[T]):
    items: list[T] = Field(description="Newest first.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null when this was the last.")
