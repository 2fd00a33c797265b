"""Write huggingface/ next to this file with the library `datasets`, in each of its layouts.

Was run with datasets 5.2.0 (pip install datasets pillow); the tests read what it wrote. The image of sample i has the
gray value 10 i, its mask the value i % 3.
"""

import shutil
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Sequence, load_dataset
from PIL import Image as Pictures

OUT = Path(__file__).parent / "huggingface"
NAMES = ["road", "tree", "sky"]
FEATURES = Features({"image": Image(), "annotation": Image(), "classes": Sequence(ClassLabel(names=NAMES))})


def picture(value: int, *, colored: bool) -> Pictures.Image:
    """A picture [3, 4] of one value."""
    return Pictures.fromarray(np.full((3, 4, 3) if colored else (3, 4), value, dtype=np.uint8))


def samples(first: int, last: int) -> Dataset:
    """Samples as a data set in memory."""
    rows = range(first, last)
    columns = {
        "image": [picture(10 * i, colored=True) for i in rows],
        "annotation": [picture(i % 3, colored=False) for i in rows],
        "classes": [[i % 3] for i in rows],
    }
    return Dataset.from_dict(columns, features=FEATURES)


def main() -> None:
    """Write the folders again."""
    shutil.rmtree(OUT, ignore_errors=True)
    train, validation = samples(0, 5), samples(5, 7)
    (OUT / "hub/data").mkdir(parents=True)
    for index in range(2):
        part = train.shard(2, index, contiguous=True)
        part.to_parquet(str(OUT / f"hub/data/train-{index:05}-of-00002.parquet"))
    validation.to_parquet(str(OUT / "hub/data/validation-00000-of-00001.parquet"))
    DatasetDict(train=train, validation=validation).save_to_disk(
        str(OUT / "saved"), num_shards={"train": 2, "validation": 1}
    )
    train.save_to_disk(str(OUT / "one_split"))
    for split, first, last in (("train", 0, 5), ("validation", 5, 7)):
        folder = OUT / "imagefolder" / split
        (folder / "masks").mkdir(parents=True)
        lines = ["file_name,mask_file_name"]
        for i in range(first, last):
            picture(10 * i, colored=True).save(folder / f"{i}.png")
            picture(i % 3, colored=False).save(folder / f"masks/{i}.png")
            lines.append(f"{i}.png,masks/{i}.png")
        (folder / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    loaded = load_dataset("imagefolder", data_dir=str(OUT / "imagefolder"), cache_dir="/tmp/semask-imagefolder")
    print(loaded)
    for path in OUT.rglob("cache-*"):
        path.unlink()


if __name__ == "__main__":
    main()
