"""What every section of the configuration is: closed and frozen, with the types of its values."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]  # becomes a file name
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Part = Annotated[float, Field(gt=0, le=1)]
Rgb = tuple[Fraction, Fraction, Fraction]
RgbSpread = tuple[Part, Part, Part]  # pixels are divided by it


class Section(BaseModel):
    """A closed, frozen group of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def json_text(self) -> str:
        """The section as the JSON text that a rule's `--settings` takes; the same values give the same text."""
        return self.model_dump_json()
