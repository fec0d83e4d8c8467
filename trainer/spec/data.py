"""The datasets a trial may train on, and what of an image a training step sees."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from trainer.spec.base import ClassNames, Count, FolderName, Part, Seed, Size


class Shrunk(Part):
    """What every dataset says of bringing files to the trained size.

    `image_filter`: "bilinear" is PIL's, which widens its triangle when it shrinks (ClassMix's imresize); "box" takes
    the mean of the pixels below each new one (French et al.'s 2x2 mean). `label_filter`: "nearest" takes the pixel
    below the centre (ClassMix), "majority" the most frequent class below each new pixel (French et al.).
    """

    image_filter: Literal["bilinear", "box"] = "bilinear"
    label_filter: Literal["nearest", "majority"] = "nearest"


class Cityscapes(Shrunk):
    """Cityscapes in its own layout below `<data>/cityscapes`, 19 classes, resized (paper section 4)."""

    kind: Literal["cityscapes"] = "cityscapes"
    height: Size = 512
    width: Size = 1024
    train_split: FolderName = "train"
    eval_split: FolderName = "val"


class CamVid(Shrunk):
    """CamVid in the SegNet layout below `<data>/camvid`, 11 classes; reported on the test frames."""

    kind: Literal["camvid"] = "camvid"
    height: Size = 360
    width: Size = 480
    train_split: FolderName = "train"
    eval_split: FolderName = "test"


class Synthetic(Shrunk):
    """Street scenes drawn by us and written to disk in the Cityscapes layout: a demonstration, never a benchmark."""

    kind: Literal["synthetic"] = "synthetic"
    height: Size = 64
    width: Size = 128
    scene_height: Size = 128
    scene_width: Size = 256
    num_train: Count = 240
    num_eval: Count = 60
    scene_seed: Seed = 0
    train_split: Literal["train"] = "train"
    eval_split: Literal["val"] = "val"


class Folders(Shrunk):
    """Any dataset given by folders of images and label maps, below `<data>`.

    A split is a folder of images below `images` and a folder of the same name below `labels`; a label has the stem of
    its image plus `label_suffix`. Images without a label file are unlabelled. `label_ids` maps a stored value to a
    class index; without it a stored value is the class index.
    """

    kind: Literal["folders"] = "folders"
    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    images: FolderName
    labels: FolderName
    class_names: ClassNames = Field(min_length=2, max_length=254)
    height: Size
    width: Size
    ignore_value: int = Field(default=255, ge=0, le=255)
    label_suffix: FolderName = ".png"
    label_ids: dict[int, int] | None = None
    train_split: FolderName = "train"
    eval_split: FolderName = "val"


Dataset = Annotated[Cityscapes | CamVid | Synthetic | Folders, Field(discriminator="kind")]


class View(Part):
    """What of an image a training step sees; the whole image unless a crop is asked for (paper section 4: no crop).

    `resize_height` and `resize_width` are ranges, both ends included, from which a height and, independently of it, a
    width are drawn before the crop is cut (DST-CBC, whose author later called the independence a mistake).
    """

    crop_height: Size | None = None
    crop_width: Size | None = None
    flip: bool = False
    resize_height: tuple[Size, Size] | None = None
    resize_width: tuple[Size, Size] | None = None

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if (self.crop_height is None) != (self.crop_width is None):
            raise ValueError("give both view.crop_height and view.crop_width, or neither")
        if (self.resize_height is None) != (self.resize_width is None):
            raise ValueError("give both view.resize_height and view.resize_width, or neither")
        pairs = ((self.resize_height, self.crop_height), (self.resize_width, self.crop_width))
        for drawn, crop in pairs:
            if drawn is not None and (crop is None or not crop <= drawn[0] <= drawn[1]):
                raise ValueError(f"a size drawn from {drawn} needs a crop of at most its smaller end, not {crop}")
        return self


class Normalization(Part):
    """What a network's first layer is given: (image x scale - mean) / std, in an order of channels.

    Without one (`normalization: null`) it is what the initial weights expect; the published codes deviate.
    """

    channel_order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # in the order of the channels as given
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.229, 0.224, 0.225)
    scale: PositiveFloat = 1.0
