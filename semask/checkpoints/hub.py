"""Models on the Hugging Face Hub: a folder with the weights and a model card, up there and back again.

FOLDER
├── model.safetensors   weights and the JSON header; all that is read again
├── model.json          the same JSON, for people
└── README.md           the model card: what the Hub shows
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from semask.checkpoints.saving import save, versions
from semask.checkpoints.sources import is_hub_name, load
from semask.data.catalog import title_of
from semask.files import network
from semask.files.atomic import temporary_folder, written_whole
from semask.files.text import reason
from semask.model import SeMask

WEIGHTS, CARD = "model.safetensors", "README.md"
MARK = "<!-- Written by semask, which replaces this file. To keep your own text, delete this line. -->"
HUB_LICENCES = {"apache-2.0", "mit", "bsd-3-clause", "gpl-3.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"}
"""Names of the Hub's own list; every other licence is called `other` there."""
FOLDED_CLASSES = 30
"""With more classes than this the list of their names is folded."""


def save_pretrained(model: SeMask, folder: str | Path) -> Path:
    """Write a model into a folder for the Hub: model.safetensors, model.json and a model card.

    Args:
        model: Model to save, with its `metadata`: classes, recipe, metrics. Set `model.metadata["licence"]` to state a
            licence.
        folder: Folder to write to; other files in it are kept, and so is a README.md of yours.

    Returns:
        The file of the weights; `semask.load` and `from_pretrained` read it, or the folder.

    Raises:
        ValueError: If a file can't be written, a weight is not finite (the old weights are then untouched), or the
            folder is that of a run, where best.safetensors would be read instead.
    """
    folder = Path(folder)
    if (folder / "best.safetensors").exists():
        raise ValueError(f"{folder}: holds best.safetensors, which would be read instead: give another folder")
    path = save(folder / WEIGHTS, model, model.metadata)
    _write_card(folder / CARD, model_card(model))
    return path


def from_pretrained(
    source: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    device: torch.device | str = "cpu",
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    **others: object,
) -> SeMask:
    """Load a model from the Hub, or from whatever else `semask.load` reads.

    Args:
        source: Name OWNER/NAME of a repository on the Hub that holds model.safetensors; or a folder, a file, a name
            that `semask.load` knows, for which the settings of the Hub have no meaning.
        revision: Branch, tag or commit; None for the newest.
        cache_dir: Folder that downloads are kept in; None for the usual cache of the Hub.
        token: Access token for private repositories; None for the one of `hf auth login`, False for none.
        local_files_only: Use only what was downloaded before.
        device: Where to put the model.
        num_classes: Number of classes if it is to be another one, as for `semask.load`.
        classes: Names of other classes, in place of their number.
        others: None are known: but for its classes a model is what its file says.

    Returns:
        The model in evaluation mode; `metadata` holds what the checkpoint says besides the weights.

    Raises:
        ValueError: If there is no such model, the Hub can't be reached, or the file is not one of ours.
    """
    if others:
        raise ValueError(
            f"from_pretrained got {', '.join(others)}: but for its classes a model is what its file says; drop it, or "
            "for other settings train with `semask train --training.pretrained`"
        )
    if not is_hub_name(Path(source)):
        return load(source, device=device, num_classes=num_classes, classes=classes)
    from huggingface_hub import hf_hub_download

    advice = "check name, revision and network, or log in with `hf auth login` if it is private"
    with _in_one_line(f"{source}: no {WEIGHTS} to be had from the Hugging Face Hub", advice), network.hub():
        file = hf_hub_download(
            str(source),
            WEIGHTS,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
    return load(file, device=device, num_classes=num_classes, classes=classes)


def push_to_hub(
    model: SeMask,
    name: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = "Upload a semask model",
    create_pr: bool = False,
) -> str:
    """Upload a model to the Hub, in one commit.

    Folders of this machine are left out of the recipe (`data.root`, the path before `training.pretrained`). A README.md
    of yours in the repository is kept.

    Args:
        model: Model to upload, as for `save_pretrained`.
        name: Repository OWNER/NAME, or NAME for one of your own; it is created if there is none.
        private: Whether a new repository is private; None for what its owner has set.
        token: Access token that may write; None for the one of `hf auth login`.
        commit_message: First line of the commit.
        create_pr: Open a pull request instead of changing the main branch.

    Returns:
        Address of the commit.

    Raises:
        ValueError: If a weight is not finite, the Hub can't be reached, or it refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError

    api = HfApi(token=token)
    advice = "check name and network, or give a token that may write (`hf auth login`)"
    with temporary_folder() as folder:
        save(folder / WEIGHTS, model, without_paths(model.metadata))
        with _in_one_line(f"{name}: not pushed to the Hugging Face Hub", advice), network.hub():
            repository = api.create_repo(name, private=private, exist_ok=True).repo_id
            with contextlib.suppress(EntryNotFoundError):
                api.hf_hub_download(repository, CARD, local_dir=folder)
            _write_card(folder / CARD, model_card(model, name=repository))
            commit = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=commit_message, create_pr=create_pr
            )
    return str(commit.commit_url)


def without_paths(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata without the folders of this machine: no `data.root`, of `training.pretrained` the last name only."""
    public: dict[str, Any] = json.loads(json.dumps(metadata))
    recipe = public.get("recipe", {})
    recipe.get("data", {}).pop("root", None)
    if recipe.get("training", {}).get("pretrained"):
        recipe["training"]["pretrained"] = _last_name(recipe["training"]["pretrained"])
    for change in public.get("changes", []):
        change["changes"].pop("data.root", None)
        if pair := change["changes"].get("training.pretrained"):
            change["changes"]["training.pretrained"] = [x and _last_name(x) for x in pair]
    return public


def _last_name(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]


def model_card(model: SeMask, *, name: str = "OWNER/NAME") -> str:
    """Write the model card: what is known of a model, in Markdown after the YAML that the Hub reads.

    Args:
        model: Model with its `metadata`.
        name: Repository on the Hub that the card is for.

    Returns:
        Text of README.md. Folders of this machine are not in it.
    """
    from huggingface_hub import EvalResult, ModelCardData

    metadata = without_paths(model.metadata)
    recipe = {**metadata.get("recipe", {}), "model": model.config}
    dataset = recipe.get("data", {}).get("format")
    miou = metadata.get("metrics", {}).get("miou")
    results = None
    if miou is not None:
        results = [
            EvalResult(
                task_type="image-segmentation",
                dataset_type=dataset or "unknown",
                dataset_name=_data_name(dataset),
                dataset_split=recipe.get("data", {}).get("val_split"),
                metric_type="mean_iou",
                metric_name="mIoU (%)",
                metric_value=round(100 * miou, 2),
            )
        ]
    data = ModelCardData(
        **_licence_data(_licence(metadata)),
        library_name="semask",
        pipeline_tag="image-segmentation",
        datasets=[dataset] if dataset and title_of(dataset) else None,
        tags=["semask", "semantic-segmentation", "image-segmentation", "swin"],
        model_name=_title(model, metadata),
        eval_results=results,
    )
    sections = [
        f"---\n{data.to_yaml()}\n---\n{MARK}",
        f"# {_title(model, metadata)}",
        _summary(model),
        USE.format(name=name),
        f"## Classes\n\n{_classes(metadata, model.config['num_classes'])}",
        f"## Data and training\n\n{_training(metadata, recipe)}",
        f"## Numbers\n\n{_numbers(metadata, recipe)}",
        f"## Licence\n\n{_licence_text(_licence(metadata))}",
        LIMITS,
        f"## Recipe\n\nEvery setting but the folders of the data.\n\n```yaml\n{_yaml(recipe)}```",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions().items()) + ".",
        CITATION,
    ]
    return "\n\n".join(sections) + "\n"


USE = """## Use

```python
import semask

model = semask.load("{name}")
prediction = semask.Predictor(model)("photo.jpg")  # prediction.label: the class of each pixel
```

or `semask predict {name} photo.jpg --out masks`."""

LIMITS = """## Limits

Every pixel is given one of the classes above, also where none of them fits. The numbers hold for the data and the
settings they were measured with; other cameras, places, seasons or resolutions were not looked at. Measure the model on
your own images before anything depends on it."""

CITATION = """## Citation

```bibtex
@inproceedings{jain2023semask,
  title     = {SeMask: Semantically Masked Transformers for Semantic Segmentation},
  author    = {Jain, Jitesh and Singh, Anukriti and Orlov, Nikita and Huang, Zilong and Li, Jiachen and Walton, Steven and Shi, Humphrey},
  booktitle = {IEEE/CVF International Conference on Computer Vision Workshops (ICCVW)},
  year      = {2023},
  note      = {arXiv:2112.12782}
}
```"""  # noqa: E501


def _title(model: SeMask, metadata: Mapping[str, Any]) -> str:
    name = metadata.get("published", {}).get("name")
    prefix = "semask-" if model.encoder.semantic_strides else ""
    return name or f"{prefix}{model.config['encoder']}-{model.config['decoder']}".replace("_", "-")


def _summary(model: SeMask) -> str:
    config = model.config
    what = "SeMask ([arXiv 2112.12782](https://arxiv.org/abs/2112.12782)), semantic attention inside the backbone"
    if not model.encoder.semantic_strides:
        what = "The plain backbone without semantic layers, the baseline of SeMask (arXiv 2112.12782)"
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    images = "RGB images" if config["in_channels"] == 3 else f"images of {config['in_channels']} channels"
    return (
        f"Semantic segmentation: the class of each pixel, for {config['num_classes']} classes, from {images}. {what}; "
        f"encoder `{config['encoder']}`, decoder `{config['decoder']}`, {parameters:.1f} million parameters."
    )


def _classes(metadata: Mapping[str, Any], count: int) -> str:
    names = metadata.get("classes", {}).get("classes")
    if not names:
        return f"{count} classes whose names are not known."
    # In a code block a name can hold any character; on one line it cannot end the block.
    lines = "\n".join(f"{i:3d} {' '.join(str(name).split())}" for i, name in enumerate(names))
    block = f"```text\n{lines}\n```"
    if len(names) <= FOLDED_CLASSES:
        return block
    return f"<details>\n<summary>{len(names)} classes</summary>\n\n{block}\n\n</details>"


def _data_name(dataset: str | None) -> str:
    return title_of(dataset) or "its own data set"


def _training(metadata: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    if "published" in metadata:
        return f"{_data_name(recipe.get('data', {}).get('format'))}; trained by the authors of the paper, converted."
    if "step" not in metadata:
        return "Nothing is known of a training: these may be fresh weights."
    text = f"Trained on {_data_name(recipe.get('data', {}).get('format'))} for {metadata['step']} steps"
    training = recipe.get("training", {})
    if "batch_size" in training:
        text += f" of {training['batch_size']} images"
    if training.get("pretrained"):
        text += f", from the backbone weights `{training['pretrained']}`"
    return text + "."


def _numbers(metadata: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    text = "Not measured with these weights."
    metrics = metadata.get("metrics", {})
    shares = {"mIoU": "miou", "mean accuracy": "mean_accuracy", "pixel accuracy": "overall_accuracy"}
    rows = [f"| {name} | {100 * metrics[key]:.2f} % |" for name, key in shares.items() if metrics.get(key) is not None]
    if rows:
        data = recipe.get("data", {})
        split = f"split `{data['val_split']}`" if data.get("val_split") else "the validation split"
        protocol = ", ".join(f"{key} {json.dumps(value)}" for key, value in recipe.get("evaluation", {}).items())
        text = "\n".join(["| measure | value |", "|---|---|", *rows])
        text += f"\n\nOn {split} of {_data_name(data.get('format'))}; settings: {protocol or 'not known'}."
    if published := metadata.get("published"):
        numbers = {"single-scale": published.get("miou"), "multi-scale and flip": published.get("miou_multiscale")}
        given = ", ".join(f"{value} % {how}" for how, value in numbers.items() if value is not None)
        text += f"\n\nPublished by the authors, not measured here: mIoU {given or 'not given'}."
        if published.get("url"):
            text += f" Source of the weights: <{published['url']}>."
    return text


def _licence(metadata: Mapping[str, Any]) -> str | None:
    licence: str | None = metadata.get("licence") or metadata.get("published", {}).get("licence")
    return licence


def _licence_data(licence: str | None) -> dict[str, Any]:
    if licence is None:
        return {"license": "other"}
    if licence.lower() in HUB_LICENCES:
        return {"license": licence.lower()}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-.")}


def _licence_text(licence: str | None) -> str:
    stated = licence or "Not stated: ask whoever published this model."
    return f"{stated.rstrip('.')}. The training data and the weights it started from have terms of their own."


def _yaml(values: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(values))  # tuples become lists
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _write_card(path: Path, text: str) -> None:
    if path.is_file() and MARK.encode() not in path.read_bytes():
        return
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _in_one_line(what: str, advice: str) -> Iterator[None]:
    """Report what goes wrong with the Hub as a ValueError of one line."""
    try:
        yield
    except Exception as error:  # what a failed connection raises differs from one huggingface_hub to the next
        raise ValueError(f"{what} ({reason(error)}): {advice}") from error
