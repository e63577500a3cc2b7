from pathlib import Path

import pandas as pd
import pytest

from microtome.errors import UserError
from microtome.tasks import read_task, with_patients


def write(folder: Path, text: str) -> Path:
    (folder / "task.csv").write_text(text)
    return folder / "task.csv"


def test_a_task_is_sorted_and_typed(tmp_path: Path) -> None:
    task = read_task(write(tmp_path, "# a comment\nslide,target,note\nb, 1,x\na,0,\n"))
    assert task.to_dict("list") == {"slide": ["a", "b"], "target": [0, 1]}


def test_a_task_of_three_classes(tmp_path: Path) -> None:
    assert read_task(write(tmp_path, "slide,target\na,2\nb,1\nc,0\n"))["target"].tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,label\na,1\n", r"missing: target; found slide, label\. Expected the columns slide and target"),
        ("slide,target\n", r"no rows"),
        ("slide,target\na,1\nb,\nc,0\n", r"slides without a label: b\. Label them"),
        ("slide,target\na,1\nb,high\nc,0\n", r"slides whose target is no class: b \(high\)\. Expected 0 or 1, or 0 to k - 1"),
        ("slide,target\na,1\nb,1.0\nc,-1\n", r"no class: b \(1\.0\), c \(-1\)"),
        ("slide,target\na,1\nb,3\nc,0\n", r"the highest class is 3, and no slide is of class 2\. Expected 0 to k - 1"),
        ("slide,target\na,1\nb,99\n", r"the highest class is 99, and no slide is of class 0, 2, 3, 4, 5, …\."),
        ("slide,target\na,1\na,0\nc,0\n", r"occur more than once: a \(1\), a \(0\)"),
        ("slide,target\na,1\nb,1\n", r"all 2 slides are of class 1\. Expected slides of two classes or more"),
        ("slide,target\n" + "".join(f"s{n},x\n" for n in range(8)), r"s4 \(x\) and 3 more"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_task(write(tmp_path, text))


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such task table"):
        read_task(tmp_path / "task.csv")


def test_patients_come_from_the_cohort(tmp_path: Path) -> None:
    table = write(tmp_path, "slide,target\na,1\nb,0\n")
    cohort = pd.DataFrame({"slide": ["c", "b", "a"], "patient": ["p3", "p2", "p1"], "organ": "x"})
    assert with_patients(table, read_task(table), cohort)["patient"].tolist() == ["p1", "p2"]
    with pytest.raises(UserError, match=r"slides that are not in the cohort: b\. Expected slides of the slide table"):
        with_patients(table, read_task(table), cohort[cohort["slide"] != "b"])
