"""Reference cases of the mask decoders.

The masked attention of the Mask2Former family sees where the scores of a mask are not below zero, so the rounding of a
score near zero can change everything after it. A case in which float32 sees other cells than float64 is compared in
float64, and its line says so.
"""

import contextlib
import copy
import itertools
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from parity_case import Case, compare_gradients, fill, label_map, network_input, rng
from torch import Tensor
from transformers.models.mask2former.modeling_mask2former import Mask2FormerMaskPredictor

from semask.builder import build
from semask.checkpoints.names import official_names
from semask.decoders.mask2former import Mask2Former
from semask.decoders.maskformer import MaskFormer
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.swin import Swin, SwinSize
from semask.losses.mask import MaskLoss, prior_loss
from semask.model import SeMask
from semask.prediction.predictor import look
from semask.prediction.score_maps import probabilities
from semask.settings.inference import Inference


def build_mask_model(spec: dict[str, Any]) -> tuple[SeMask, MaskLoss]:
    """Build model and loss of a case with a mask decoder."""
    swin, head, former = spec["swin"], spec["sem_seg_head"], spec["mask_former"]
    size = SwinSize(swin["EMBED_DIM"], tuple(swin["DEPTHS"]), tuple(swin["NUM_HEADS"]), swin["WINDOW_SIZE"], 0.0)
    encoder = SemanticEncoder(
        Swin(size),
        num_classes=spec["num_classes"],
        semantic_window=[
            None if block == "SeMaskBlock" else swin["SEM_WINDOW_SIZE"] for block in spec["semantic_blocks"]
        ],
        semantic_depths=swin["NUM_SEM_BLOCKS"],
    )
    settings = {
        "num_classes": spec["num_classes"],
        "channels": former["HIDDEN_DIM"],
        "pixel_channels": head["CONVS_DIM"],
        "queries": former["NUM_OBJECT_QUERIES"],
        "feedforward": former["DIM_FEEDFORWARD"],
        "mask_channels": head["MASK_DIM"],
        "heads": former["NHEADS"],
    }
    check_supported(spec)
    decoder: MaskFormer | Mask2Former
    if spec["family"] == "maskformer":
        projected = former["ENFORCE_INPUT_PROJ"] or encoder.channels[-1] != former["HIDDEN_DIM"]
        decoder = MaskFormer(
            encoder.channels, encoder.strides, layers=former["DEC_LAYERS"], input_projection=projected, **settings
        )
    else:
        kinds = {"PixelFANDecoder": "fapn", "MSDeformAttnPixelFANDecoder": "msfapn"}
        decoder = Mask2Former(
            encoder.channels,
            encoder.strides,
            layers=former["DEC_LAYERS"] - 1,
            encoder_layers=head["TRANSFORMER_ENC_LAYERS"],
            input_projection=former["ENFORCE_INPUT_PROJ"],
            pixel_decoder=kinds.get(head["PIXEL_DECODER_NAME"], "deformable"),
            **settings,
        )
    loss = MaskLoss(
        class_weight=former.get("CLASS_WEIGHT", 1.0),
        mask_weight=former["MASK_WEIGHT"],
        dice_weight=former["DICE_WEIGHT"],
        no_object_weight=former["NO_OBJECT_WEIGHT"],
        points=former.get("TRAIN_NUM_POINTS"),
        prior_weight=former["CATE_WEIGHT"],
    )
    model = build(encoder, decoder, num_classes=spec["num_classes"])
    fill(model, spec["seed"], official_names(model).__getitem__)
    return model, loss


def check_supported(spec: dict[str, Any]) -> None:
    """Refuse a case with settings that none of our decoders has."""
    found = {**spec["mask_former"], **spec["sem_seg_head"]}
    expected = {"DEEP_SUPERVISION": True, "ENC_LAYERS": 0, "PRE_NORM": False, "COMMON_STRIDE": 4, "NORM": "GN"}
    for name, value in expected.items():
        assert found.get(name, value) == value, f"{name} is {found[name]}: only {value} is built here"


def check_mask_model(case: Case, dtype: torch.dtype) -> None:
    """Features, priors, masks, classes, matchings, losses and gradients of a case with a mask decoder."""
    spec = case.spec
    model, loss = build_mask_model(spec)
    if dtype != torch.float64 and (cells := cells_that_rounding_decides(model, spec, dtype)):
        case.remark = f"in float64, since {dtype} rounds {cells} scores of the masked attention to the other side of 0"
        dtype = torch.float64
    model.to(dtype).eval()
    image = network_input(spec["seed"], "input", spec["input_shape"]).to(dtype)
    with torch.no_grad():
        output = model(image, with_prior=True)
        mask_features, scales = (
            model.decoder.pixel_decoder(output.features) if spec["family"] != "maskformer" else (None, [])
        )
    size = tuple(image.shape[-2:])
    results = {f"feat/res{i + 2}": x for i, x in enumerate(output.features)}
    results |= {f"prior/res{i + 2}": x for i, x in enumerate(output.priors)}
    results["pred_logits"], results["pred_masks"] = output.prediction.classes, output.prediction.masks
    for i, (classes, masks) in enumerate(output.prediction.auxiliary):
        results[f"aux{i}/pred_logits"], results[f"aux{i}/pred_masks"] = classes, masks
    results |= {f"pixel/multi_scale{i}": x for i, x in enumerate(scales)}
    if mask_features is not None:
        results["pixel/mask_features"] = mask_features
        results["pixel/transformer_features"] = scales[0]
    else:
        results["pixel/mask_features"] = model.decoder.pixel_decoder(list(output.features)).last_hidden_state
    results["sem_pred"] = F.interpolate(output.prior_logits, size=size, mode="bilinear", align_corners=True)
    whole = Inference()
    with torch.inference_mode():
        results["semseg"] = probabilities(look(model, image, whole), size)
        photo, facts = network_photo(spec["seed"], spec["e2e"]), spec["e2e"]
        results["e2e/sem_seg"] = probabilities(look(model, photo.to(dtype), whole), tuple(facts["out_hw"]))[0]
    for name in spec["tensors"]:
        case.compare(name, results[name])
    check_set_losses(case, model.double(), loss, image.double(), label_map(spec))


def cells_that_rounding_decides(model: SeMask, spec: dict[str, Any], dtype: torch.dtype) -> int:
    """Count cells that the masked attention sees in float64 and not in another type, or the other way round."""
    images = [network_input(spec["seed"], "input", spec["input_shape"]), network_photo(spec["seed"], spec["e2e"])]
    model = copy.deepcopy(model).eval()
    hidden = [hidden_cells(model.to(kind), [image.to(kind) for image in images]) for kind in (dtype, torch.float64)]
    return sum(int((here != there).sum()) for here, there in zip(*hidden, strict=True))


def hidden_cells(model: SeMask, images: list[Tensor]) -> list[Tensor]:
    """Where the masked attention of each layer does not look, bool; nothing for decoders without it."""
    found: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output: found.append(output[1]))
        for module in model.modules()
        if isinstance(module, Mask2FormerMaskPredictor)
    ]
    with torch.no_grad():
        for image in images if hooks else []:
            model(image)
    for hook in hooks:
        hook.remove()
    return found


def network_photo(seed: int, facts: dict[str, Any]) -> Tensor:
    """Image of the end-to-end check, normalized, [1, 3, H, W]."""
    photo = rng(seed, "image").integers(0, 256, (3, *facts["image_hw"])).astype(np.float32)
    mean, std = (torch.tensor(facts[name]).view(3, 1, 1) for name in ("pixel_mean", "pixel_std"))
    return ((torch.from_numpy(photo) - mean) / std)[None]


def check_set_losses(case: Case, model: SeMask, loss: MaskLoss, image: Tensor, label: Tensor) -> None:
    """Matchings, losses at the golden's random points, and gradients."""
    spec, matchings = case.spec, []
    criterion = loss.criterion(spec["num_classes"])
    for name in ("oversample_ratio", "importance_sample_ratio"):  # of Mask2Former
        if name.upper() in spec["mask_former"]:
            setattr(criterion, name, spec["mask_former"][name.upper()])
    criterion.matcher.register_forward_hook(lambda _, __, found: matchings.append(found))
    with same_points(spec["seed"], image.dtype), mock.patch.object(MaskLoss, "criterion", return_value=criterion):
        output = model(image, with_prior=True)
        terms = loss.set_losses(output.prediction, label)
        terms["loss_cate"] = prior_loss(output.prior_logits, label)
    for name, value in spec["losses_unweighted"]["f64"].items():
        ours = terms.get(name.replace("loss_ce", "loss_cross_entropy"))
        if ours is not None:  # the prior has no loss at earlier layers
            case.note(f"losses/{name}", abs(ours.item() / value - 1))
    if spec["matching_same_in_f32"]:
        found = [[[x.tolist() for x in pair] for pair in matching] for matching in matchings]
        assert found == spec["matching_f64"], f"queries are matched to other classes: {found} {spec['matching_f64']}"
    model.zero_grad()
    with same_points(spec["seed"], image.dtype), mock.patch.object(MaskLoss, "criterion", return_value=criterion):
        total = loss(model(image, with_prior=True), label).total
    case.note("losses/total", abs(total.item() / spec["loss_total_weighted"]["f64"] - 1))
    if "grads_eval_mode" in spec:
        total.backward()
        compare_gradients(case, "grads_eval_mode", model, spec["grads_eval_mode"]["grads"])


@contextlib.contextmanager
def same_points(seed: int, dtype: torch.dtype) -> Iterator[None]:
    """Let the set losses draw the golden's random points."""
    calls = itertools.count()

    def rand(*shape: int, device: torch.device | None = None) -> Tensor:
        points = rng(seed, f"rand:{next(calls)}").random(shape)
        return torch.from_numpy(points.astype(np.float32)).to(device, dtype)

    with mock.patch("torch.rand", rand):
        yield
