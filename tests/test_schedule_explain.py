"""What is said of one slide: against sums done by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from microtome.errors import UserError
from microtome.schedule_explain import schedule_explain
from microtome.schedule_quota import schedule_quota
from tests.stage_settings import schedule_settings
from tests.tile_folder import slide_table, write_catalog


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planned")
    slides = slide_table({"breast": [40, 30, 20, 50, 60], "colon": [25, 35, 15]}).assign(stage="", reason="")
    slides.loc[0, ["status", "stage", "reason"]] = ["failed", "tissue", "no µm/px"]
    slides.loc[1, "pretrain"] = False
    (folder / "task.csv").write_text("slide,target\nslide002,1\nslide001,0\n")
    quota, balance, settings = folder / "quota.parquet", folder / "balance.csv", schedule_settings(tiles=40, slide_parts=1)
    schedule_quota(write_catalog(folder / "catalog.parquet", slides), quota, balance, settings, [folder / "task.csv"])
    return folder


@pytest.fixture
def explained(planned: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    def explain(slide: str) -> str:
        schedule_explain(slide, planned / "quota.parquet", planned / "catalog.parquet")
        return capsys.readouterr().out

    return explain


def test_a_slide_that_is_scheduled(explained: Callable[[str], str]) -> None:
    heading, _, *rows = explained("slide007").splitlines()
    # Of 40 tiles colon gets 40 x sqrt(75) / (sqrt(75) + sqrt(110)) = 18.1, 6 of each of its three slides.
    assert heading == "Slide slide007 (colon, 15 tiles) is in 6 pseudo-epochs with 36 tiles: 9 of its tiles 2 times, 6 3 times."
    assert [row.split() for row in rows] == [[str(e), "6", str(6 * (e - 1))] for e in range(1, 7)]


@pytest.mark.parametrize(
    ("slide", "reason"),
    [
        ("slide000", "it is failed, no µm/px (stage tissue)"),
        ("slide001", "`pretrain` is false in the slide table"),
        ("slide002", "its patient or case is in a task of schedule.exclude_tasks"),
    ],
)
def test_a_slide_that_is_not(explained: Callable[[str], str], slide: str, reason: str) -> None:
    assert explained(slide).startswith(f"Slide {slide} is in no schedule: {reason}")


def test_refused(planned: Path, explained: Callable[[str], str]) -> None:
    with pytest.raises(UserError, match=r"^slide slide9: not in the catalog"):
        explained("slide9")
    with pytest.raises(UserError, match=r"nowhere.parquet: no such file\. `snakemake"):
        schedule_explain("slide007", planned / "nowhere.parquet", planned / "catalog.parquet")
