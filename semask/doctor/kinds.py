"""All kinds of findings: how serious one is, what it does to training, what to do. docs/doctor.md has them."""

from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
"""error: cannot train; warning: trains, but probably not as it is meant; note: only to know."""


class Kind(NamedTuple):
    """A kind of finding.

    Args:
        severity: How serious it is as a rule.
        title: What is found, in a few words.
        effect: What it does to training.
        advice: What to do.
        fixed: What `--fix` does about it; "" if it can do nothing.
    """

    severity: Severity
    title: str
    effect: str
    advice: str
    fixed: str = ""


_LEFT_OUT = "left out"
_READ = "training stops when it checks the files"
_CLASSES = "give a correct classes.json"

KINDS: dict[str, Kind] = {
    # the folder
    "no-images": Kind("error", "No labeled images", "there is nothing to train on", "give the folder of the data set"),
    "unknown-layout": Kind(
        "error",
        "Layout not recognized",
        "training does not find images and masks",
        "see docs/formats.md for the layouts that are read, or give --format",
        "written as images/SPLIT and annotations/SPLIT where the pairs are clear",
    ),
    "split-missing": Kind(
        "error",
        "A split is missing",
        "training needs images to train on and others to evaluate on",
        "add the folder, or give the names of the splits",
        "all pairs are split by a hash of their names",
    ),
    "refused": Kind("error", "Training refuses the folder", "training stops before it reads a file",
    "see what it says"),
    # files
    "empty-file": Kind("error", "Empty files (0 bytes)", _READ, "copy them again or remove the pair", _LEFT_OUT),
    "corrupt-file": Kind(
        "error", "Damaged or truncated files", _READ, "copy them again or remove the pair", _LEFT_OUT
    ),
    "unknown-file": Kind(
        "error", "Files that are no images of a known format", _READ, "convert them to PNG or JPEG", _LEFT_OUT
    ),
    "unreadable-file": Kind("error", "Files that cannot be opened", _READ, "correct the permissions", _LEFT_OUT),
    "special-file": Kind(
        "error", "Pipes, folders or devices with the name of an image", _READ, "remove them", _LEFT_OUT
    ),
    "dangling-link": Kind("error", "Links to nothing", _READ, "copy what they led to, or remove them", _LEFT_OUT),
    "link-loop": Kind(
        "warning", "Links to folders that lead in a circle", "what is behind them is read once only", "remove them",
        _LEFT_OUT
    ),
    "link-outside": Kind(
        "note", "Links that lead out of the folder", "a copy of the folder lacks their files", "copy the files",
        "copied"
    ),
    "too-large": Kind(
        "error", "Images of too many pixels", _READ, "cut them into tiles, or set SEMASK_MAX_PIXELS", _LEFT_OUT
    ),
    "system-file": Kind("note", "Files of operating systems", "none: they are not read", "remove them", _LEFT_OUT),
    "hidden-file": Kind(
        "warning", "Hidden images", "names that begin with a dot are not read", "rename or remove them", _LEFT_OUT
    ),
    "unread-file": Kind(
        "warning", "Images in formats that are not read", "they are not trained on", "convert them to PNG or JPEG",
        _LEFT_OUT
    ),
    "other-file": Kind("note", "Other files among the images", "none: they are not read", "nothing", _LEFT_OUT),
    "odd-name": Kind(
        "warning",
        "Names with control characters or wrong encoding",
        "lists of files and other programs may not keep them",
        "rename them",
        "renamed",
    ),
    # pairs
    "image-without-mask": Kind(
        "error", "Images without mask", "training refuses unpaired files", "add the mask or remove the image", _LEFT_OUT
    ),
    "mask-without-image": Kind(
        "error", "Masks without image", "training refuses unpaired files", "add the image or remove the mask", _LEFT_OUT
    ),
    "mask-ending": Kind(
        "error",
        "Masks in formats that are not read",
        "training does not take them for masks",
        "save masks as PNG",
        "converted where they are images; arrays and others are left out",
    ),
    "same-stem": Kind(
        "error", "Two files with the same stem", "it is not clear which one is meant", "keep one of them",
        "the first is kept"
    ),
    "pair-case": Kind(
        "error",
        "Image and mask whose names differ in upper and lower case",
        "they are not taken for a pair",
        "give both the same name",
        "renamed",
    ),
    "pair-unicode": Kind(
        "error",
        "Image and mask whose names are written in different Unicode forms",
        "the names look the same, but are not taken for a pair",
        "give both the same name; a Mac often writes the other form",
        "renamed",
    ),
    "case-clash": Kind(
        "warning",
        "Names that differ only in upper and lower case",
        "on Windows and Macs one file replaces the other",
        "rename one of them",
        "one is renamed",
    ),
    "unicode-clash": Kind(
        "warning",
        "Names that differ only in their Unicode form",
        "on Macs one file replaces the other",
        "rename one of them",
        "one is renamed",
    ),
    "swapped": Kind(
        "error",
        "Images and masks are swapped",
        "training would learn photos from masks",
        "exchange the two folders",
        "exchanged",
    ),
    # sizes
    "size-differs": Kind("error", "Image and mask of different sizes", _READ, "find the mask of this image", _LEFT_OUT),
    "turned": Kind(
        "note",
        "Photos with an EXIF turn, whose mask has the stored size",
        "none: the stored rows are read, as the mask has them",
        "nothing",
        "the turn is taken out of the photo",
    ),
    "turn-unclear": Kind(
        "warning",
        "Photos with an EXIF turn that sizes cannot tell (180 degrees, mirrored, or square)",
        "the photo is turned, its mask is not: the label may be upside down",
        "look at the pictures; save photo and mask without an orientation",
        "the photo is turned as its EXIF says, or as stored if the mask has the same tag; look at the result",
    ),
    "mask-turned": Kind(
        "warning",
        "Masks with an EXIF turn",
        "the turn of a mask is not applied, that of its photo is",
        "save the masks without an orientation",
        "the turn of both is taken out",
    ),
    "sizes-vary": Kind(
        "warning",
        "Images of wildly different sizes",
        "one crop and scale does not suit objects of all of them",
        "scale them to similar sizes, or set augmentation.scale",
    ),
    "small-image": Kind(
        "warning",
        "Images smaller than 32 pixels",
        "the last stage of an encoder sees them as one point",
        "use larger images",
    ),
    # images
    "cmyk": Kind(
        "warning", "CMYK images", "their colors are only approximately those on paper", "convert them to RGB",
        "converted"
    ),
    "animated": Kind(
        "warning", "Animations or files of several pages", "only the first frame is read", "save single frames",
        "first frame"
    ),
    "dark": Kind(
        "warning",
        "Images of 16 bits that use a small part of their range",
        "they are nearly black as the model sees them, unless their range is measured",
        "train with data.measure: range, as semask train FOLDER does, or stretch them to the full range",
        "stretched to 8 bits, all by the same factor",
    ),
    "deep": Kind("note", "Images of 16 bits", "the upper 8 bits are used", "nothing", "converted to 8 bits"),
    "float-image": Kind(
        "error", "Images of 32 bits or floats", "their range is not known", "convert them to 8 or 16 bits", _LEFT_OUT
    ),
    "transparent": Kind(
        "warning",
        "Images with transparent parts",
        "transparency is dropped, and whatever color lies below it is trained on",
        "lay them over a background, or read 4 channels",
        "laid over black",
    ),
    "blank-image": Kind(
        "warning", "Images of a single color", "they teach nothing", "remove the pair if this is not meant", ""
    ),
    "duplicate-image": Kind(
        "warning", "The same image several times in a split", "it counts several times", "keep one", "the first is kept"
    ),
    "labels-disagree": Kind(
        "warning",
        "The same image with different masks",
        "training is told two answers for one image",
        "keep the right one",
        "the first is kept",
    ),
    "shared-image": Kind(
        "warning",
        "The same image in training and validation",
        "scores are too good",
        "keep it in one of them",
        "left out of training",
    ),
    "near-image": Kind(
        "warning",
        "Nearly the same images in training and validation",
        "scores are too good: they say little of new images",
        "put all images of a scene in one split",
        "left out of training",
    ),
    "similar-images": Kind(
        "note", "Nearly the same images in a split", "they add little", "nothing, or keep every n-th frame"
    ),
    # masks
    "jpeg-mask": Kind(
        "error",
        "Masks in JPEG or WebP",
        "compression changes label values, so training refuses them",
        "save masks as PNG at the source",
        "each pixel gets the nearest class; changed pixels are counted",
    ),
    "smoothed-mask": Kind(
        "error",
        "Masks with smoothed edges",
        "values between those of classes are no classes, or wrong ones",
        "save masks without smoothing (nearest neighbor), or give data.classes and data.tolerance",
        "each pixel gets the nearest class; changed pixels are counted",
    ),
    "photo-mask": Kind("error", "Masks that are photos", "they hold no classes", "find the mask", _LEFT_OUT),
    "float-mask": Kind(
        "error", "Masks of floating-point numbers", "they are no class indices", "save whole numbers",
        "rounded if whole"
    ),
    "zero-255": Kind(
        "error",
        "Masks of 0 and 255 only",
        "255 is ignored unless it is said to be the object",
        "set data.object_255, or list 255 in data.classes",
        "255 becomes class 1",
    ),
    "off-by-one": Kind(
        "error",
        "Class numbers that begin at 1",
        "every class is taken for the next one, and the last is unknown",
        "subtract 1, or put background first in the list of classes",
        "1 is subtracted",
    ),
    "zero-unused": Kind(
        "warning",
        "Class 0 never occurs",
        "if the masks count from 1, every class is taken for the next one",
        "subtract 1, or put background first in the list of classes",
    ),
    "unknown-value": Kind(
        "error", "Values in masks that are no class", _READ, "correct the mask or the list of classes", "ignored (255)"
    ),
    "unknown-color": Kind(
        "error", "Colors in masks that are no class", _READ, "correct the mask or the palette", "ignored (255)"
    ),
    "rgb-without-palette": Kind(
        "error",
        "Masks of colors without a palette",
        "it is not known which color is which class",
        'add "palette" to classes.json, or list colors in data.classes',
        "each color becomes a class, if there are few",
    ),
    "mixed-masks": Kind(
        "warning",
        "Some masks hold colors, others numbers",
        "if the order of the palette is not that of the numbers, classes are mixed up",
        "save all in the same way",
        "all become numbers",
    ),
    "palette-differs": Kind(
        "warning",
        "Masks with different palettes",
        "numbers are read, not colors: the same color may be another class in another file",
        "save all with one palette",
        "one palette for all; the numbers stay",
    ),
    "mask-alpha": Kind("note", "Masks with an alpha channel", "it is dropped", "nothing", "dropped"),
    "ignored-mask": Kind(
        "error", "Masks in which every pixel is ignored", _READ, "remove the pair, or set data.allow_empty_masks",
        _LEFT_OUT
    ),
    "mostly-ignored": Kind(
        "warning", "More than 90 % of all pixels are ignored", "little is learned", "check the value that is ignored"
    ),
    "constant-mask": Kind("note", "Masks of a single class", "none, if it is meant", "nothing"),
    "only-one-class": Kind(
        "warning", "All training masks are of the same single class", "nothing can be learned", "check the masks"
    ),
    "repeated-mask": Kind(
        "warning", "One mask for different images", "all but one of them are probably wrong", "find the right masks"
    ),
    # classes
    "classes-missing": Kind(
        "error", "No list of classes", "the masks do not show which classes there are", f"{_CLASSES}, or data.classes",
        "written from the masks",
    ),
    "classes-unnamed": Kind(
        "note", "No file names the classes", "they are called after the values of the masks",
        "name them in classes.json, or in data.classes of the recipe that semask train FOLDER writes",
    ),
    "classes-encoding": Kind(
        "error", "classes.json in another encoding", "it can't be read", "save it as UTF-8", "written as UTF-8"
    ),
    "classes-unreadable": Kind("error", "classes.json is not readable", "it can't be read", _CLASSES, "written anew"),
    "classes-wrong": Kind("error", "classes.json is wrong", "it is refused", _CLASSES, "corrected where it is clear"),
    "class-twice": Kind("error", "A class name is given twice", "it is refused", "rename one",
    "the second is numbered"),
    "class-alike": Kind(
        "warning", "Class names that differ only in case or spaces", "one class may be two",
        "give one name, or merge them"
    ),
    "color-twice": Kind(
        "warning", "Two classes share a color", "masks of colors can't be read, pictures do not tell them apart",
        "give each its own", "new colors for the second",
    ),
    "single-class": Kind(
        "error", "A single class", "there is nothing to tell apart", 'name two, e.g. "background" and the object',
        '"background" is put first where the masks hold 0 and 1 or 255',
    ),
    "too-many-classes": Kind("error", "More than 255 classes", "labels have 8 bits", "merge some with data.classes"),
    "class-never": Kind(
        "warning", "Classes that never occur", "they can't be learned", "remove them from the list, or add images"
    ),
    "class-only-train": Kind(
        "warning",
        "Classes that occur in training only",
        "no score says how well they are learned",
        "move some of their images to validation",
    ),
    "class-only-val": Kind(
        "warning", "Classes that occur in validation only", "they can't be learned",
        "move some of their images to training"
    ),
    "ignored-class": Kind(
        "warning", "The ignored value is the number of a class", "the class is never learned",
        "give another ignore_index"
    ),
    "rare-class": Kind(
        "warning",
        "Rare classes (below 0.1 % of the pixels)",
        "they are learned late or never",
        "weight them, sample them more often, or merge them",
    ),
    "tiny-objects": Kind(
        "warning",
        "Classes whose objects are thinner than 4 pixels",
        "a model predicts at a quarter of the size, where they vanish",
        "use larger images (augmentation.scale), or merge the class",
    ),
}  # fmt: skip
"""Name -> kind."""

ORDER: tuple[Severity, ...] = ("error", "warning", "note")


def markdown() -> str:
    """The table of docs/doctor.md."""
    lines = ["| name | | found | what it does to training | what to do | `--fix` |", "|---|---|---|---|---|---|"]
    for severity in ORDER:
        lines += [
            f"| `{name}` | {kind.severity} | {kind.title} | {kind.effect} | {kind.advice} | {kind.fixed or 'cannot'} |"
            for name, kind in KINDS.items()
            if kind.severity == severity
        ]
    return "\n".join(lines) + "\n"
