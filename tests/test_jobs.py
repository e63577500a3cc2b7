"""What a job depends on: a change of one slide, task or encoder changes the digests of its own jobs and of no others."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from microtome.config import load_config
from microtome.errors import UserError
from microtome.jobs import PATIENT_COLUMNS, SLIDE_COLUMNS, Jobs
from tests.test_config import values

SLIDES = pd.DataFrame(
    {"slide": [f"s{i:02d}" for i in range(40)], "path": "x.tiff", "patient": [f"p{i}" for i in range(40)], "organ": "lung", "mask": ""}
)


def jobs(folder: Path, slides: pd.DataFrame = SLIDES, tasks: int = 1, **sections: dict[str, Any]) -> Jobs:
    slides.to_csv(folder / "slides.csv", index=False)
    config = values("demo.yaml")
    config |= {"slides": str(folder / "slides.csv"), "tasks": {}, "max_failed_fraction": 0.1}
    config["cohort"]["exclude_patients"] = None
    for number in range(tasks):
        table = folder / f"task{number}.csv"
        table.write_text("slide,target\n" + "".join(f"s{i:02d},{i % 2}\n" for i in range(10 * number, 10 * number + 10)))
        config["tasks"][f"task{number}"] = {"table": str(table), "origin": "here", "disease": "none", "kind": "detection"}
    for name, change in sections.items():
        config[name] |= change
    return Jobs(load_config(config))


def changed(before: Jobs, after: Jobs) -> set[str]:
    return {shard for shard in before.shards if before.slides_digest(shard) != after.slides_digest(shard)}


def test_a_new_slide_concerns_one_shard(tmp_path: Path) -> None:
    before = jobs(tmp_path)
    new = pd.concat([SLIDES, SLIDES.tail(1).assign(slide="new")])
    after = jobs(tmp_path, new)
    assert changed(before, after) == {after.slides.set_index("slide")["shard"]["new"]}
    assert [before.features_digest(s) for s in before.feature_shards] == [after.features_digest(s) for s in after.feature_shards]
    assert before.task_digest("task0", SLIDE_COLUMNS) == after.task_digest("task0", SLIDE_COLUMNS)


def test_another_organ_concerns_no_shard_and_another_patient_only_splits(tmp_path: Path) -> None:
    before = jobs(tmp_path)
    after = jobs(tmp_path, SLIDES.assign(organ="liver", patient="someone"))
    assert changed(before, after) == set()
    assert before.task_digest("task0", SLIDE_COLUMNS) == after.task_digest("task0", SLIDE_COLUMNS)
    assert before.task_digest("task0", PATIENT_COLUMNS) != after.task_digest("task0", PATIENT_COLUMNS)


def test_a_slide_to_pretrain_on_concerns_its_shard_where_only_those_are_stored(tmp_path: Path) -> None:
    flagged = SLIDES.assign(pretrain=["false"] + ["true"] * 39)
    read = {**values("demo.yaml")["features"], "source": "slides"}
    assert changed(jobs(tmp_path), jobs(tmp_path, flagged)) == set()
    before, after = (jobs(tmp_path, slides, tiles={"store": "pretrain"}, features=read) for slides in (SLIDES, flagged))
    assert changed(before, after) == {after.slides.set_index("slide")["shard"]["s00"]}


def test_a_drawn_mask_that_is_edited_concerns_the_features_and_tasks_of_its_slide(tmp_path: Path) -> None:
    mask = tmp_path / "s03.geojson"
    mask.write_text("{}")
    slides = SLIDES.assign(mask=[str(mask) if slide == "s03" else "" for slide in SLIDES["slide"]])
    before = jobs(tmp_path, slides, tasks=2)
    mask.write_text("{ }")
    after = jobs(tmp_path, slides, tasks=2)
    same = [before.task_digest(task, SLIDE_COLUMNS) == after.task_digest(task, SLIDE_COLUMNS) for task in ("task0", "task1")]
    assert same == [False, True]
    assert before.features_digest("0") != after.features_digest("0")
    assert changed(before, after) == {"1"}, "and its own shard, be the file older than what was made from the one before"


def test_a_new_task_leaves_the_others_alone(tmp_path: Path) -> None:
    before, after = jobs(tmp_path), jobs(tmp_path, tasks=2)
    assert before.task_digest("task0", SLIDE_COLUMNS) == after.task_digest("task0", SLIDE_COLUMNS)
    assert before.features_digest("0") != after.features_digest("0")


def test_a_tile_setting_concerns_features(tmp_path: Path) -> None:
    assert jobs(tmp_path).features_digest("0") != jobs(tmp_path, tiles={"jpeg_quality": 90}).features_digest("0")
    assert jobs(tmp_path).features_digest("0") == jobs(tmp_path, gma={"lr": 0.1}).features_digest("0")


def test_the_list_of_checkpoints_is_in_no_checkpoints_settings(tmp_path: Path) -> None:
    before, after = jobs(tmp_path), jobs(tmp_path)
    more = after.config.features.encoders["dino_tiny"].model_copy(update={"pseudo_epochs": (1, 2, 3, 4)})
    features = after.config.features.model_copy(update={"encoders": {**after.config.features.encoders, "dino_tiny": more}})
    longer = Jobs(after.config.model_copy(update={"features": features}))
    assert set(longer.encoders) - set(before.encoders) == {"dino_tiny@3"}
    assert before.encoder_settings("dino_tiny@2") == longer.encoder_settings("dino_tiny@2")
    assert longer.weights("dino_tiny@3") == ["results/pretrain/dino_tiny/3/encoder.safetensors"]
    assert longer.weights("tres50") == []


def test_each_run_has_a_null_of_its_own_architecture(tmp_path: Path) -> None:
    found = jobs(tmp_path)
    assert [name for name in found.with_nulls if name not in found.encoders] == ["dino_tiny@0", "mae_tiny@0"]
    assert list(found.with_nulls)[-4:] == ["mae_tiny@0", "mae_tiny@1", "mae_tiny@2", "mae_tiny@4"]
    assert found.nulls_and_last() == ["dino_tiny@0", "dino_tiny@4", "mae_tiny@0", "mae_tiny@4", "tres50", "res50"]
    assert found.weights("dino_tiny@0") == []
    assert found.untrained("dino_tiny@0") == found.pretrain_settings("dino_tiny")
    assert found.untrained("dino_tiny@1") is found.untrained("tres50") is None
    pretrained = found.config.pretrain.runs["dino_tiny"].model_copy(update={"init": "pretrained"})
    runs = {**found.config.pretrain.runs, "dino_tiny": pretrained}
    null = Jobs(found.config.model_copy(update={"pretrain": found.config.pretrain.model_copy(update={"runs": runs})})).untrained(
        "dino_tiny@0"
    )
    assert null is not None
    assert null.run.init == "random"


def test_the_number_of_neighbours_is_not_in_the_samples_settings(tmp_path: Path) -> None:
    assert jobs(tmp_path).quality_sample_settings() == jobs(tmp_path, quality={"neighbours": 7}).quality_sample_settings()
    assert jobs(tmp_path).quality_sample_settings() != jobs(tmp_path, quality={"version": 2}).quality_sample_settings()


def test_an_encoders_own_files_are_what_its_jobs_depend_on(tmp_path: Path) -> None:
    mine, folder = tmp_path / "mine.pth", tmp_path / "exported"
    encoder = {"timm": "resnet18", "arguments": {}, "truncate": None, "pooling": "model", "input_px": None, "normalization": None}
    encoders = {
        "file": {**encoder, "weights": str(mine)},
        "folder": {**encoder, "timm": f"local-dir:{folder}", "weights": "pretrained"},
        "hub": {**encoder, "timm": "hf-hub:a/b", "weights": "pretrained"},
    }
    features = values("demo.yaml")["features"]
    with pytest.raises(UserError, match=r"features\.encoders\.file\.weights: .*mine\.pth is no file"):
        jobs(tmp_path, features={**features, "encoders": encoders})
    mine.touch()
    with pytest.raises(
        UserError, match=r"features\.encoders\.folder\.timm: found local-dir:.*expected a folder with config\.json and weights"
    ):
        jobs(tmp_path, features={**features, "encoders": encoders})
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).touch()
    found = jobs(tmp_path, features={**features, "encoders": encoders})
    assert found.weights("file") == [str(mine)]
    assert found.weights("folder") == [str(folder / "config.json"), str(folder / "model.safetensors")]
    assert found.weights("hub") == []


def test_the_version_of_features_is_in_every_encoders_settings(tmp_path: Path) -> None:
    before, features = jobs(tmp_path), values("demo.yaml")["features"]
    after = jobs(tmp_path, features={**features, "version": features["version"] + 1})
    assert all(before.encoder_settings(name) != after.encoder_settings(name) for name in before.encoders)


def test_only_masks_that_are_there_are_inputs(tmp_path: Path) -> None:
    (tmp_path / "drawn.geojson").write_text("{}")
    masked = SLIDES.assign(mask=[str(tmp_path / "drawn.geojson"), str(tmp_path / "none.geojson"), *[""] * 38])
    found = jobs(tmp_path, masked)
    assert [mask for shard in found.shards for mask in found.masks(shard)] == [str(tmp_path / "drawn.geojson")]


def test_random_weights_show_in_labels(tmp_path: Path) -> None:
    labels = jobs(tmp_path).figures_settings().labels
    assert labels["tres50"] == "tres50 (random weights)"
    assert labels["dino_tiny@0"] == "dino_tiny@0 (random weights)"
    assert labels["dino_tiny@1"] == "dino_tiny@1"


def test_a_task_that_names_an_unknown_slide_stops_before_any_job(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="slides that are not in the cohort: s00"):
        jobs(tmp_path, SLIDES.tail(30))
