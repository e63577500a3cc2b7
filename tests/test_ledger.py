"""Faults of a stage over many slides: killed jobs, processes that die, a full disk."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from microtome.errors import UserError
from microtome.ledger import Row, SlideJob, attempt_all, refuse_failures
from microtome.settings import CohortSettings
from tests.drawn_slides import tissue_like, write_slide
from tests.stage_settings import changed_config, tiles_settings, tissue_settings
from tests.test_tiles import digests
from tests.test_tissue import write_cohort

SECTIONS = {"grid": {"tile_px": 64}, "tissue": {"min_component_tiles": 2}}


def make(folder: Path, slide: str, how: str) -> Row:
    """Work that goes well, takes long, raises, ends its process, or fills the disk."""
    began = time.time()
    if how == "slow":
        time.sleep(1)
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raises":
        raise ZeroDivisionError("a bug of\n a library")
    (folder / f"{slide}.out").write_bytes(bytes(8 * 2**20 if how == "fills" else 10))
    return {"size": 10, "began": began, "ended": time.time()}


def jobs(folder: Path, hows: list[str]) -> list[SlideJob]:
    return [SlideJob(f"s{n}", folder, {"how": how}, (".out",), partial(make, folder, f"s{n}", how)) for n, how in enumerate(hows)]


def test_a_process_that_dies_costs_its_slide_alone(tmp_path: Path) -> None:
    rows = attempt_all(jobs(tmp_path, ["well", "dies", "raises", "well", "well", "dies"]), tmp_path, 2, "test")
    assert [row["status"] for row in rows] == ["ok", "failed", "failed", "ok", "ok", "failed"]
    assert rows[1]["reason"] == "the process that read it died: a damaged file, or no memory left"
    assert rows[2]["reason"] == "ZeroDivisionError: a bug of a library"
    assert sorted(path.name for path in tmp_path.glob("*.out")) == ["s0.out", "s3.out", "s4.out"]


def test_those_that_are_left_after_one_that_died_are_still_made_side_by_side(tmp_path: Path) -> None:
    _, *rows = attempt_all(jobs(tmp_path, ["dies", *["slow"] * 8]), tmp_path, 4, "test")
    assert [row["status"] for row in rows] == ["ok"] * 8
    at_once = max(sum(other["began"] <= row["began"] < other["ended"] for other in rows) for row in rows)
    assert 2 <= at_once <= 4


def test_what_is_no_slides_file_is_left(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / ".nfs0001").touch()
    (tmp_path / "gone.out").touch()
    attempt_all(jobs(tmp_path, ["well"]), tmp_path, 1, "test")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".nfs0001", "a folder", "s0.json", "s0.out"]


def test_failed_slides_are_tried_again_and_finished_ones_are_not(tmp_path: Path) -> None:
    attempt_all(jobs(tmp_path, ["well", "raises"]), tmp_path, 1, "test")
    (tmp_path / "s0.out").write_bytes(b"still mine")
    mended = jobs(tmp_path, ["well", "well"])
    assert [row["status"] for row in attempt_all(mended, tmp_path, 1, "test")] == ["ok", "ok"]
    assert (tmp_path / "s0.out").read_bytes() == b"still mine"
    (tmp_path / "s0.out").unlink()  # a file that is gone is made again
    attempt_all(mended, tmp_path, 1, "test")
    assert (tmp_path / "s0.out").stat().st_size == 10


@pytest.mark.parametrize(
    ("failed", "slides", "fraction", "stops"), [(1, 3, 0.05, False), (2, 3, 0.05, True), (0, 3, 0.0, False), (1, 3, 0.0, True)]
)
def test_the_limit_is_rounded_up_to_a_whole_slide(failed: int, slides: int, fraction: float, stops: bool) -> None:
    rows = [{"slide": f"s{n}", "status": "failed" if n < failed else "ok", "reason": "it broke"} for n in range(slides)]
    if stops:
        with pytest.raises(UserError, match=f"{failed} of {slides} slides failed"):
            refuse_failures(rows, fraction, "tissue 0")
    else:
        refuse_failures(rows, fraction, "tissue 0")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small tmpfs here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_job_with_words_and_nothing_half_written_counts(small_disk: Path) -> None:
    with pytest.raises(UserError, match=r"disk: No space left on device. Make room and run again: finished slides are kept."):
        attempt_all(jobs(small_disk, ["well", "fills", "well"]), small_disk, 1, "test")
    assert not (small_disk / "s1.json").exists()
    (small_disk / "s1.out").unlink(missing_ok=True)
    rows = attempt_all(jobs(small_disk, ["well", "well", "well"]), small_disk, 1, "test")
    assert [row["status"] for row in rows] == ["ok", "ok", "ok"]


def test_tiles_on_a_full_disk_leave_no_half_tar(small_disk: Path, tmp_path: Path) -> None:
    slides = {"a": {"path": str(write_slide(tmp_path / "a.tiff", tissue_like(1200, 1000)))}}
    commands = stage_commands(tmp_path, slides, small_disk)
    assert subprocess.run(commands[0], check=False).returncode == 0
    (small_disk / "ballast").write_bytes(bytes(4 * 2**20 - used_b(small_disk) - 60 * 1024))
    stopped = subprocess.run(commands[1], check=False, capture_output=True, text=True)
    assert stopped.returncode == 1
    assert "No space left on device. Make room and run again" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert list((small_disk / "tiles" / "0").iterdir()) == []
    (small_disk / "ballast").unlink()
    assert subprocess.run(commands[1], check=False).returncode == 0


def test_any_job_on_a_full_disk_says_so(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text("slide,path,patient,organ\n" + "".join(f"s{n},/a,p,lung\n" for n in range(20_000)))
    (small_disk / "ballast").write_bytes(bytes(4 * 2**20 - used_b(small_disk) - 20 * 1024))
    outputs = [f"--{name}={small_disk / name}" for name in ("slides", "excluded", "attrition", "named")]
    settings = CohortSettings(cohort=changed_config().cohort).json_text()
    command = [sys.executable, "-m", "microtome.cohort", "--slides-table", str(tmp_path / "slides.csv"), *outputs, "--settings", settings]
    stopped = subprocess.run(command, check=False, capture_output=True, text=True)
    assert stopped.returncode == 1
    assert stopped.stderr.startswith("microtome: ")
    assert "No space left on device. Make room and run again" in stopped.stderr
    assert "Traceback" not in stopped.stderr


def used_b(folder: Path) -> int:
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def stage_commands(folder: Path, slides: dict[str, dict[str, str]], results: Path) -> list[list[str]]:
    """The command lines of `tissue` and `tiles`, as the workflow calls them."""
    cohort = write_cohort(folder / "slides.parquet", slides)
    tissue, tiles = results / "tissue", results / "tiles"
    flags = {
        "tissue": {"folder": tissue / "0", "table": tissue / "0.parquet", "settings": tissue_settings(**SECTIONS).json_text()},
        "tiles": {
            "tissue": tissue / "0.parquet",
            "masks": tissue / "0",
            "folder": tiles / "0",
            "index": tiles / "0.arrow",
            "table": tiles / "0.parquet",
            "settings": tiles_settings(**SECTIONS).json_text(),
        },
    }
    shared = {"slides": cohort, "shard": "0", "max-failed-fraction": 1, "workers": 2}
    return [
        [
            sys.executable,
            "-m",
            f"microtome.{rule}",
            *(str(part) for flag, value in {**shared, **own}.items() for part in (f"--{flag}", value)),
        ]
        for rule, own in flags.items()
    ]


def test_soak_a_shard_killed_at_random_moments_ends_in_the_same_bytes(tmp_path: Path) -> None:
    slides = {f"s{n}": {"path": str(write_slide(tmp_path / f"s{n}.tiff", tissue_like(1400, 1000, n)))} for n in range(3)}
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    seconds = []
    for command in stage_commands(tmp_path, slides, undisturbed):
        start = time.monotonic()
        subprocess.run(command, check=True)
        seconds.append(time.monotonic() - start)
    moments, kills = random.Random(0), 10 if os.environ.get("MICROTOME_SOAK") else 2
    for command, longest_s in zip(stage_commands(tmp_path, slides, killed), seconds, strict=True):
        landed, stage = 0, command[2].removeprefix("microtome.")
        for _ in range(20 * kills):
            start, process = time.monotonic(), subprocess.Popen(command)
            try:
                assert process.wait(moments.uniform(0.2, 0.8) * longest_s) == 0
                longest_s = min(longest_s, time.monotonic() - start)  # the machine is faster than before, or little was left to do
                shutil.rmtree(killed / stage)
            except subprocess.TimeoutExpired:
                process.kill()
                assert process.wait() == -signal.SIGKILL
                landed += 1
            if landed == kills:
                (killed / stage).mkdir(exist_ok=True)
                (killed / stage / f".0.{'parquet' if stage == 'tissue' else 'arrow'}.1.part").write_bytes(
                    b"half"
                )  # which kills seldom meet
                break
        assert landed == kills
        subprocess.run(command, check=True)
    assert digests(killed) == digests(undisturbed)
    time.sleep(1)
    assert not running_with(str(killed))


def running_with(text: str) -> list[str]:
    """Processes whose command line holds `text`: no worker may outlive a killed job."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found
