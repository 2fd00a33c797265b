"""What a semantic layer adds its refinement to; without torch, since settings name it too."""

from typing import Literal

Residual = Literal["normed", "input"]
