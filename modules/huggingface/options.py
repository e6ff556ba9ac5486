"""How checkpoints are run here: the `MODULE_…` settings, read from the environment."""

import os
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.errors import AnalysisError, ErrorCode

PREFIX = "MODULE_"

Precision = Literal["auto", "float32", "bfloat16", "float16"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What `infra.settings.ModuleSettings` describes, under the same names and with the same defaults."""

    max_batch: Annotated[int, Meta(ge=1)] = 16
    min_score: Annotated[float, Meta(ge=0, le=1)] = 0.5
    dtype: Precision = "auto"
    compile: Literal["off", "on"] = "off"

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> "Options":
        """Reads them from the environment.

        Raises:
            AnalysisError: a value breaks its rule; the message names the variable.
        """
        given = os.environ if environ is None else environ
        values = {}
        for field in cls.__struct_fields__:
            name = PREFIX + field.upper()
            if name not in given:
                continue
            values[field] = given[name]
            try:
                msgspec.convert({field: given[name]}, cls, strict=False)
            except msgspec.ValidationError as error:
                rule = str(error).partition(" - at")[0]
                message = f"{name}: {rule} (its value is {given[name]!r})"
                raise AnalysisError(ErrorCode.SETTING_INVALID, message) from None
        return msgspec.convert(values, cls, strict=False)
