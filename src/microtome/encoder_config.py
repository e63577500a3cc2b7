"""The configuration of encoders: which there are, how their features are made, and the sample on which they are judged without labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from microtome.explain import did_you_mean
from microtome.section import Count, Name, Rgb, RgbSpread, Section

HUB, LOCAL = "hf-hub:", "local-dir:"  # what timm puts before the name of a model that is not its own
WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".bin")
Precision = Literal["fp32", "bf16", "fp16"]  # of the computation
Stored = Literal["float32", "float16"]
Source = Literal["tiles", "slides"]


class RunEncoder(Section):
    """The checkpoints of one of our runs: encoder names are `<run name>@<pseudo-epoch>`."""

    run: str
    pseudo_epochs: tuple[Count, ...]
    pooling: Literal["cls", "mean", "cls+mean"]
    input_px: Count | None


class Normalization(Section):
    """What is taken off and divided by, for R, G, B in 0..1."""

    mean: Rgb
    std: RgbSpread


class TimmEncoder(Section):
    """A model that timm can build: by its name in timm, `hf-hub:owner/name[@revision]`, or `local-dir:folder`.

    `pretrained` takes the published weights (the folder's, of a local-dir), `random` says in every legend that it is a null; else `weights`
    is a file.
    """

    timm: str
    weights: Literal["pretrained", "random"] | Path
    arguments: dict[str, bool | int | float | str]
    truncate: Literal["layer3"] | None
    pooling: Literal["cls", "mean", "cls+mean", "model"]
    input_px: Count | None
    normalization: Normalization | None

    @property
    def folder(self) -> Path | None:
        """The folder of a `local-dir:` model."""
        return Path(self.timm.removeprefix(LOCAL)) if self.timm.startswith(LOCAL) else None

    @model_validator(mode="after")
    def source_is_known(self) -> Self:
        """A name that could be mistaken for a file, or weights from two places, are refused before any job."""
        if ("/" in self.timm or ":" in self.timm) and not self.timm.startswith((HUB, LOCAL)):
            raise ValueError(f"timm: found {self.timm!r}, expected a model's name in timm, {HUB}owner/name or {LOCAL}folder")
        if isinstance(self.weights, Path):
            if self.weights.suffix not in WEIGHT_FILES:
                found = f"weights: found {str(self.weights)!r}, expected pretrained, random or a file ({', '.join(WEIGHT_FILES)})"
                raise ValueError(found + did_you_mean(str(self.weights), ["pretrained", "random"]))
            if self.timm.startswith((HUB, LOCAL)):
                raise ValueError(f"weights: found the file {self.weights} beside {self.timm}, which has its own; expected pretrained")
        return self


def _kind_of_encoder(value: Any) -> str:
    return "run" if isinstance(value, RunEncoder) or (isinstance(value, Mapping) and "run" in value) else "timm"


Encoder = Annotated[Annotated[RunEncoder, Tag("run")] | Annotated[TimmEncoder, Tag("timm")], Discriminator(_kind_of_encoder)]


class Features(Section):
    """The encoders whose features are made, and how."""

    version: int
    shards: Count
    batch: Count
    precision: Precision
    dtype: Stored
    source: Source
    coords: Path | None
    encoders: dict[Name, Encoder]


class QualitySample(Section):
    """What the sample of tiles for judging encoders follows from."""

    version: int
    tiles: Annotated[int, Field(ge=2)]
    tiles_per_slide: Count


class Quality(QualitySample):
    """The sample of tiles on which encoders are judged without the tasks' labels, and how."""

    neighbours: Count

    def sample_only(self) -> QualitySample:
        """What the sample follows from."""
        return QualitySample.model_validate(self.model_dump(exclude={"neighbours"}))
