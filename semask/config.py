"""What a model is made of, in the form that other libraries expect of a model's `config`."""

import copy
import json
from typing import Any

import yaml
from yaml.representer import SafeRepresenter


class ModelConfig(dict[str, Any]):
    """Settings of a model by the names of `ModelSettings`: a dictionary whose values are attributes too.

    Engines that are made for the models of `transformers` (its Trainer, trackers of experiments) ask a `config` for
    `to_dict()` or `to_json_string()`, look for attributes that a SeMask does not have, and set some, such as
    `config.use_cache`. What is set by a name that is no setting is a plain attribute: it is not saved with the model.

    >>> config = ModelConfig(encoder="swin_tiny", num_classes=5)
    >>> config.num_classes, config["num_classes"], getattr(config, "use_cache", None)
    (5, 5, None)
    """

    def __getattr__(self, name: str) -> Any:
        """A setting by its name."""
        if name in self:
            return self[name]
        raise AttributeError(f"config has no setting {name!r}: its own are {', '.join(self)}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a setting, or keep what is none as an attribute."""
        if name in self:
            self[name] = value
        else:
            super().__setattr__(name, value)

    def to_dict(self) -> dict[str, Any]:
        """Copy the settings into a plain dictionary."""
        return copy.deepcopy(dict(self))

    def to_json_string(self) -> str:
        """Write the settings as JSON."""
        return json.dumps(self, indent=2, ensure_ascii=False) + "\n"


for kind in (SafeRepresenter, yaml.SafeDumper):  # the second has a table of its own once another package added to it
    kind.add_representer(ModelConfig, SafeRepresenter.represent_dict)  # YAML writes it as any dictionary
