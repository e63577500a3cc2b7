"""How good one encoder is without the tasks' labels, on the sample of tiles that all encoders share (`microtome.quality_sample`).

The null of a run is its own architecture with the random weights that it would start from, prepared and pooled as its checkpoints are.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from microtome.atomic import atomic_path, write_text
from microtome.checkpoint import save_encoder
from microtome.collapse import rankme
from microtome.command_line import run
from microtome.encoder_config import RunEncoder
from microtome.encoders import TileEncoder, load_encoder
from microtome.errors import UserError
from microtome.feature_quality import judged_labels, knn_accuracy, odcorr
from microtome.features import encode, reader_of
from microtome.pretrain import build_algorithm
from microtome.settings import EncoderSettings, PretrainSettings
from microtome.slide_tiles import SlideTiles
from microtome.tile_batches import TileReader
from microtome.training_schedules import Length

DIGITS = "%.6g"


def untrained_encoder(settings: EncoderSettings, untrained: PretrainSettings) -> TileEncoder:
    """The encoder of a run before its first step. It goes through a file, as the checkpoints that it is compared with do."""
    algorithm = build_algorithm(untrained, Length(1, untrained.run.schedule_epochs))
    recipe = untrained.recipe
    card = {"model": untrained.run.model, "img_size": algorithm.crop_px, "mean": recipe.mean, "std": recipe.std}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "encoder.safetensors"
        save_encoder(weights, algorithm.encoder, card)
        return load_encoder(settings, weights)


def slides_of(sample: pd.DataFrame, tiles: Path) -> list[SlideTiles]:
    """The sampled tiles, slide by slide, in the order of the sample."""
    found = []
    for slide, rows in sample.groupby("slide", sort=False):
        places = rows[["x_px0", "y_px0"]].to_numpy(np.int64)
        tar = tiles / str(rows["shard"].iloc[0]) / f"{slide}.tar"
        offset_b, size_b = rows["offset_b"].to_numpy(np.int64), rows["size_b"].to_numpy(np.int32)
        found.append(SlideTiles(str(slide), tar, int(rows["tile_px"].iloc[0]), places, offset_b, size_b))
    return found


def features_of(
    encoder: TileEncoder, slides: list[SlideTiles], settings: EncoderSettings, batch: int, workers: int, reader: Callable[[], TileReader]
) -> NDArray[Any]:
    """Features [tiles of the sample, d], in its order.

    Raises:
        UserError: a tile cannot be read, or has features that are NaN or infinite.
    """
    parts = []
    for number, values in encode(encoder, slides, settings, batch, workers, reader):
        if isinstance(values, str):
            remedy = "If its tiles were made again since the sample was drawn, raise quality.version."
            raise UserError(f"The sample's tiles of slide {slides[number].slide} have no features: {values} {remedy}")
        parts.append(values)
    return np.concatenate(parts)


def measured(features: NDArray[Any], sample: pd.DataFrame, neighbours: int) -> dict[str, float]:
    """tiles, dim, rankme, odcorr, knn_accuracy (of the organ, patients held out), organs that it is a mean over, chance (1 / organs)."""
    organs, patients = sample["organ"].to_numpy(), sample["patient"].to_numpy()
    judged = len(judged_labels(organs, patients))
    return {
        "tiles": len(features),
        "dim": features.shape[1],
        "rankme": float(rankme(torch.from_numpy(features))),
        "odcorr": odcorr(features),
        "knn_accuracy": knn_accuracy(features, organs, patients, neighbours),
        "organs": judged,
        "chance": 1 / judged if judged else float("nan"),
    }


def is_null(settings: EncoderSettings) -> bool:
    """Whether the encoder has random weights: the null of a run, or a timm model's."""
    encoder = settings.encoder
    return not encoder.pseudo_epochs if isinstance(encoder, RunEncoder) else encoder.weights == "random"


def quality(
    sample: Path,
    tiles: Path,
    features: Path,
    measures: Path,
    neighbours: int,
    batch: int,
    workers: int,
    settings: EncoderSettings,
    weights: Path | None = None,
    untrained: PretrainSettings | None = None,
) -> None:
    """Encode the sample and measure its features: `features` (HDF5: `features` [tiles, d], in the sample's order) and `measures` (CSV).

    `weights` is a checkpoint's file; `untrained` says what the random weights of a run's null follow from.
    """
    torch.set_num_threads(1)  # of each worker
    drawn = pd.read_parquet(sample)
    encoder = untrained_encoder(settings, untrained) if untrained else load_encoder(settings, weights)
    _, reader = reader_of(drawn.drop_duplicates("slide"), settings)
    made = features_of(encoder, slides_of(drawn, tiles), settings, batch, workers, reader)
    with atomic_path(features) as part, h5py.File(part, "w") as file:
        file["features"] = made
    torch.set_num_threads(workers)
    row = {"encoder": settings.name, "null": is_null(settings), **measured(made, drawn, neighbours)}
    write_text(measures, pd.DataFrame([row]).to_csv(index=False, float_format=DIGITS))


if __name__ == "__main__":
    run(quality)
