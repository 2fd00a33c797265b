"""Where checkpoints are that were not named by their file; without torch."""

from pathlib import Path

MODELS = Path(__file__).parent.parent / "models"
DEFAULT = "street"
"""The model that is used where none is named."""
EMBEDDED = {DEFAULT: MODELS / "street.safetensors"}
"""Name -> checkpoint. models/README.md says what each was trained on, and how good it is."""
PHOTOS = tuple(MODELS / "photos" / name for name in ("street_1.jpg", "street_2.jpg"))
"""Two frames of CamVid's validation split (Brostow et al. 2009)."""
IN_FOLDER = ("best.safetensors", "model.safetensors", "last.safetensors")
"""Checkpoints that a folder of a run or of `save_pretrained` has; the first that is there counts."""
