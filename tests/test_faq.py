"""What the FAQ names is there: settings, make targets, and the messages that it quotes."""

import re

import yaml

from tests.checkout import ROOT

FAQ = (ROOT / "docs" / "FAQ.md").read_text()
# of the system, Python, torch
FROM_OTHERS = {"No space left on device", "Bus error", "No module named microtome", "operator torchvision::nms does not exist"}


def test_settings_exist() -> None:
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    named = re.findall(r"`([a-z_]+)\.([a-z_]+)(?:[:`])", FAQ)
    settings = {(section, key) for section, key in named if section in config}
    assert len(settings) > 10
    for section, key in settings:
        assert key in config[section], f"{section}.{key}"
    recipe = config["pretrain"]["recipes"]["dino"]
    assert {"lr_per_256", "freeze_last_layer_epochs", "momentum_teacher"} <= recipe.keys()


def test_messages_are_the_codes() -> None:
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    headings = re.findall(r"^\*\*(.+?)\*\*", FAQ, re.MULTILINE)
    messages = [message for heading in headings for message in re.findall(r'"([^"]+)"', heading)]
    assert len(messages) > 8
    for message in messages:
        parts = [part.strip(" ,.") for part in re.split(r"…|\d+|N of M|, found", message)]
        assert message in FROM_OTHERS or all(part in code for part in parts), message


def test_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", FAQ)) <= targets
