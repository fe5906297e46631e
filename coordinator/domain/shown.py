"""Serialisation of results by pydantic and FastAPI, as their ``as_dict``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema


def schema_of(cls: type[Any]) -> CoreSchema:
    """Return the schema of a result: an instance of ``cls``, serialised by its ``as_dict``."""
    from pydantic_core import core_schema

    shown = core_schema.plain_serializer_function_ser_schema(
        lambda value: value.as_dict(), return_schema=core_schema.dict_schema()
    )
    return core_schema.is_instance_schema(cls, serialization=shown)


class Shown:
    """A result that is the same JSON from pydantic, FastAPI and the command line.

    It can be returned by a handler whose return type it is. It is made by the coordinator alone:
    a dict is never taken for one.
    """

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return schema_of(cls)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "object", "title": cls.__name__}
