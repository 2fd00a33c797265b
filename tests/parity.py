"""Compare our models with numbers of the published SeMask code.

    python tests/parity.py DIR --cases 'fpn_*,swin_*'

runs every case DIR/CASE.json + CASE.npz whose name matches, prints one line a case with its worst relative difference
(maximal absolute difference over the standard deviation of the tensor; losses and gradients relative to their size) and
exits with 1 if one is over the limit. The recipe that makes weights and inputs from a seed is in the goldens'
README; the settings that a case leaves open are those of our own recipes in configs/.
"""

import argparse
import contextlib
import itertools
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from semask.decoders.mask2former import Mask2Former
from semask.decoders.maskformer import MaskFormer
from semask.encoders import SIZES, SemanticEncoder, Swin, SwinSize
from semask.inference import Inference, classify, look, probabilities
from semask.losses import Losses, PixelLoss
from semask.losses.mask import MaskLoss, prior_loss
from semask.model import SeMask
from semask.outputs import resize
from semask.weights.names import Source, official_names
from semask.weights.pretrained import load_pretrained, microsoft_name

CONFIGS = Path(__file__).parents[1] / "configs"
LIMIT, MASK_LIMIT = 5e-5, 3e-4  # of the standard deviation: per-pixel and mask decoders, as the goldens suggest
TIES = 1e-3  # share of label pixels that may differ where two classes score alike


@dataclass
class Case:
    """One golden: its settings, its reference tensors, and the differences found so far."""

    path: Path
    spec: dict[str, Any]
    reference: dict[str, np.ndarray]
    differences: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def limit(self) -> float:
        return MASK_LIMIT if "mask_former" in self.spec else LIMIT

    @property
    def worst(self) -> tuple[float, str]:
        return max((value, name) for name, value in self.differences.items())

    def compare(self, name: str, value: Tensor) -> None:
        """Note the difference of a full tensor from its stored, possibly strided, reference."""
        facts = self.spec["tensors"][name]
        assert list(value.shape) == facts["shape"], f"{name}: {list(value.shape)}, the golden has {facts['shape']}"
        reference = torch.from_numpy(self.reference[name].astype(np.float64)).flatten()
        ours = value.detach().double().flatten()[:: facts["stride"]]
        assert len(ours) == len(reference), f"{name}: {len(ours)} values, the golden has {len(reference)}"
        if name in ("pred", "ms_pred"):
            share = (ours != reference).double().mean().item()
            self.differences[name] = 0.0 if share <= TIES else share
        else:
            self.note(name, (ours - reference).abs().max().item() / facts["std"])

    def note(self, name: str, difference: float) -> None:
        """Note a relative difference; what is no number is the worst of all."""
        self.differences[name] = difference if difference == difference else float("inf")


def rng(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def weight(seed: int, key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Value of one tensor of the published state dict by recipe R1; None: as constructed."""
    n = rng(seed, key).standard_normal(shape)
    last = key.split(".")[-1]
    if last in ("relative_position_index", "num_batches_tracked", "empty_weight"):
        return None
    if last == "running_var":
        return 0.5 + abs(n)
    if last == "running_mean":
        return 0.1 * n
    if last == "gamma":
        return 0.6 + 0.2 * n
    if last == "relative_position_bias_table":
        return 0.2 * n
    if key.endswith(("query_feat.weight", "query_embed.weight")) or "level_embed" in key:
        return 0.5 * n
    if key.endswith("sampling_offsets.bias"):
        return n
    if last.endswith("bias"):
        return 0.1 * n
    if len(shape) == 1:
        return 1 + 0.1 * n
    scale = 0.5 if "mlp_cls_q" in key or "mlp_cls_k" in key else 1.0
    return scale * n / np.sqrt(np.prod(shape[1:]))


def fill(module: nn.Module, seed: int, rename: Callable[[str], Source]) -> None:
    """Give every tensor its value by recipe R1 under its published name."""
    state = module.state_dict()
    for name, tensor in state.items():
        key, part, parts = rename(name)
        key = re.sub(r"align_(\d)\.offset\.norm\.", r"layer_\1.norm.", key)  # one norm under two names
        value = weight(seed, key, (parts * tensor.shape[0], *tensor.shape[1:]) if tensor.shape else ())
        if value is not None:
            state[name] = torch.from_numpy(np.asarray(value, dtype=np.float32).reshape(-1, *tensor.shape)[part])
    module.load_state_dict(state)


def network_input(seed: int, name: str, shape: list[int]) -> Tensor:
    return torch.from_numpy(rng(seed, name).standard_normal(shape).astype(np.float32))


def label_map(spec: dict[str, Any]) -> Tensor:
    """Label map [B, H, W] of a case."""
    B, _, H, W = spec["input_shape"]
    cell, r = spec.get("label_cell", 8), rng(spec["seed"], "label")
    coarse = r.integers(0, spec["num_classes"], (B, -(-H // cell), -(-W // cell)))
    noise = r.random((B, H, W))
    label = coarse.repeat(cell, axis=1).repeat(cell, axis=2)[:, :H, :W]
    return torch.from_numpy(np.where(noise < 0.1, 255, label)).long()


def build(spec: dict[str, Any]) -> tuple[SeMask, PixelLoss]:
    """Build model and loss of a case: our recipe of its base model, with what the case overrides."""
    method, decoder, size, data = spec["base_official_config"].split("_", 3)
    assert decoder == "fpn", f"{spec['case']}: there is no {decoder} decoder yet"
    size, data = (f"{size}_w7", data.removeprefix("w7_")) if data.startswith("w7_") else (size, data)
    recipe = yaml.safe_load((CONFIGS / data / f"{method}_{size}_fpn.yaml").read_text(encoding="utf-8"))
    settings, backbone = recipe["model"], {**spec.get("backbone_config", {}), **spec.get("backbone_overrides", {})}
    head, num_classes = spec.get("head_overrides", {}), spec["num_classes"]

    published = swin_size(settings)
    swin = SwinSize(
        channels=backbone.get("embed_dim", published.channels),
        depths=tuple(backbone.get("depths", published.depths)),
        heads=tuple(backbone.get("num_heads", published.heads)),
        window=backbone.get("window_size", published.window),
        drop_path=0.0,
    )
    prior_classes = backbone.get("num_cls", settings.get("prior_classes") or num_classes)
    depths = backbone.get("num_sem_blocks", settings["semantic_depths"]) if method == "semask" else 0
    window = backbone.get("sem_window_size", next((w for w in settings["semantic_window"] if w), 7))
    stages = global_stages(spec, swin.channels, prior_classes)
    encoder = SemanticEncoder(
        Swin(swin),
        num_classes=prior_classes,
        semantic_window=[None if i in stages else window for i in range(4)],
        semantic_depths=depths,
    )
    channels = head.get("channels", settings["channels"])
    model = SeMask(encoder, num_classes=num_classes, channels=channels)
    loss = PixelLoss(
        prior_weight=head.get("cate_w", recipe["loss"]["prior_weight"]),
        ohem_min_kept=head["sampler"]["min_kept"] if "sampler" in head else recipe["loss"]["ohem_min_kept"],
        average="all",
    )
    fill(model, spec["seed"], official_names(model).__getitem__)
    return model, loss


def swin_size(settings: dict[str, Any]) -> SwinSize:
    """Size of the Swin that a recipe names."""
    size = SIZES[settings["encoder"]]
    return size._replace(window=settings["window"] or size.window)


def global_stages(spec: dict[str, Any], embed_dim: int, prior_classes: int) -> list[int]:
    """Stages with global semantic attention: as the case says, else by the rule in the published FPN code."""
    if spec.get("global_stages") is not None:
        return list(spec["global_stages"])
    large = spec.get("forced_variant") == "large" or (embed_dim in (96, 192) and prior_classes > 19)
    return [2, 3] if large else []


def traces(model: SeMask) -> dict[str, Tensor]:
    """Collect the intermediate results of the next pass under their published names."""
    found: dict[str, Tensor] = {}

    def watch(module: nn.Module, name: str, shape: Callable[[Any], Tensor]) -> None:
        module.register_forward_hook(lambda _, __, output: found.__setitem__(f"trace/{name}", shape(output)))

    def tokens(x: Any) -> Tensor:
        return x.flatten(1, 2)

    watch(model.encoder.backbone.stem, "patch_embed", lambda x: x.permute(0, 3, 1, 2))
    for i, stage in enumerate(model.encoder.backbone.stages):
        for j, block in enumerate(stage.blocks):
            watch(block, f"layers.{i}.blocks.{j}", tokens)
        if i > 0:
            watch(stage.merge, f"layers.{i - 1}.downsample", tokens)
    for i, layer in enumerate(model.encoder.semantic_layers):
        if not isinstance(layer, nn.Identity):
            watch(layer.norm, f"layers.{i}.semantic_layer.norm1", tokens)
            watch(layer, f"layers.{i}.semantic_layer.x", lambda output: tokens(output[0]))
    for i, level in enumerate(model.decoder.levels):
        watch(level, f"decode_head.scale_heads.{i}", lambda x: x)
    return found


def check_model(case: Case, dtype: torch.dtype) -> None:
    """Features, priors, logits, traces, losses, gradients and BatchNorm statistics of an FPN case."""
    spec = case.spec
    model, loss = build(spec)
    model.to(dtype).eval()
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == spec.get("params", parameters), f"{parameters} parameters, the golden has {spec['params']}"
    image = network_input(spec["seed"], "input", spec["input_shape"]).to(dtype)
    results = traces(model)
    with torch.no_grad():
        output = model(image, with_prior=True)
    results |= {f"feat{i}": x for i, x in enumerate(output.features)}
    results |= {f"prior{i}": x for i, x in enumerate(output.priors)}
    results["logits"] = output.logits
    results["logits_full"] = resize(output.logits, tuple(image.shape[-2:]))
    results["pred"] = results["logits_full"].argmax(1).to(torch.uint8)
    if output.prior_logits is not None:
        results["cls_output"] = output.prior_logits
    for name in spec["tensors"]:
        case.compare(name, results[name])
    if "eval_losses" not in spec:
        return
    label = label_map(spec)
    with torch.no_grad():
        note_losses(case, "eval_losses", loss, loss(output, label), spec["eval_losses"]["f64"])
    # The reference gradients are of float64; in float32 some all but cancel (biases before a BatchNorm) and are noise.
    for mode in ("grads_eval_mode", "train_mode_nodrop"):
        if mode in spec:
            check_gradients(case, mode, model.double(), loss, image.double(), label)


def check_gradients(case: Case, mode: str, model: SeMask, loss: PixelLoss, image: Tensor, label: Tensor) -> None:
    """Losses, gradients and, in training mode, the BatchNorm statistics after one pass."""
    expected = case.spec[mode]
    model.train(mode == "train_mode_nodrop")
    for module in model.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
    model.zero_grad()
    losses = loss(model(image, with_prior=True), label)
    losses.total.backward()
    note_losses(case, mode, loss, losses, expected["losses"])
    compare_gradients(case, mode, model, expected["grads"])
    names = official_names(model)
    state = {names[name].name: tensor for name, tensor in model.state_dict().items()}
    for name, (total, absolute) in expected.get("running_stats_after", {}).items():
        got = state[name].double()
        difference = max(abs(got.sum().item() - total), abs(got.abs().sum().item() - absolute))
        case.note(f"{mode}/{name}", difference / max(absolute, 1e-6))


def compare_gradients(case: Case, mode: str, model: SeMask, expected: dict[str, list[float]]) -> None:
    """Compare norm and projection of every parameter's gradient; tensors that are one in the golden are joined."""
    names, seed = official_names(model), case.spec["seed"]
    parts: dict[str, dict[int, Tensor]] = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"no gradient for {name}"
        parts.setdefault(names[name].name, {})[names[name].part] = parameter.grad
    gradients = {
        name: torch.cat([found[i] for i in sorted(found)]) if len(found) > 1 else found[0]
        for name, found in parts.items()
    }
    assert set(gradients) == set(expected), (
        f"gradients of other parameters: {sorted(set(gradients) ^ set(expected))[:4]}"
    )
    # Some gradients are zero but for rounding (softmax does not see the bias of a key): compare them to a size.
    floor = 0.01 * float(np.median([norm for norm, _ in expected.values()]))
    for name, (norm, dot) in expected.items():
        gradient = gradients[name].double()
        direction = torch.from_numpy(rng(seed, f"grad:{name}").standard_normal(tuple(gradient.shape)))
        difference = max(abs(gradient.norm().item() - norm), abs((gradient * direction).sum().item() - dot))
        case.note(f"{mode}/grad {name}", difference / max(norm, floor))


def note_losses(case: Case, where: str, loss: PixelLoss, losses: Losses, expected: dict[str, float]) -> None:
    """Compare losses; the published prior loss includes its weight."""
    ours = {"loss_ce": losses.main, "loss_seg": losses.main, "loss_cate": loss.prior_weight * losses.prior}
    for name, value in expected.items():
        key = name.split(".")[-1]
        if key in ours:  # not the accuracy
            case.note(f"{where}/{key}", abs(ours[key].item() / value - 1))


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
        "queries": former["NUM_OBJECT_QUERIES"],
        "feedforward": former["DIM_FEEDFORWARD"],
        "mask_channels": head["MASK_DIM"],
    }
    decoder: MaskFormer | Mask2Former
    if spec["family"] == "maskformer":
        decoder = MaskFormer(encoder.channels, encoder.strides, layers=former["DEC_LAYERS"], **settings)
        loss = MaskLoss(
            class_weight=1.0, mask_weight=former["MASK_WEIGHT"], dice_weight=former["DICE_WEIGHT"], points=None
        )
    else:
        kinds = {"PixelFANDecoder": "fapn", "MSDeformAttnPixelFANDecoder": "msfapn"}
        decoder = Mask2Former(
            encoder.channels,
            encoder.strides,
            layers=former["DEC_LAYERS"] - 1,
            encoder_layers=head["TRANSFORMER_ENC_LAYERS"],
            pixel_decoder=kinds.get(head["PIXEL_DECODER_NAME"], "deformable"),
            **settings,
        )
        loss = MaskLoss(points=former["TRAIN_NUM_POINTS"])
    model = SeMask(encoder, decoder, num_classes=spec["num_classes"])
    fill(model, spec["seed"], official_names(model).__getitem__)
    return model, loss


def check_mask_model(case: Case, dtype: torch.dtype) -> None:
    """Features, priors, masks, classes, matchings, losses and gradients of a case with a mask decoder."""
    spec = case.spec
    model, loss = build_mask_model(spec)
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


def network_photo(seed: int, facts: dict[str, Any]) -> Tensor:
    """Image of the end-to-end check, normalised, [1, 3, H, W]."""
    photo = rng(seed, "image").integers(0, 256, (3, *facts["image_hw"])).astype(np.float32)
    mean, std = (torch.tensor(facts[name]).view(3, 1, 1) for name in ("pixel_mean", "pixel_std"))
    return ((torch.from_numpy(photo) - mean) / std)[None]


def check_set_losses(case: Case, model: SeMask, loss: MaskLoss, image: Tensor, label: Tensor) -> None:
    """Matchings, losses at the golden's random points, and gradients."""
    spec, matchings = case.spec, []
    criterion = loss.criterion(spec["num_classes"])
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
    with same_points(spec["seed"], image.dtype):
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


def check_inference(case: Case, dtype: torch.dtype) -> None:
    """Whole, sliding and multi-scale inference."""
    spec, seed = case.spec, case.spec["seed"]
    model, _ = build(spec)
    model.to(dtype).eval()
    image, size = network_input(seed, "input", spec["input_shape"]).to(dtype), tuple(spec["ori_shape"])
    crop, stride = spec["slide"]["crop_size"], spec["slide"]["stride"]
    whole, slid = Inference(), Inference(mode="slide", crop=tuple(crop), stride=tuple(stride))
    with torch.inference_mode():
        views = [
            look(model, network_input(seed, f"input:view{i}", view["shape"]).to(dtype), whole, mirrored=mirrored)[0]
            for i, view in enumerate(spec["views"])
            for mirrored in [view["flip_horizontal"]]
        ]
        plain, slid_view = look(model, image, whole), look(model, image, slid)
        results = {
            "whole_prob": probabilities(plain, size),
            "whole_prob_flip_h": probabilities(look(model, image, whole, mirrored=True), size),
            "whole_prob_flip_v": probabilities(plain, size).flip(-2),
            "whole_logits_norescale": plain[0].rows(range(plain[0].size[0])),
            "ms_mean_prob": probabilities(views, size),
            "ms_pred": classify(views, size)[0][0],
            "slide_logits_norescale": slid_view[0].scores,
            "slide_prob": probabilities(slid_view, size),
        }
    for name in spec["tensors"]:
        case.compare(name, results[name])


def check_pretrained(case: Case, directory: Path) -> None:
    """Loading an ImageNet Swin of another window: resized tables, and which tensors change."""
    from safetensors.torch import save_file

    spec, source = case.spec, case.spec["source"]
    size = SwinSize(
        source["embed_dim"], tuple(source["depths"]), tuple(source["num_heads"]), source["window_size"], drop_path=0.0
    )
    imagenet = Swin(size)
    fill(imagenet, spec["seed"], lambda name: Source(microsoft_name(name)))
    path = directory / "imagenet.safetensors"
    weights = {microsoft_name(name): tensor.contiguous() for name, tensor in imagenet.state_dict().items()}
    save_file({**weights, "norm.weight": torch.ones(8), "head.weight": torch.ones(2, 8)}, path)
    target = Swin(size._replace(window=spec["target_window"]))
    report = load_pretrained(target, str(path))
    changed = {microsoft_name(name) for name in report.loaded + report.resized}
    assert changed == set(spec["changed_by_loading"]), "other tensors were loaded than by the published loader"
    assert not report.left
    assert report.unused == ["head.weight", "norm.weight"], report.unused
    state = {microsoft_name(name): tensor for name, tensor in target.state_dict().items()}
    for name in spec["tensors"]:
        case.compare(name, state[name])


def run(path: Path, directory: Path, dtype: torch.dtype = torch.float32) -> Case:
    """Run the case of one JSON file; `directory` takes files that it has to write.

    Raises:
        AssertionError: If something that has to be the same, not just close, differs.
    """
    with np.load(path.with_suffix(".npz")) as arrays:
        case = Case(path, json.loads(path.read_text(encoding="utf-8")), dict(arrays))
    if case.name.startswith("swin_pretrained"):
        check_pretrained(case, directory)
    elif "mask_former" in case.spec:
        check_mask_model(case, dtype)
    elif "slide" in case.spec:
        check_inference(case, dtype)
    else:
        check_model(case, dtype)
    assert case.differences, f"{case.name}: nothing was compared"
    return case


def find(directory: Path, patterns: str) -> Iterator[Path]:
    """JSON files of the cases (those with an .npz beside them) whose name matches one of the comma-separated globs."""
    for path in sorted(directory.glob("*.json")):
        if path.with_suffix(".npz").exists() and any(fnmatch(path.stem, pattern) for pattern in patterns.split(",")):
            yield path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="folder of CASE.json and CASE.npz")
    parser.add_argument("--cases", default="*", help="comma-separated globs of case names")
    parser.add_argument(
        "--limit", type=float, help=f"largest relative difference (default {LIMIT}, mask decoders {MASK_LIMIT})"
    )
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--verbose", action="store_true", help="print the five worst differences of each case")
    args = parser.parse_args()
    import tempfile

    paths, failures = list(find(args.directory, args.cases)), 0
    for path in paths:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                case = run(path, Path(scratch), getattr(torch, args.dtype))
            except (AssertionError, KeyError, ValueError) as error:
                print(f"{path.stem:45s} FAILED: {type(error).__name__}: {error}")
                failures += 1
                continue
        worst, name = case.worst
        fine = worst <= (args.limit or case.limit)
        failures += not fine
        verdict = "ok" if fine else "OVER THE LIMIT"
        print(f"{case.name:45s} {worst:.2e}  {verdict}  ({len(case.differences)} compared, worst: {name})", flush=True)
        if args.verbose:
            for name, value in sorted(case.differences.items(), key=lambda item: -item[1])[:5]:
                print(f"    {value:.2e}  {name}")
    if not paths:
        print(f"no case in {args.directory} matches {args.cases}")
    return 1 if failures or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
