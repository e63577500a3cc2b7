"""A run's encoder as a folder that timm loads anywhere: `timm.create_model("local-dir:FOLDER", pretrained=True)`.

python -m microtome.export_timm --weights results/pretrain/dino_vits16/25/encoder.safetensors --folder dino_vits16
"""

import json
import shutil
from pathlib import Path

from microtome.atomic import atomic_path, write_text
from microtome.command_line import run
from microtome.encoders import read_checkpoint
from microtome.errors import UserError


def export_timm(weights: Path, folder: Path) -> None:
    """Write config.json (timm's, from the encoder's card) and model.safetensors (the same file) into `folder`.

    Raises:
        UserError: `weights` is no whole checkpoint with a card, or its model is not named in timm itself.
    """
    model, card = read_checkpoint(weights)
    if ":" in card["model"]:
        raise UserError(
            f"{weights}: its model is {card['model']}, whose arguments are kept elsewhere. Expected a name of timm's; load it where that "
            "is to be had: timm.create_model(card['model'], checkpoint_path=…)."
        )
    told = {name: card[name] for name in ("input_size", "mean", "std", "crop_pct")}
    config = {
        "architecture": card["model"].split(".")[0],
        "num_classes": 0,
        "num_features": model.num_features,
        "model_args": {"img_size": card["img_size"], "dynamic_img_size": True},
        "pretrained_cfg": {**told, "interpolation": "bicubic", "num_classes": 0, "first_conv": "patch_embed.proj", "classifier": "head"},
    }
    with atomic_path(folder / "model.safetensors") as part:
        shutil.copyfile(weights, part)
    write_text(folder / "config.json", json.dumps(config, indent=2))


if __name__ == "__main__":
    run(export_timm)
