"""Does pretraining learn? k-NN and linear-probe accuracy of an encoder over its checkpoints, on real tiles, beside two nulls.

    python -m tests.benchmarks.learning TILES FOLDER --recipe dino --epochs 30

TILES holds images and `tiles.csv` (file, class, group). A third of the groups are held out: pretraining never sees them, and accuracy is
that on them. The nulls are the same encoder at random weights, and the mean colour alone: a score means nothing without them.
FOLDER/<pseudo-epoch>.png shows what the network makes of eight of the tiles held out.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from microtome.algorithm import Tiles
from microtome.checkpoint import load_state
from microtome.collapse import probe_features
from microtome.dino import DinoAlgorithm
from microtome.figure_gallery import gallery
from microtome.figure_style import save
from microtome.mae import MaeAlgorithm
from microtome.pretrain import build_algorithm, pretrain
from microtome.settings import PretrainSettings
from microtome.training_schedules import Length
from tests.training import CONFIG, SILENT, make_schedules

RECIPES: dict[str, dict[str, Any]] = {
    "dino": {
        "global_crops_px": 64,
        "local_crops": 4,
        "local_crops_px": 32,
        "head_hidden": 512,
        "head_bottleneck": 128,
        "out_dim": 2048,
        "momentum_teacher": 0.99,
        "lr_per_256": 0.002,
        "warmup_epochs": 3,
    },
    "mae": {"crop_px": 96, "decoder_dim": 128, "decoder_depth": 2, "decoder_heads": 4, "lr_per_256": 0.008, "warmup_epochs": 3},
    # From close by: a nucleus covers several patches, so that few steps are enough to learn what lies between those that are kept.
    "mae_close": {
        "crop_px": 128,
        "crop_scale": (0.03, 0.08),
        "decoder_dim": 128,
        "decoder_depth": 4,
        "decoder_heads": 4,
        "lr_per_256": 0.008,
        "warmup_epochs": 8,
    },
}
SHOWN = 8  # tiles


def read_tiles(folder: Path, px: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images uint8 [n, px, px, 3], classes [n], and which are held out [n]: a third of the groups."""
    with (folder / "tiles.csv").open() as file:
        table = list(csv.DictReader(file))
    images = [np.asarray(Image.open(folder / row["file"]).convert("RGB").resize((px, px), Image.Resampling.BOX)) for row in table]
    groups = np.array([row["group"] for row in table])
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    return np.stack(images), np.array([row["class"] for row in table]), np.isin(groups, names[: len(names) // 3])


def accuracies(features: np.ndarray, classes: np.ndarray, held_out: np.ndarray) -> dict[str, float]:
    """k-NN (20 neighbours by cosine of standardised features) and linear-probe accuracy on the held-out tiles."""
    methods = {
        "knn": make_pipeline(StandardScaler(), KNeighborsClassifier(20, metric="cosine")),
        "linear": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.1)),
    }
    return {
        name: float(method.fit(features[~held_out], classes[~held_out]).score(features[held_out], classes[held_out]))
        for name, method in methods.items()
    }


def show(algorithm: DinoAlgorithm | MaeAlgorithm, images: np.ndarray, epoch: int, png: Path) -> None:
    """The gallery of some of the images, evenly spread."""
    some = torch.from_numpy(images[:: len(images) // SHOWN][:SHOWN].copy())
    save(gallery(algorithm, Tiles(some, np.arange(len(some)), epoch)), png.with_suffix(".pdf"), png)


def settings_of(name: str, epochs: int, batch: int, model: str, precision: str = "fp32", **recipe: Any) -> PretrainSettings:
    """A run of `epochs` passes over the tiles; what RECIPES does not name is as published."""
    algorithm = name.partition("_")[0]
    run = {"recipe": algorithm, "model": model, "init": "random", "global_batch": batch, "schedule_epochs": epochs, "precision": precision}
    whole = {**CONFIG["recipes"][algorithm], **RECIPES[name], **recipe}
    return PretrainSettings.model_validate({"seed": 0, "run": run, "recipe": whole})


def learn(
    images: np.ndarray, classes: np.ndarray, held_out: np.ndarray, settings: PretrainSettings, folder: Path, every: int
) -> list[dict[str, Any]]:
    """Train, and judge the encoder every so many pseudo-epochs: a row each, after those of the nulls."""
    schedules = make_schedules(folder / "schedule", list(images[~held_out]), settings.run.schedule_epochs)
    length = Length(len(images[~held_out]) // settings.run.global_batch, settings.run.schedule_epochs)
    rows = [{"epoch": "colour", "loss": None, **accuracies(images.mean(axis=(1, 2)), classes, held_out)}]

    def judge(epoch: int, loss: float | None, state: dict[str, Any] | None) -> None:
        algorithm = build_algorithm(settings, length)
        if state:
            algorithm.load_state_dict(state)
        pieces = torch.from_numpy(images).split(100)
        recipe = settings.recipe
        features = [
            probe_features(algorithm.encoder, piece, algorithm.crop_px, recipe.mean, recipe.std, algorithm.pooling) for piece in pieces
        ]
        rows.append({"epoch": epoch, "loss": loss, **accuracies(torch.cat(features).numpy(), classes, held_out)})
        show(algorithm, images[held_out], epoch, folder / f"{epoch}.png")
        print(rows[-1], flush=True)

    print(rows[0], flush=True)
    judge(0, None, None)
    for epoch, schedule in enumerate(schedules, 1):
        own, before = folder / str(epoch), folder / str(epoch - 1) / "state.pt"
        files = {"encoder": own / "encoder.safetensors", "state": own / "state.pt", "curve": own / "curve.csv", "work": own / "work"}
        pretrain(
            schedule,
            epoch,
            **files,
            save_every_minutes=60,
            max_batch=64,
            max_replaced_tiles=0,
            workers=0,
            compiled=False,
            monitor=SILENT,
            settings=settings,
            previous=before if epoch > 1 else None,
        )
        before.unlink(missing_ok=True)
        if epoch % every == 0 or epoch == len(schedules):
            with (own / "curve.csv").open() as file:
                losses = [float(row["loss"]) for row in csv.DictReader(file)]
            judge(epoch, float(np.mean(losses)), load_state(own / "state.pt")["algorithm"])
    return rows


def main() -> None:
    """Learn as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="dino")
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--px", type=int, default=128)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16" if torch.cuda.is_available() else "fp32")
    chosen = parser.parse_args()
    settings = settings_of(chosen.recipe, chosen.epochs, chosen.batch, chosen.model, chosen.precision)
    rows = learn(*read_tiles(chosen.tiles, chosen.px), settings, chosen.folder, chosen.every)
    with (chosen.folder / "learning.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
