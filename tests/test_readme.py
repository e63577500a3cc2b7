"""What the README shows is so: its rule graph is the workflow's, its commands and links exist."""

import re
from pathlib import Path

from tests.checkout import Checkout

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def edges(mermaid: str) -> set[tuple[str, str]]:
    """The arrows of a Mermaid flow chart, by what its nodes are called."""
    names = dict(re.findall(r"(\w+)\[(\w+)\]", mermaid))
    return {(names.get(a, a), names.get(b, b)) for a, b in re.findall(r"(\w+) --> (\w+)", mermaid)}


def test_the_rule_graph_is_the_workflows(checkout: Checkout) -> None:
    command = ["-m", "snakemake", "--rulegraph", "mermaid-js", "--configfile", "config/demo.yaml", "config/test.yaml"]
    drawn = edges(checkout.python(*command).stdout)
    shown = edges(README.split("```mermaid")[1].split("```")[0])
    assert shown == {(a, b) for a, b in drawn if b != "all"}


def test_commands_and_links_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE))
    assert named
    assert named <= targets
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
