"""A stage over many slides: every slide is attempted, none is done twice, and none vanishes without a reason.

Each slide has a sidecar `<slide>.json` beside its files, written last: what it was made from (`inputs`: settings, size and modification
time of the source) and its row of the shard's table. A slide whose sidecar matches is not made again; one that failed is, with `again`.
"""

import gc
import hashlib
import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import cv2

from microtome.atomic import sweep_parts, write_text
from microtome.digests import short_digest
from microtome.errors import NO_ROOM, UserError
from microtome.progress import progress
from microtome.section import Section
from microtome.slides import SlideError

Row = dict[str, Any]
SHOWN_REASONS = 20
WORKERS_IMPORT = ["pandas", "pyarrow.parquet", "microtome.tile_source", "microtome.tissue_mask", "microtome.thumbnails"]  # once for all


@dataclass(frozen=True)
class SlideJob:
    """One slide's work. `make` writes the slide's files into `folder` and returns its row; it raises SlideError with a reason."""

    slide: str
    folder: Path
    inputs: Row
    suffixes: tuple[str, ...]  # of the files that a slide with status ok has in `folder`
    make: Callable[[], Row]  # is sent to another process: a functools.partial of a module's function


def digest(settings: Section) -> str:
    """16 hexadecimal digits that change with any of the settings."""
    return short_digest(settings.json_text())


def source_of(path: Path, checksum: bool) -> Row:
    """By what a file that was replaced under the same name is noticed. A missing file has size -1."""
    try:
        found = path.stat()
        source = {"size_b": found.st_size, "mtime_ns": found.st_mtime_ns}
        return source | ({"sha256": _sha256(path)} if checksum else {})
    except OSError:
        return {"size_b": -1, "mtime_ns": 0}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_sidecar(path: Path) -> tuple[Row, Row] | None:
    """The inputs and the row of a slide as `record` noted them; None where there is no such note."""
    try:
        noted = json.loads(path.read_text())
        return noted["inputs"], noted["row"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sidecar_row(job: SlideJob, again: bool = True) -> Row | None:
    """The row of a slide that is finished and up to date, or None; also None, with `again`, of one that failed."""
    noted = read_sidecar(job.folder / f"{job.slide}.json")
    if noted is None:
        return None
    inputs, row = noted
    suffixes = job.suffixes if row["status"] == "ok" else ()
    there = all((job.folder / f"{job.slide}{suffix}").is_file() for suffix in suffixes)
    return row if inputs == job.inputs and there and not (again and row["status"] == "failed") else None


def attempt(job: SlideJob, again: bool = True) -> Row:
    """The slide's row, made now unless `sidecar_row` has it; whatever breaks the slide becomes the reason in a failed row.

    Raises:
        UserError: there is no room to write to, which is no fault of the slide.
    """
    with room_needed(job.folder):
        return sidecar_row(job, again) or record(job, _made(job))


def _made(job: SlideJob) -> Row:
    _clear(job)
    try:
        return {"slide": job.slide, "status": "ok", "reason": "", **job.make()}
    except SlideError as error:
        return failed(job, str(error))
    except Exception as error:  # a damaged file can break any library in any way; the other slides go on
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise
        return failed(job, f"{type(error).__name__}: {error}")


@contextmanager
def room_needed(folder: Path) -> Iterator[None]:
    """A full disk, or one that cannot be written, is a UserError that says where."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise UserError(f"{folder}: {error.strerror}. Make room and run again: finished slides are kept.") from None


def failed(job: SlideJob, reason: str) -> Row:
    """The row of a slide that could not be made; what it has in its folder is removed."""
    _clear(job)
    return {"slide": job.slide, "status": "failed", "reason": " ".join(reason.split())}


def _clear(job: SlideJob) -> None:
    for suffix in job.suffixes:
        (job.folder / f"{job.slide}{suffix}").unlink(missing_ok=True)


def record(job: SlideJob, row: Row) -> Row:
    """Write the slide's sidecar: from now on the slide is finished."""
    write_text(job.folder / f"{job.slide}.json", json.dumps({"inputs": job.inputs, "row": row}, sort_keys=True) + "\n")
    return row


def attempt_all(jobs: Sequence[SlideJob], folder: Path, workers: int, what: str, again: bool = True) -> list[Row]:
    """The rows of all slides, in the order of `jobs`, made by `workers` processes; what other slides left in `folder` is swept away.

    Without `again`, slides that failed and whose inputs are what they were stay failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep_parts(folder)
    slides = {job.slide for job in jobs}
    for path in folder.iterdir():
        if path.stem not in slides and not path.name.startswith(("_", ".")) and path.is_file():
            path.unlink()
    rows = dict(progress(_in_processes(jobs, workers, again), len(jobs), what, "slide"))
    return [rows[job.slide] for job in jobs]


def _in_processes(jobs: Sequence[SlideJob], workers: int, again: bool) -> Iterator[tuple[str, Row]]:
    """Slides and their rows as they come. When a process died, those that are left are tried once more, each in a process of its own."""
    left = {job.slide: job for job in jobs}
    try:
        for slide, row in _pool(jobs, workers, again):
            yield slide, row
            del left[slide]
    except BrokenProcessPool:
        with ThreadPoolExecutor(workers) as threads:
            yield from threads.map(partial(_alone, again=again), left.values())


def _alone(job: SlideJob, again: bool) -> tuple[str, Row]:
    try:
        (made,) = _pool([job], 1, again)
        return made
    except BrokenProcessPool:
        return job.slide, record(job, failed(job, "the process that read it died: a damaged file, or no memory left"))


def _pool(jobs: Sequence[SlideJob], workers: int, again: bool) -> Iterator[tuple[str, Row]]:
    if not jobs:
        return
    context = get_context("forkserver")  # a plain fork of a process in which Arrow has started threads can hang for ever
    context.set_forkserver_preload(WORKERS_IMPORT)
    with ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_start_worker) as pool:
        futures: dict[Future[Row], str] = {pool.submit(attempt, job, again): job.slide for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    cv2.setNumThreads(1)  # a process is a core
    gc.freeze()  # what was imported is no garbage: looking through it costs as much as copying 4,000 tiles
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Without this the workers of a job that was killed would wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def refuse_failures(rows: Sequence[Row], max_failed_fraction: float, what: str) -> None:
    """Stop the job when more than `max_failed_fraction` of its slides, rounded up to a whole slide, failed.

    Raises:
        UserError: the slides and their reasons.
    """
    out = [row for row in rows if row["status"] == "failed"]
    allowed = math.ceil(max_failed_fraction * len(rows))
    if len(out) > allowed:
        reasons = [f"  {row['slide']}: {row['reason']}" for row in out[:SHOWN_REASONS]]
        more = [f"  and {len(out) - SHOWN_REASONS} more"] * (len(out) > SHOWN_REASONS)
        head = f"{what}: {len(out)} of {len(rows)} slides failed; max_failed_fraction {max_failed_fraction:g} allows {allowed}."
        remedy = "Mend them, or raise the limit, and run again: finished slides are kept, failed ones tried again."
        raise UserError("\n".join([head, *reasons, *more, remedy]))
