"""The base of every settings model: frozen, with no unknown keys, so that a typing error is an error."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """One concern of a recipe. Field docstrings give meaning and unit."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, document: Any) -> Any:
        """Pydantic would read YAML's `on` and `yes` as 1."""
        for name, field in cls.model_fields.items() if isinstance(document, dict) else ():
            if isinstance(document.get(name), bool) and field.annotation is not bool:
                raise ValueError(f"{name} must not be true or false (so YAML reads on, off, yes, no): quote a word")
        return document
