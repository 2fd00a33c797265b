import copy
import json
import pickle
import subprocess
import sys

import pytest
import torch
import yaml
from torch import nn
from torch.utils.data import Dataset

import semask
from semask.builder import build
from semask.config import ModelConfig


def test_a_dictionary_as_ever():
    config = build("swin_nano", num_classes=3, channels=8).config
    plain = dict(config)
    assert isinstance(config, dict)
    assert config == plain == json.loads(json.dumps(config)) == {**config}
    assert yaml.safe_load(yaml.safe_dump(config)) == plain
    assert build(**config).config == config
    for same in (copy.deepcopy(config), copy.copy(config), pickle.loads(pickle.dumps(config))):
        assert type(same) is ModelConfig
        assert same == config


@pytest.mark.parametrize("before", ["", "yaml.SafeDumper.add_representer(complex, None)"], ids=("alone", "another"))
def test_yaml_writes_it_whatever_another_package_added_before(before):
    code = (
        f"import yaml\n{before}\nfrom semask.config import ModelConfig\nprint(yaml.safe_dump(ModelConfig(channels=8)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "channels: 8"


def test_what_engines_ask_for():
    config = ModelConfig(num_classes=3, mean=[0.5])
    assert config.num_classes == 3
    assert getattr(config, "problem_type", None) is None
    assert not hasattr(config, "_name_or_path")
    with pytest.raises(AttributeError, match="config has no setting 'hidden_size': its own are num_classes, mean"):
        config.hidden_size  # noqa: B018
    assert json.loads(config.to_json_string()) == config.to_dict() == {"num_classes": 3, "mean": [0.5]}
    config.to_dict()["mean"].append(1)
    assert config.mean == [0.5]


def test_what_engines_set():
    config = ModelConfig(num_classes=3)
    config.use_cache = False
    assert config.use_cache is False
    assert config == {"num_classes": 3}
    config.num_classes = 4
    assert config["num_classes"] == 4


class ForTrainer(nn.Module):
    """A SeMask as the Trainer of transformers wants its models: losses and scores in a dictionary."""

    def __init__(self, model: semask.SeMask) -> None:
        super().__init__()
        self.model, self.config, self.loss = model, model.config, semask.PixelLoss()

    def forward(self, pixel_values, labels):
        output = self.model(pixel_values, with_prior=True)
        return {"loss": self.loss(output, labels).total, "logits": output.logits}


class Noise(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(index)
        labels = torch.randint(0, 3, (32, 32), generator=generator)
        return {"pixel_values": torch.randn(3, 32, 32, generator=generator), "labels": labels}


def test_trainer_of_transformers(tmp_path):
    from transformers import Trainer, TrainingArguments

    model = build("swin_nano", num_classes=3, channels=8)
    before = model.decoder.classifier.weight.detach().clone()
    saved = dict(model.config)
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=2,
        report_to="tensorboard",
        use_cpu=True,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=2,
        disable_tqdm=True,
    )
    trainer = Trainer(ForTrainer(model), arguments, train_dataset=Noise(), eval_dataset=Noise())
    assert trainer.train().global_step == 2
    trainer.save_model()
    trainer.create_model_card()
    assert not model.decoder.classifier.weight.equal(before)
    assert model.config == saved
    semask.save(tmp_path / "mine.safetensors", model, {})
    assert semask.load(tmp_path / "mine.safetensors").config == saved
