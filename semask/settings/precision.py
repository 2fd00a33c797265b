"""What a model can be asked to compute in, and what was chosen; without torch."""

from typing import Literal, NamedTuple

from semask.files.reporter import Reporter

Precision = Literal["auto", "fp32", "bf16"]
"""What prediction and evaluation can be asked for."""
Asked = Literal["auto", "fp32", "bf16", "fp16"]
"""What training can be asked for."""


class Choice(NamedTuple):
    """A precision and what is said about it."""

    precision: Literal["fp32", "bf16", "fp16"]
    """Never auto; of an exported file also int8."""
    remark: str
    """One line to print: what was chosen and why, or a warning."""
    warning: bool = False
    """Whether the remark is a warning."""


def tell(choice: Choice, reporter: Reporter) -> None:
    """Say which precision was chosen."""
    if choice.warning:
        reporter.warn([choice.remark])
    else:
        reporter.note(choice.remark)
