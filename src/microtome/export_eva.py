"""A configuration with which kaiko's eva (0.4) scores an encoder on a public data set of tiles: frozen, a linear head, five runs.

The encoder is a folder that `export_timm` wrote. Recipe, splits and patience are those of eva's own configurations: the score stands
beside its leaderboard; size and normalisation are the encoder's. eva resizes a tile's shorter side to the size itself, without the margin
that is cropped here, and bilinearly.

    python -m microtome.export_eva --folder dino_vits16 --task crc --pooling cls --data data/crc --config crc.yaml
    eva predict_fit --config crc.yaml    # tried with kaiko-eva 0.4.5 and jsonargparse 4.38; 4.53 refuses its criteria
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from microtome.atomic import write_text
from microtome.command_line import run
from microtome.errors import UserError


class Task(NamedTuple):
    """A data set of eva: its class there, outputs of the head (1: two classes), epochs without progress, splits (the second is watched)."""

    dataset: str
    outputs: int
    patience: int
    splits: tuple[str, ...]


TASKS = {
    "bach": Task("BACH", 4, 1250, ("train", "val")),
    "crc": Task("CRC", 9, 7, ("train", "val")),
    "mhist": Task("MHIST", 1, 278, ("train", "test")),
    "patch_camelyon": Task("PatchCamelyon", 1, 3, ("train", "val", "test")),
}
POOLING: dict[str, dict[str, Any]] = {"cls": {}, "mean": {"global_pool": "avg", "fc_norm": False}}  # of timm's ViTs


def export_eva(folder: Path, task: str, pooling: str, data: Path, config: Path) -> None:
    """Write `config` for the data set under `data`; `task` is bach, crc, mhist or patch_camelyon, `pooling` cls or mean.

    Raises:
        UserError: a folder without the card of an encoder; a task or a pooling that is not known.
    """
    if task not in TASKS or pooling not in POOLING:
        raise UserError(f"Found task {task} and pooling {pooling}, expected one of {', '.join(TASKS)} and one of {', '.join(POOLING)}.")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: expected a folder with config.json, as `python -m microtome.export_timm` writes it.")
    card = json.loads((folder / "config.json").read_text())
    name, known = f"{folder.resolve().name}/{task}", TASKS[task]
    sections = {
        "trainer": _of_class("eva.Trainer", **_trainer(name, known, _backbone(folder, pooling))),
        "model": _of_class("eva.HeadModule", **_head(known, card["num_features"])),
        "data": _of_class("eva.DataModule", datasets=_datasets(name, known, card, data), dataloaders=_loaders(known)),
    }
    write_text(config, yaml.safe_dump(sections, sort_keys=False))


def _of_class(path: str, /, **arguments: Any) -> dict[str, Any]:
    return {"class_path": path, "init_args": arguments} if arguments else {"class_path": path}


def _backbone(folder: Path, pooling: str) -> dict[str, Any]:
    arguments = {"model_name": f"local-dir:{folder.resolve()}", "pretrained": True, **POOLING[pooling]}
    return _of_class("eva.core.models.wrappers.ModelFromFunction", path="timm.create_model", arguments=arguments)


def _trainer(name: str, task: Task, backbone: dict[str, Any]) -> dict[str, Any]:
    monitor = {"monitor": "val/BinaryBalancedAccuracy" if task.outputs == 1 else "val/MulticlassAccuracy", "mode": "max"}
    embeddings = {"output_dir": f"data/embeddings/{name}", "dataloader_idx_map": dict(enumerate(task.splits))}
    callbacks = [
        _of_class("eva.callbacks.ConfigurationLogger"),
        _of_class("lightning.pytorch.callbacks.ModelCheckpoint", filename="best", save_last=False, save_top_k=1, **monitor),
        _of_class("lightning.pytorch.callbacks.EarlyStopping", min_delta=0, patience=task.patience, **monitor),
        _of_class("eva.callbacks.ClassificationEmbeddingsWriter", **embeddings, backbone=backbone, overwrite=False),
    ]
    logger = [_of_class("lightning.pytorch.loggers.TensorBoardLogger", save_dir=f"logs/{name}", name="")]
    return {"n_runs": 5, "default_root_dir": f"logs/{name}", "max_steps": 12500, "callbacks": callbacks, "logger": logger}


def _head(task: Task, features: int) -> dict[str, Any]:
    binary = task.outputs == 1
    classes = {} if binary else {"num_classes": task.outputs}
    metrics = _of_class(f"eva.metrics.{'Binary' if binary else 'Multiclass'}ClassificationMetrics", **classes)
    return {
        "head": _of_class("torch.nn.Linear", in_features=features, out_features=task.outputs),
        "criterion": "torch.nn.BCEWithLogitsLoss" if binary else "torch.nn.CrossEntropyLoss",
        "optimizer": _of_class("torch.optim.AdamW", lr=0.0003),
        "metrics": {"common": [_of_class("eva.metrics.AverageLoss"), metrics]},
    }


def _datasets(name: str, task: Task, card: dict[str, Any], data: Path) -> dict[str, Any]:
    told = card["pretrained_cfg"]
    preparation = {"size": told["input_size"][-1], "mean": told["mean"], "std": told["std"]}
    transforms = _of_class("eva.vision.data.transforms.common.ResizeAndCrop", **preparation)
    stored: dict[str, Any] = {"root": f"data/embeddings/{name}", "manifest_file": "manifest.csv"}
    if task.outputs == 1:
        stored["target_transforms"] = _of_class("torchvision.transforms.v2.ToDtype", dtype="torch.float32")
    stages = dict(zip(("train", "val", "test"), task.splits, strict=False))
    datasets: dict[str, Any] = {
        stage: _of_class("eva.datasets.EmbeddingsClassificationDataset", **stored, split=split) for stage, split in stages.items()
    }
    images = f"eva.vision.datasets.{task.dataset}"
    return datasets | {"predict": [_of_class(images, root=str(data), split=split, transforms=transforms) for split in task.splits]}


def _loaders(task: Task) -> dict[str, Any]:
    evaluated = {stage: {"batch_size": 256, "num_workers": 4} for stage in ("val", "test")[: len(task.splits) - 1]}
    return {"train": {"batch_size": 256, "num_workers": 4, "shuffle": True}, **evaluated, "predict": {"batch_size": 64, "num_workers": 4}}


if __name__ == "__main__":
    run(export_eva)
