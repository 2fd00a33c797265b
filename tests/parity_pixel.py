"""Reference cases of the backbone and of Semantic FPN: model, inference, and loading of ImageNet weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from parity_case import Case, compare_gradients, fill, label_map, network_input
from published_recipes import FOLDERS
from safetensors.torch import save_file
from torch import Tensor, nn

import semask
from semask.checkpoints.names import BACKBONE, Source, microsoft_name, official_names
from semask.checkpoints.pretrained import load_pretrained
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.swin import SIZES, Swin, SwinSize
from semask.losses.pixel import Losses, PixelLoss
from semask.model import SeMask
from semask.outputs import resize
from semask.prediction.predictor import look
from semask.prediction.score_maps import label_map as most_probable
from semask.prediction.score_maps import probabilities
from semask.settings.inference import Inference

CONFIGS = Path(__file__).parents[1] / "semask" / "recipes"


def build(spec: dict[str, Any]) -> tuple[SeMask, PixelLoss]:
    """Build model and loss of a case: our recipe of its base model, with what the case overrides."""
    method, decoder, size, data = spec["base_official_config"].split("_", 3)
    assert decoder == "fpn", f"{spec['case']}: there is no {decoder} decoder yet"
    size, data = (f"{size}_w7", data.removeprefix("w7_")) if data.startswith("w7_") else (size, data)
    recipe = yaml.safe_load(
        (CONFIGS / FOLDERS.get(data, data) / f"{method}_{size}_fpn.yaml").read_text(encoding="utf-8")
    )
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
    model = semask.build(encoder, num_classes=num_classes, channels=channels)
    fill(model, spec["seed"], official_names(model).__getitem__)
    return model, pixel_loss(head, recipe["loss"])


def pixel_loss(head: dict[str, Any], recipe: dict[str, Any]) -> PixelLoss:
    """Loss of a case: what its head overrides, else that of the recipe."""
    sampler = head["sampler"] or {} if "sampler" in head else {"min_kept": recipe["ohem_min_kept"]}
    cross_entropy = head.get("loss_decode", {})
    assert cross_entropy.get("loss_weight", 1.0) == 1.0, "there is no weight of the main term"
    weights = cross_entropy.get("class_weight")
    return PixelLoss(
        prior_weight=head.get("cate_w", recipe["prior_weight"]),
        class_weights=None if weights is None else tuple(weights),
        ohem_min_kept=sampler.get("min_kept", 100_000 if sampler else None),  # mmsegmentation's own
        ohem_threshold=sampler.get("thresh"),
        average="all",
    )


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


def note_losses(case: Case, where: str, loss: PixelLoss, losses: Losses, expected: dict[str, float]) -> None:
    """Compare losses; the published prior loss includes its weight."""
    ours = {"loss_ce": losses.main, "loss_seg": losses.main, "loss_cate": loss.prior_weight * losses.prior}
    for name, value in expected.items():
        key = name.split(".")[-1]
        if key in ours:  # not the accuracy
            case.note(f"{where}/{key}", abs(ours[key].item() / value - 1))


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
            "ms_pred": most_probable(views, size)[0],
            "slide_logits_norescale": slid_view[0].scores,
            "slide_prob": probabilities(slid_view, size),
        }
    for name in spec["tensors"]:
        case.compare(name, results[name])


def check_pretrained(case: Case, directory: Path) -> None:
    """Loading an ImageNet Swin of another window: resized tables, and which tensors change."""
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
    model = semask.build(SemanticEncoder(target, num_classes=2, semantic_window=[None] * 4), num_classes=2, channels=8)
    report = load_pretrained(model, str(path))
    changed = {microsoft_name(name.removeprefix(BACKBONE)) for name in report.loaded + report.resized}
    assert changed == set(spec["changed_by_loading"]), "other tensors were loaded than by the published loader"
    assert not any(name.startswith(BACKBONE) for name in report.fresh)
    assert report.unused == ["head.weight", "norm.weight"], report.unused
    state = {microsoft_name(name): tensor for name, tensor in target.state_dict().items()}
    for name in spec["tensors"]:
        case.compare(name, state[name])
