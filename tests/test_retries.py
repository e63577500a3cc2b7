"""Slides that failed are tried again where a shard is made once more, but not where it is made for a slide that came or left."""

from pathlib import Path

import pytest

from microtome.errors import UserError
from microtome.retries import retries
from microtome.tiles import SUFFIXES
from tests.drawn_slides import tissue_like, write_slide
from tests.test_tiles import run


def tries_again(folder: Path, *slides: str) -> bool:
    with retries(folder, slides) as again:
        return again


def test_the_same_slides_once_more_are_a_retry_and_others_are_not(tmp_path: Path) -> None:
    assert tries_again(tmp_path, "a", "b"), "nothing is known of the shard"
    assert tries_again(tmp_path, "b", "a")
    assert not tries_again(tmp_path, "a", "b", "c")
    assert tries_again(tmp_path, "a", "b", "c")
    assert not tries_again(tmp_path)
    assert tries_again(tmp_path)


def _fail(folder: Path) -> None:
    with retries(folder, ["a", "b"]) as again:
        assert not again
        raise UserError("too many failed")


@pytest.mark.parametrize("note", ["", "{", "null", "{}"])
def test_a_job_that_did_not_end_well_is_followed_by_a_retry(note: str, tmp_path: Path) -> None:
    assert tries_again(tmp_path, "a")
    with pytest.raises(UserError):
        _fail(tmp_path)
    assert tries_again(tmp_path, "a", "b", "c")
    (tmp_path / "_slides.json").write_text(note)
    assert tries_again(tmp_path, "a")


@pytest.mark.parametrize("stage", ["tissue", "tiles"])
def test_a_new_slide_leaves_those_that_failed_and_a_run_of_the_same_slides_tries_them(stage: str, tmp_path: Path) -> None:
    """The failure is of the library's mood, so to say: the file is as it was."""
    path = str(write_slide(tmp_path / "a.tiff", tissue_like(900, 700)))
    run(tmp_path, {"a": {"path": path}, "b": {"path": path}})
    folder = tmp_path / stage / "0"
    sidecar = folder / "b.json"
    broken = sidecar.read_text().replace('"status": "ok"', '"status": "failed"').replace('"reason": ""', '"reason": "a mood"')
    sidecar.write_text(broken)
    with_new = run(tmp_path, {"a": {"path": path}, "b": {"path": path}, "c": {"path": path}})
    assert with_new["status"].to_dict() == {"a": "ok", "b": "failed", "c": "ok"}
    assert (with_new.loc["b", "reason"], sidecar.read_text()) == ("a mood", broken)
    again = run(tmp_path, {"a": {"path": path}, "b": {"path": path}, "c": {"path": path}})
    assert set(again["status"]) == {"ok"}
    assert all((tmp_path / "tiles" / "0" / f"b{suffix}").is_file() for suffix in SUFFIXES)
