"""What made the model of the package better: each arm adds one thing to the recipe of the package."""

from arm import Arm

RECIPE = "camvid/lite0_fpn"
BASE = "semask/plain"
"""The same recipe, trained in the study of SeMask."""
LARGE = {
    "augmentation.scale": (720, 540),
    "augmentation.crop": (320, 416),
    "evaluation.scale": (720, 540),
}
"""Images enlarged by half: a pole of 2 pixels is 3, of the 4 at which the model predicts."""
WEIGHTS = {"loss.class_weights": "effective"}

ARMS = {
    "no-average": Arm("without the moving average", {"training.ema": None}, base=BASE),
    "class-weights": Arm("class weights, effective", WEIGHTS, base=BASE),
    "rare-crops": Arm("half of the crops show a rare class", {"augmentation.rare_crop": 0.5}, base=BASE),
    "lovasz": Arm("Lovasz-softmax loss next to cross-entropy", {"loss.lovasz_weight": 1.0}, base=BASE),
    "long": Arm("twice the steps", {"training.steps": 4000}, base=BASE),
    "large": Arm("images enlarged by half", LARGE, base=BASE),
    "large-weights": Arm("images enlarged by half, class weights", {**LARGE, **WEIGHTS}, base=BASE),
}
"""Name -> arm."""
