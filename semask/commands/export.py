"""Export a checkpoint as a file for another engine, and check it."""

from typing import Literal


def export(
    weights: str,
    *,
    format: Literal["onnx", "openvino", "torch", "aotinductor", "tensorrt"] = "onnx",
    precision: Literal["fp32", "fp16", "bf16", "int8"] = "fp32",
    out: str | None = None,
    images: list[str] | None = None,
    samples: int = 32,
    checks: int = 8,
    limit: float | None = None,
    licence: str | None = None,
    size: tuple[int, int] | None = None,
    device: str = "cpu",
) -> None:
    """Export a checkpoint, compare the file with the model on images, and keep it if they agree.

    Writes OUT, for OpenVINO its .bin next to it, and OUT.report.json. A file that differs too much is not kept, only
    OUT.rejected.json with its numbers; what was there before is untouched.

    Args:
        weights: Checkpoint: a .safetensors file, the folder of a run, or OWNER/NAME on the Hugging Face Hub.
        format: onnx, openvino, torch (torch.export), aotinductor or tensorrt.
        precision: fp32, fp16, bf16 or int8 (calibrated on images).
        out: File to write; null for the name of the checkpoint in this folder. Only a named one is replaced.
        images: Image files, folders, or quoted patterns to calibrate and check with; without, the validation images of
            the recipe, or for the check synthetic scenes.
        samples: Images to calibrate int8 on, at most.
        checks: Images to compare on, at most; the first is seen at an odd size too.
        limit: Largest share of pixels, in percent, whose label may differ; null for 0.1 (fp32), 0.5 (fp16, bf16) or
            2 (int8).
        licence: License of the weights; null for the one that the checkpoint states.
        size: Height and width of the windows that an aotinductor file takes, which has one size only; larger images go
            through it window by window. Null for the windows of the recipe. Other formats take any size.
        device: Where to run the model, and what torch, aotinductor and tensorrt files are for: cpu or cuda.

    Raises:
        ValueError: If the checkpoint or an image can't be read, the format can't hold the model, something that it
            takes is not installed, the file can't be written, or it differs too much.
    """
    from semask.engines import export as engine

    engine.export(
        weights,
        format=format,
        precision=precision,
        out=out,
        images=images,
        samples=samples,
        checks=checks,
        limit=limit,
        licence=licence,
        size=size,
        device=device,
    )
