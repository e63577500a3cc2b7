"""The demo's cohort, drawn: pyramidal TIFF slides, their table, two tasks, and what goes wrong in a real archive.

Half of the task slides have a lesion. It differs from the tissue around it in the arrangement and size of its nuclei; a positive and a
negative slide come in pairs of one organ, scanner and mean tissue colour, so that neither mean colour nor any column of the table
tells the classes apart. Beside the task slides: an almost empty slide, a truncated file, an immunohistochemistry slide, and a patient who
opted out. The same arguments give the same bytes; what is up to date is not touched.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from microtome.atomic import atomic_path, write_text
from microtome.command_line import run
from microtome.digests import short_digest
from microtome.drawn_slide import Drawing, draw_slide, write_pyramid
from microtome.drawn_tissue import ORGANS
from microtome.errors import UserError
from microtome.progress import progress

DRAWING_VERSION = 4  # raise it when the drawing changes: all slides are drawn again
SPECIAL_SLIDES = 4
FEWEST_SLIDES = 12
HEAD_B = 8192  # the description with the digest stands within the first bytes of a file
TRUNCATED_FRACTION = 0.4


@dataclass(frozen=True)
class DemoSlide:
    """A row of the slide table, what is drawn for it, and its targets (None: in no task)."""

    slide: str
    patient: str
    organ: str
    stain: str
    origin: str
    scanner: str
    pretrain: bool
    drawing: Drawing
    truncated: bool = False
    texture: int | None = None
    alignment: int | None = None


def plan(seed: int, slides: int, size: float) -> list[DemoSlide]:
    """The cohort of `slides` slides, all but four of them in the tasks; `size` scales lengths (1: about 60 tiles of 64 µm a slide)."""
    if slides < FEWEST_SLIDES or slides % 2:
        raise UserError(f"--slides: found {slides}, expected an even number of at least {FEWEST_SLIDES}.")
    pairs = (slides - SPECIAL_SLIDES) // 2
    organs = list(ORGANS)[: 4 if pairs >= 8 else 2]
    return [_task_slide(seed, i, pairs, organs, size) for i in range(2 * pairs)] + _special_slides(seed, 2 * pairs, organs, size)


def _task_slide(seed: int, i: int, pairs: int, organs: list[str], size: float) -> DemoSlide:
    pair, positive = divmod(i, 2)
    second = pair >= pairs - max(1, pairs // 3)  # the second institution's: evaluated, never pretrained on
    aligned = (positive + pair + pair // len(organs)) % 2  # one of each pair, and one half of each class of the other task
    fine = pair % 5 in (1, 3)
    pen = {2: "blue", 3: "green"}.get(i)
    pieces = min(1 + pair % 3, max(1, int(3 * size**2)))  # none so small that it would be dropped
    organ = organs[pair % len(organs)]
    return DemoSlide(
        slide=f"{organ.replace(' ', '')}_{i:02d}",
        patient=f"patient_{i - 10 if 10 <= i < 16 and not second else i:02d}",  # some have a second slide, of the same classes
        organ=organ,
        stain="H&E",
        origin="second institution" if second else "first institution",
        scanner="scanner A" if fine else "scanner B",
        pretrain=not second,
        drawing=Drawing((seed, i), pair, organ, 0.25 if fine else 0.5, size, pieces, bool(positive), bool(aligned), pen),
        texture=positive,
        alignment=aligned,
    )


def _special_slides(seed: int, first: int, organs: list[str], size: float) -> list[DemoSlide]:
    def special(k: int, name: str, patient: str, stain: str, drawing: dict[str, object], truncated: bool = False) -> DemoSlide:
        organ = organs[k % len(organs)]
        whole = {"mpp": 0.5, "size": size, "pieces": 1, "lesion": False, "aligned": False, "pen": None, **drawing}
        drawn = Drawing((seed, first + k), first + k, organ, **whole)  # type: ignore[arg-type]
        return DemoSlide(name, patient, organ, stain, "first institution", "scanner B", True, drawn, truncated)

    return [
        special(0, "almost_empty", "patient_90", "H&E", {"pieces": 0}),
        special(1, "broken", "patient_91", "H&E", {}, truncated=True),
        special(2, "immunostain", "patient_00", "IHC", {"immunostain": True}),
        special(3, "opted_out", "patient_93", "H&E", {}),
    ]


def digest(slide: DemoSlide) -> str:
    """What the bytes of a slide's file depend on."""
    return short_digest(json.dumps([DRAWING_VERSION, asdict(slide.drawing), slide.truncated]))


def is_up_to_date(path: Path, slide: DemoSlide) -> bool:
    """Whether `path` holds this very drawing: the digest stands in the description at its beginning."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return digest(slide).encode() in file.read(HEAD_B)


def draw(path: Path, slide: DemoSlide) -> None:
    """Draw a slide's file, whole or not at all; a `truncated` one is cut as a broken copy is."""
    with atomic_path(path) as part:
        write_pyramid(part, draw_slide(slide.drawing), slide.drawing.mpp, f"microtome demo {digest(slide)}")
        if slide.truncated:
            part.write_bytes(part.read_bytes()[: int(part.stat().st_size * TRUNCATED_FRACTION)])


def write_if_new(path: Path, text: str) -> None:
    """Write `text` unless `path` has it already, so that an unchanged file keeps its time."""
    if not path.is_file() or path.read_text() != text:
        write_text(path, text)


def demo(folder: Path, seed: int = 0, slides: int = 24, size: float = 1.0) -> None:
    """Draw the cohort into `folder`: slides/, slides.csv, tasks/texture.csv, tasks/alignment.csv, excluded_patients.txt.

    `slides` is even and at least 12; `size` scales lengths (1: about 60 tiles of 64 µm a slide). One slide is cut off, as a broken copy
    is, and one almost empty, so that one sees what becomes of such: `make doctor` and the report name them.
    """
    cohort = plan(seed, slides, size)
    paths = {slide.slide: folder / "slides" / f"{slide.slide}.tiff" for slide in cohort}
    stale = [slide for slide in cohort if not is_up_to_date(paths[slide.slide], slide)]
    for slide in progress(stale, len(stale), "drawing the demo's slides", "slide") if stale else ():
        draw(paths[slide.slide], slide)
    columns = ["slide", "path", "patient", "organ", "stain", "origin", "scanner", "pretrain"]
    rows = pd.DataFrame([asdict(slide) | {"path": str(paths[slide.slide])} for slide in cohort])
    write_if_new(folder / "slides.csv", rows[columns].replace({True: "true", False: "false"}).to_csv(index=False))
    for task in ("texture", "alignment"):
        table = rows.dropna(subset=task)[["slide", task]].rename(columns={task: "target"}).astype({"target": int})
        write_if_new(folder / "tasks" / f"{task}.csv", table.to_csv(index=False))
    write_if_new(folder / "excluded_patients.txt", "patient_93\n")


if __name__ == "__main__":
    run(demo)
