"""The cohort: what is wrong with a table is said, what is left out is counted, and a slide's shard never changes."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microtome.cohort import cohort, digests, read_slides, select, shard_name, shard_of
from microtome.config import Cohort
from microtome.errors import UserError
from microtome.settings import CohortSettings

HEADER = "slide,path,patient,organ,stain,mpp,pretrain\n"
SETTINGS = Cohort(shards=4, stains=("H&E",), exclude_patients=None)


def table(folder: Path, text: str) -> Path:
    path = folder / "slides.csv"
    path.write_text(text)
    return path


def test_values_are_typed_and_sorted(tmp_path: Path) -> None:
    slides = read_slides(table(tmp_path, HEADER + "b,/b.svs,p2,lung,,0.25,false\n# a comment\na, /a.svs ,p1,breast,H&E,,\n"))
    assert list(slides["slide"]) == ["a", "b"]
    assert slides["path"][0] == "/a.svs"
    assert slides["mpp"].isna()[0]
    assert slides["mpp"][1] == 0.25
    assert list(slides["pretrain"]) == [True, False]
    assert slides["stain"].isna()[1]
    assert slides["mask"].isna().all()


def test_a_number_sign_within_a_row_is_no_comment(tmp_path: Path) -> None:
    text = "slide,path,patient,organ,origin,pretrain\na,/a#1.svs,p1,lung,Hospital #2,false\n"
    slides = read_slides(table(tmp_path, text))
    assert slides.loc[0, ["path", "origin", "pretrain"]].tolist() == ["/a#1.svs", "Hospital #2", False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,path,patient\na,/a,p\n", "missing: organ"),
        ("slide,path,patient,organ,scaner\na,/a,p,lung,x\n", "unknown: scaner"),
        (HEADER + "a,/a,p,lung,,,\na,/b,p,lung,,,\n", "occurs more than once: line 2 ('a'), line 3 ('a')"),
        (HEADER + "../x,/a,p,lung,,,\n", "is no file name"),
        (HEADER + ".hidden,/a,p,lung,,,\n", "is no file name"),
        (HEADER + "a,/a,,lung,,,\n", "has no patient"),
        (HEADER + ",/a,p,lung,,,\n", "has no slide"),
        (HEADER + "a,/a,p,lung,,20x,\n", "has an mpp that is no positive number"),
        (HEADER + "a,/a,p,lung,,-1,\n", "has an mpp that is no positive number"),
        (HEADER + "a,/a,p,lung,,,maybe\n", "neither true nor false"),
        ("# mine\n# all\n" + HEADER + "a,/a,p,lung,,,maybe\n", "neither true nor false: line 4 ('a')"),
        (HEADER + "NA,/a,p,lung,,,\n", "has no slide: line 2 ('NA')"),
        (HEADER + "a,/a,nan,lung,,,\n", "has no patient"),
        (HEADER + "a,/a,p,Lung, left,,,\n", "line 2 has 8 values for 7 columns"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read_slides(table(tmp_path, text))
    assert message in str(error.value)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such slide table"):
        read_slides(tmp_path / "none.csv")


def test_what_falls_out_is_counted(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("p3\n")
    rows = "a,/a,p1,lung,H&E,,\nb,/b,p1,lung,IHC,,\nc,/c,p2,lung,,,\nd,/d,p3,lung,H&E,,\n"
    settings = SETTINGS.model_copy(update={"exclude_patients": tmp_path / "out.txt"})
    cohort(
        table(tmp_path, HEADER + rows),
        tmp_path / "slides.parquet",
        tmp_path / "excluded.csv",
        tmp_path / "attrition.csv",
        tmp_path / "named.csv",
        CohortSettings(cohort=settings),
    )
    assert pd.read_csv(tmp_path / "named.csv")["slide"].tolist() == ["a", "b", "c", "d"], "those that are left out, too"
    assert list(pd.read_parquet(tmp_path / "slides.parquet")["slide"]) == ["a", "c"]
    assert pd.read_csv(tmp_path / "excluded.csv").to_dict("list") == {
        "slide": ["b", "d"],
        "patient": ["p1", "p3"],
        "reason": ["stain is IHC", "patient is excluded"],
    }
    assert pd.read_csv(tmp_path / "attrition.csv")["slides"].tolist() == [4, 3, 2]
    assert pd.read_csv(tmp_path / "attrition.csv")["patients"].tolist() == [3, 3, 2]


def test_an_exclusion_list_that_is_not_there(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"exclude_patients": tmp_path / "none.txt"})
    with pytest.raises(UserError, match="is no file"):
        select(read_slides(table(tmp_path, HEADER + "a,/a,p1,lung,,,\n")), settings)


def test_nothing_left(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no slide is left"):
        cohort(
            table(tmp_path, HEADER + "a,/a,p1,lung,IHC,,\n"),
            tmp_path / "s",
            tmp_path / "e",
            tmp_path / "a",
            tmp_path / "n",
            CohortSettings(cohort=SETTINGS),
        )


@given(st.text(min_size=1), st.integers(1, 2000))
def test_shards_are_valid_and_stable(slide: str, shards: int) -> None:
    assert shard_of(slide, shards) in {shard_name(number, shards) for number in range(shards)}
    assert shard_of("S000001", 64) == "61"  # printf S000001 | sha256sum: 72af6f3d..., modulo 64; and it stays so


def test_a_digest_changes_for_its_shard_alone() -> None:
    slides = pd.DataFrame({"slide": list("abcdefgh"), "path": list("abcdefgh"), "mpp": [None] * 8})
    slides["shard"] = [shard_of(slide, 4) for slide in slides["slide"]]
    before = digests(slides, ["slide", "path", "mpp"])
    after = digests(slides.assign(path=slides["path"].where(slides["slide"] != "c", "moved")), ["slide", "path", "mpp"])
    assert {shard for shard in before if before[shard] != after[shard]} == {shard_of("c", 4)}
