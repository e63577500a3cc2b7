"""Features of the tasks' slides: one encoder, one feature shard, an HDF5 file a slide.

Tiles stay in the order of their index. A slide whose file was made from the same tiles, weights and settings is left as it is; files
of slides that left the tasks are removed. A slide without tiles, or with one that cannot be read, is a row with its reason.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from microtome.atomic import atomic_path, sweep_parts
from microtome.cohort import shard_of
from microtome.command_line import run
from microtome.encoders import PRECISIONS, TileEncoder, load_encoder, weights_digest
from microtome.feature_store import stored_dim, write_features
from microtome.ledger import read_sidecar, source_of
from microtome.outdated import digest_of, digests_in, write_noted
from microtome.progress import progress_bar
from microtome.replaced import is_replaced, source_now, why
from microtome.settings import EncoderSettings
from microtome.slide_pixels import SlideFile, SlidePixels
from microtome.slide_tiles import SlideTiles, locate, toolkit_attributes
from microtome.tasks import read_task
from microtome.tile_batches import StoredTiles, TileReader, batches

CPU_BATCH = 16  # tiles whose activations fit a core's cache: a third faster than 64 with ViT-S/16


def slides_of_shard(tasks: Sequence[Path], shard: str, shards: int) -> list[str]:
    """The slides of the task tables that belong to feature shard `shard`, sorted."""
    slides = {str(slide) for table in tasks for slide in read_task(table)["slide"]}
    return sorted(slide for slide in slides if shard_of(slide, shards) == shard)


def digest(settings: EncoderSettings, weights: str, tiles: SlideTiles, file: SlideFile | None) -> str:
    """A SHA-256 of all that a slide's features follow from; `file` is the slide's where tiles are read from it."""
    if file is None:
        pixels = tiles.offset_b.tobytes() + tiles.size_b.tobytes()
    else:
        pixels = json.dumps([file.tile_px0, tiles.tile_px, source_of(file.path, checksum=False)]).encode()
    return hashlib.sha256(b"\x1f".join([settings.json_text().encode(), weights.encode(), tiles.coords_px0.tobytes(), pixels])).hexdigest()


def encode(
    encoder: TileEncoder,
    slides: Sequence[SlideTiles],
    settings: EncoderSettings,
    batch: int,
    workers: int,
    reader: Callable[[], TileReader] = StoredTiles,
) -> Iterator[tuple[int, NDArray[Any] | str]]:
    """Each slide's number and features [tiles, d], or the reason why it has none, as soon as its last tile is done.

    On a CPU each worker encodes what it has read, on one core; on a GPU they take turns. fp32 is float32 there, too, not TF32.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # torch has it on for convolutions
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder, precision = encoder.to(device), PRECISIONS[settings.precision]
    turn: AbstractContextManager[Any] = nullcontext() if device.type == "cpu" else Lock()

    def features_of(images: NDArray[np.uint8]) -> NDArray[Any]:
        with turn:
            features: NDArray[Any] = encoder(torch.from_numpy(images).to(device), precision).cpu().numpy()
        return features.astype(settings.dtype)

    size = min(batch, CPU_BATCH) if device.type == "cpu" else batch
    under_way: list[NDArray[Any]] = []  # features of the slide whose tiles are not all done
    failed, left = dict[int, str](), len(slides)
    with progress_bar(sum(len(tiles) for tiles in slides), f"features of {settings.name}", "tile") as bar:
        for done in batches(slides, size, workers, features_of, reader):
            failed |= done.failed
            for number in np.unique(done.slides).tolist():
                under_way.append(done.values[done.slides == number])
                if sum(map(len, under_way)) == len(slides[number]):
                    yield number, failed.get(number) or _checked(np.concatenate(under_way), settings)
                    under_way.clear()
                    left -= 1
            bar.set_postfix_str(f"{left} slides left", refresh=False)
            bar.update(len(done.values))


def _checked(features: NDArray[Any], settings: EncoderSettings) -> NDArray[Any] | str:
    remedy = f"try fp32 and float32 (precision is {settings.precision}, dtype {settings.dtype})"
    return features if np.isfinite(features).all() else f"features are NaN or infinite: {remedy}"


def reader_of(rows: pd.DataFrame, settings: EncoderSettings) -> tuple[dict[str, SlideFile], Callable[[], TileReader]]:
    """The files of the slides in `rows` (slide, path, tile_px0) where tiles are read from them, and what reads tiles."""
    if settings.source == "tiles":
        return {}, StoredTiles
    sides_px0 = rows["tile_px0"].tolist()
    files = {slide: SlideFile(Path(path), side) for slide, path, side in zip(rows["slide"], rows["path"], sides_px0, strict=True)}
    return files, partial(SlidePixels, files, settings.fast_path)


def _replaced(row: Any, tiles: Path, folder: Path) -> str:
    """Why a slide cannot be read at the places of its tiles: it is not the file that they were found on. Else ""."""
    noted = read_sidecar(tiles / str(row.shard) / f"{row.slide}.json")
    seen = noted[0]["source"] if noted else {}  # imported coordinates have no sidecar
    source = source_now(Path(row.path), seen)
    again = [f"{tiles.parent}/tissue/{row.shard}.parquet", f"{folder}.parquet"]
    return why("tiles", seen, source, "Find its tissue and make its tiles anew", again, "all") if is_replaced(seen, source) else ""


def _write_missing(
    rows: pd.DataFrame, tiles: Path, folder: Path, encoder: TileEncoder, settings: EncoderSettings, batch: int, workers: int
) -> dict[str, int | str]:
    """Make the features that are not there. Returns for each slide of `rows` the dimension of its features, or why it has none."""
    weights, todo = weights_digest(encoder), []
    outcome: dict[str, int | str] = {}
    files, reader = reader_of(rows, settings)
    for row in rows.itertuples():
        where = locate(row, tiles)
        if where.slide in files and (replaced := _replaced(row, tiles, folder)):
            outcome[where.slide] = replaced
            continue
        made_from = digest(settings, weights, where, files.get(where.slide))
        dim = stored_dim(folder / f"{where.slide}.h5", where.coords_px0, made_from)
        if dim is None:
            todo.append((row, where, made_from))
        else:
            outcome[where.slide] = dim
    for number, features in encode(encoder, [where for _, where, _ in todo], settings, batch, workers, reader):
        row, where, made_from = todo[number]
        if isinstance(features, str):
            outcome[where.slide] = features
        else:
            write_features(folder / f"{where.slide}.h5", features, where.coords_px0, toolkit_attributes(row, folder), made_from)
            outcome[where.slide] = features.shape[1]
    return outcome


def features(
    catalog: Path,
    tiles: Path,
    slides_of: list[Path],
    shard: str,
    shards: int,
    folder: Path,
    table: Path,
    settings: EncoderSettings,
    batch: int,
    workers: int,
    weights: Path | None = None,
) -> None:
    """Bring the feature files of a shard up to date and write their table: slide, status, reason, tiles, dim, path, rows_digest.

    `catalog` and the indexes in `tiles` say where the tiles are; their pixels come from the tars beside, or (`settings.source`) the slides.
    Status and reason are the catalog's for a slide that has no tiles; a slide with a tile that cannot be read has failed here.
    """
    torch.set_num_threads(1)  # of each worker
    wanted = pd.DataFrame({"slide": slides_of_shard(slides_of, shard, shards)}, dtype="str")
    rows = wanted.merge(pd.read_parquet(catalog), on="slide", how="left")
    rows["status"] = rows["status"].fillna("failed")
    rows["reason"] = rows["reason"].fillna("the slide table does not have it")
    usable = rows["status"].eq("ok") & rows["tiles"].gt(0)
    folder.mkdir(parents=True, exist_ok=True)
    outcome: dict[str, int | str] = {}
    if usable.any():
        outcome = _write_missing(rows[usable], tiles, folder, load_encoder(settings, weights), settings, batch, workers)
    _sweep(folder, {slide for slide, dim in outcome.items() if isinstance(dim, int)})
    digests = digests_in(rows)
    with atomic_path(table) as part:
        write_noted(part, _table(rows, outcome, folder).assign(rows_digest=digests), digest_of(rows["slide"], digests))


def _sweep(folder: Path, slides: set[str]) -> None:
    sweep_parts(folder)
    for path in folder.glob("*.h5"):
        if path.stem not in slides:
            path.unlink()


def _table(rows: pd.DataFrame, outcome: dict[str, int | str], folder: Path) -> pd.DataFrame:
    made = [outcome.get(slide, "") for slide in rows["slide"]]
    dims = [dim if isinstance(dim, int) else 0 for dim in made]
    broken = pd.Series([why if isinstance(why, str) else "" for why in made], rows.index, dtype="str")
    return pd.DataFrame(
        {
            "slide": rows["slide"],
            "status": rows["status"].mask(broken.ne(""), "failed"),
            "reason": rows["reason"].mask(broken.ne(""), broken),
            "tiles": rows["tiles"].fillna(0).astype("int64"),
            "dim": pd.Series(dims, rows.index, dtype="int64"),
            "path": [str(folder / f"{slide}.h5") if dim else "" for slide, dim in zip(rows["slide"], dims, strict=True)],
        }
    )


if __name__ == "__main__":
    run(features)
