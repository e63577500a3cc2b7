"""The whole workflow on a drawn cohort (config/test.yaml), and what runs again after each kind of change: jobs are counted."""

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from microtome.cohort import shard_of
from microtome.masks import geojson
from tests.checkout import ROOT, TWO_PROCESSES, Checkout, counted, why_no_cluster
from tests.stage_settings import RES18
from tests.test_table_files import assert_tex

REPORT = {"report": 1, "all": 1}
METHODS = {"methods": 1, **REPORT}  # where a setting changed: the report states every one
DEVICE_HERE = Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None
WITHOUT_LABELS = ["figure_quality", "quality_table", "figure_pca"]


@pytest.fixture
def slides_table(checkout: Checkout) -> Iterator[Path]:
    table = checkout.folder / "demo" / "slides.csv"
    before = table.read_text()
    yield table
    table.write_text(before)


@pytest.fixture(scope="module", autouse=True)
def another_results(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Future[Path] | None"]:
    """Of a second fresh checkout, on which the workflow runs beside the dry runs below, which keep no more than one core busy.

    None where the cluster's checkout is compared.
    """
    other = tmp_path_factory.mktemp("another")

    def run() -> Path:
        Checkout(other).snakemake("all", *TWO_PROCESSES)
        return other / "results"

    if not why_no_cluster():
        yield None
        return
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(run)


def test_every_slide_is_accounted_for(checkout: Checkout) -> None:
    catalog = pd.read_parquet(checkout.folder / "results/catalog/slides.parquet").set_index("slide")
    assert sorted(catalog.index) == sorted(pd.read_csv(checkout.folder / "demo/slides.csv")["slide"])
    assert catalog["status"].value_counts().to_dict() == {"ok": 8, "empty": 1, "failed": 1, "excluded": 2}
    assert catalog["status"]["almost_empty"] == "empty"
    assert catalog["status"]["broken"] == "failed"
    assert (catalog["reason"][catalog["status"] != "ok"] != "").all()


def test_figures_tables_and_report_are_there(checkout: Checkout) -> None:
    for name in ("pretraining", "convergence", "checkpoints", "quality", "pca"):
        assert (checkout.folder / f"results/figures/{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (checkout.folder / f"results/figures/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert len(pd.read_csv(checkout.folder / f"results/figures/{name}.csv"))
    assert sorted(path.name for path in checkout.folder.glob("results/figures/gallery/*.png")) == ["dino_tiny.png", "mae_tiny.png"]
    assert len(list(checkout.folder.glob("results/figures/attention/*.png"))) == 1
    near = {path.stem for path in checkout.folder.glob("results/figures/neighbours/*.png")}
    assert near == {"dino_tiny@2", "mae_tiny@1", "tres50"}, "last checkpoints and baselines"
    tables = sorted((checkout.folder / "results/tables").glob("*.tex"))
    assert {"auc", "decisions", "methods", "cohort", "tasks", "overlap"} <= {table.stem for table in tables}
    for table in tables:
        assert_tex(table.read_text())
        assert all(table.with_suffix(suffix).is_file() for suffix in (".csv", ".md", ".html"))
    report = (checkout.folder / "results/report.html").read_text()
    assert all(name in report for name in ("pretraining.png", "checkpoints.png", "quality.png", "pca.png", "auc.html", "quality.html"))
    shown = "".join(report.split("var results = ")[1:])
    assert all(f"results/figures/neighbours/{encoder}.png" in shown for encoder in near)


def test_a_second_institutions_slides_are_evaluated_and_never_pretrained_on(checkout: Checkout) -> None:
    slides = pd.read_csv(checkout.folder / "demo/slides.csv").set_index("slide")
    scheduled = set(pd.read_parquet(checkout.folder / "results/schedule/quota/slides.parquet")["slide"])
    second = set(slides.index[slides["origin"] == "second institution"])
    assert second
    assert not scheduled & second
    assert second <= set(pd.read_csv(checkout.folder / "results/splits/texture.csv")["slide"])


def test_every_encoder_is_judged_on_the_same_tiles_beside_its_null(checkout: Checkout) -> None:
    quality = pd.read_csv(checkout.folder / "results/tables/quality.csv").set_index("encoder")
    assert quality["null"].to_dict() == {
        "tres50": True, "dino_tiny@0": True, "dino_tiny@1": False, "dino_tiny@2": False, "mae_tiny@0": True, "mae_tiny@1": False
    }  # fmt: skip
    assert quality["tiles"].eq(40).all()
    pictured = pd.read_csv(checkout.folder / "results/figures/pca.csv")["encoder"].unique().tolist()
    assert pictured == ["dino_tiny@0", "dino_tiny@2", "mae_tiny@0", "mae_tiny@1", "tres50"]


def test_a_second_run_has_nothing_to_do(checkout: Checkout) -> None:
    assert "Nothing to be done" in checkout.snakemake("all")


def test_the_command_that_the_summary_offers_tries_the_failed_slides_shard_alone(checkout: Checkout) -> None:
    found = re.search(r"```\nsnakemake (.*)\n```", (checkout.folder / "results/catalog/summary.md").read_text())
    assert found
    command = shlex.split(found.group(1).replace("PROFILE", checkout.profile))
    assert counted(checkout.run_snakemake("--dry-run", "--quiet", "rules", *command)) == {"tissue": 1, "tiles": 1, "catalog": 1}


def test_a_setting_reruns_its_stage_and_what_follows(checkout: Checkout) -> None:
    names = ("convergence", "checkpoints", "ranking", "differences", "roc", "calibration")
    figures = dict.fromkeys([*(f"figure_{name}" for name in names), "tables", "decisions", "figure_attention"], 1)
    assert checkout.jobs({"gma": {"lr": 0.003}}) == {"gma": 4, **figures, **METHODS}
    assert checkout.jobs({"splits": {"repeats": 4}}) == {"splits": 1, "overlap": 1, "gma": 4, **figures, **METHODS}
    assert checkout.jobs({"figures": {"single_runs": True}}).keys() <= {"figure_pretraining", *WITHOUT_LABELS, *figures, *METHODS}
    judged = {"quality": 6, "figure_neighbours": 3, **dict.fromkeys(WITHOUT_LABELS, 1), **METHODS}
    assert checkout.jobs({"quality": {"neighbours": 5}}) == judged
    assert checkout.jobs({"quality": {"version": 2}}) == {"quality_sample": 1, **judged}


def test_other_tiles_rerun_their_features_at_once_and_no_frozen_schedule(checkout: Checkout) -> None:
    jobs = checkout.jobs({"tiles": {"jpeg_quality": 90}})
    stages = ("tissue", "tiles", "catalog", "schedule_quota", "schedule", "pretrain", "features", "gma", "quality_sample", "quality")
    assert [jobs.get(stage, 0) for stage in stages] == [0, 2, 1, 0, 0, 0, 4, 4, 1, 6]


def test_what_changes_no_result_reruns_nothing_but_what_states_it(checkout: Checkout) -> None:
    how = {"save_every_minutes": 5, "max_batch_per_process": 64, "monitor": {"action": "stop"}}
    assert checkout.jobs({"max_failed_fraction": 0.2, "pretrain": how, "features": {"batch": 8}}) == METHODS


def test_a_longer_run_trains_only_the_new_pseudo_epochs(checkout: Checkout) -> None:
    longer = checkout.jobs({"pretrain": {"runs": {"dino_tiny": {"pseudo_epochs": 3}}}})
    assert longer == {"schedule": 1, "pretrain": 1, "figure_pretraining": 1, "figure_gallery": 1, **METHODS}


def test_a_new_encoder_runs_its_own_jobs(checkout: Checkout) -> None:
    names = ("pretraining", "convergence", "checkpoints", "ranking", "differences", "roc", "calibration")
    figures = {f"figure_{name}" for name in names} | {"tables", "decisions", *WITHOUT_LABELS}
    jobs = checkout.jobs({"features": {"encoders": {"res18": RES18 | {"timm": "resnet18.a1_in1k"}}}})
    own = {"features": 1, "quality": 1, "gma": 1, "figure_neighbours": 1, "figure_attention": 1}
    assert {rule: count for rule, count in jobs.items() if rule not in figures} == {**own, **METHODS}


def test_a_new_task_runs_its_own_jobs(checkout: Checkout) -> None:
    table = {"table": "demo/tasks/alignment.csv", "origin": "drawn", "disease": "drawn", "kind": "outcome"}
    jobs = checkout.jobs({"tasks": {"alignment": table}})
    assert {rule: jobs.get(rule, 0) for rule in ("splits", "gma", "features", "pretrain", "tiles")} == {
        "splits": 1,
        "gma": 4,
        "features": 0,  # its slides have features already
        "pretrain": 0,
        "tiles": 0,
    }


def test_a_comment_in_the_training_code_reruns_nothing(checkout: Checkout) -> None:
    for module in ("pretrain", "dino", "mae", "augment"):
        path = checkout.folder / "src" / "microtome" / f"{module}.py"
        path.write_text(path.read_text() + "# a comment\n")
    assert checkout.jobs() == {}


def test_a_new_slide_reruns_one_shard_and_in_it_one_slide(checkout: Checkout, slides_table: Path) -> None:
    mask = checkout.folder / "demo" / "drawn.geojson"
    mask.write_text(geojson(np.ones((1, 1), bool), (500.0, 500.0)))
    slides, shards = pd.read_csv(slides_table, dtype=str), 2
    broken = pd.read_csv(checkout.folder / "results/catalog/failures.csv", dtype=str)["shard"][0]
    name = next(name for name in (f"newcomer{n}" for n in range(99)) if shard_of(name, shards) == broken)
    new = slides.head(1).assign(slide=name, mask="demo/drawn.geojson")
    pd.concat([slides, new]).to_csv(slides_table, index=False)
    shard = {"tissue": 1, "tiles": 1, "catalog": 1, "tables": 1, "overlap": 1, "figure_overlays": 1, **REPORT}
    assert checkout.jobs() == {"cohort": 1, **shard}
    both = checkout.jobs({"gma": {"lr": 0.003}, "pretrain": {"recipes": {"mae": {"lr_per_256": 0.0002}}}})
    assert [both[rule] for rule in ("cohort", "tissue", "gma", "pretrain", "features")] == [1, 1, 4, 1, 1], "settings changed with it"
    before = {**checkout.times("results/tiles/*/*"), **checkout.times("results/tissue/*/*")}
    checkout.snakemake("all")
    after = {**checkout.times("results/tiles/*/*"), **checkout.times("results/tissue/*/*")}
    made = {Path(file).name for file in after if before.get(file) != after[file]}
    files = [f"{name}{suffix}" for suffix in (".geojson", ".jpg", ".json", ".tar", ".arrow")]
    assert made == {*files, "_contact_sheet.jpg", "_slides.json"}, "the slide that failed is not tried again"
    assert pd.read_parquet(checkout.folder / "results/catalog/slides.parquet").set_index("slide")["status"][name] == "ok"
    assert checkout.jobs() == {}
    mask.write_text(geojson(np.ones((1, 1), bool), (400.0, 500.0)))
    assert checkout.jobs() == shard, "an edited mask is its own shard's alone"


def test_a_slide_that_left_is_swept_away(checkout: Checkout) -> None:
    checkout.snakemake("all")  # the table is again what it was
    assert not list(checkout.folder.glob("results/t*/*/newcomer*"))
    named = pd.read_csv(checkout.folder / "results/catalog/named.csv")
    assert named.loc[~named["in_table"], ["slide", "status"]].replace(r"newcomer\d+", "newcomer", regex=True).to_numpy().tolist() == [
        ["newcomer", "ok"]
    ]
    assert "named and this one does not: 1, with" in (checkout.folder / "results/catalog/summary.md").read_text()


def test_a_task_slide_that_was_replaced_reruns_its_features_and_aggregators(checkout: Checkout) -> None:
    catalog = pd.read_parquet(checkout.folder / "results/catalog/slides.parquet").set_index("slide")
    task = pd.read_csv(checkout.folder / "results/splits/texture.csv")["slide"]
    slide, other = catalog.loc[task].query("status == 'ok'").index[:2]
    path, shard = checkout.folder / catalog["path"][slide], catalog["shard"][slide]
    before = path.read_bytes()
    again = ("results/catalog/summary.md", "--forcerun", f"results/tissue/{shard}.parquet")
    stages = ("tissue", "tiles", "schedule", "pretrain", "quality", "features", "gma")
    for content, counts in (((checkout.folder / catalog["path"][other]).read_bytes(), [0, 0, 0, 0, 0, 4, 4]), (before, [0] * 7)):
        path.write_bytes(content)
        checkout.snakemake(*again)
        jobs = checkout.jobs()
        assert [jobs.get(stage, 0) for stage in stages] == counts, "the features of what was there are right again"


def test_a_misspelt_key_stops_before_any_job(checkout: Checkout) -> None:
    (checkout.folder / "misspelt.yaml").write_text(yaml.safe_dump({"gma": {"learning_rate": 1}}))
    done = checkout.python("-m", "snakemake", "-n", "--configfile", "config/demo.yaml", "config/test.yaml", "misspelt.yaml", "--", "all")
    assert done.returncode != 0
    assert "gma.learning_rate: unknown key" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_one_job_at_a_time_takes_a_gpu(checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that has one; without, the same jobs run beside one another."""

    def asking() -> set[str]:
        jobs = re.findall(r"^(?:local)?rule (\w+):\n((?: .+\n)+)", checkout.snakemake("all", "--dry-run", "--forceall"), re.MULTILINE)
        assert len(jobs) > 40
        return {rule for rule, lines in jobs if "device=1" in lines}

    users = {"pretrain", "features", "quality", "gma"}
    assert asking() == (users if DEVICE_HERE else set())
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert asking() == users
    assert yaml.safe_load((checkout.folder / "profiles/local/config.yaml").read_text())["resources"] == {"device": 1}


def test_the_slurm_profile_resolves_by_name(checkout: Checkout) -> None:
    assert (ROOT / "slurm").readlink() == Path("profiles/slurm")
    done = checkout.python(
        "-m", "snakemake", "--profile", "slurm", "--configfile", "config/demo.yaml", "config/test.yaml", "-n", "--", "all"
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not why_no_cluster(), reason="tests/slurm/test_whole_run.py compares all files of two fresh checkouts")
def test_two_fresh_checkouts_give_the_same_figures(results: Path, another_results: "Future[Path]") -> None:
    for pattern in ("figures/**/*.csv", "tables/*.csv", "splits/*.csv", "schedule/*.arrow"):
        for path in sorted(results.glob(pattern)):
            assert path.read_bytes() == (another_results.result() / path.relative_to(results)).read_bytes(), path.name
