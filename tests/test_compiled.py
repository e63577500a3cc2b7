"""What is compiled gives the same, and is compiled once; nothing is loaded for it before."""

import subprocess
import sys

import torch

from microtome.colour import finished
from microtome.compiled import compiled


def test_a_compiled_function_gives_the_same_and_is_the_same_one() -> None:
    assert compiled(finished) is compiled(finished)
    images, solarize = torch.rand(2, 3, 8, 8), torch.tensor([True, False]).view(2, 1, 1, 1)
    values = (images, solarize, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    torch.testing.assert_close(compiled(finished)(*values), finished(*values))


def test_the_compiler_is_not_loaded_before_it_is_asked_for() -> None:
    code = "import microtome.pretrain, sys; sys.exit(any(name.startswith('torch._inductor.codegen') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
