"""Image sets as tensors (N, 3, 32, 32), standardised by the training set's moments.

digits    scikit-learn's 1,797 handwritten digits, real images that need no download
cifar10   from the folder SYMLAB_DATA, in the Parquet form of the Hugging Face release
          (cifar10/{train,test}.parquet) or torchvision's (cifar-10-batches-py); with
          SYMLAB_DOWNLOAD=1 torchvision downloads it into that folder
"""

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch


@dataclass(frozen=True)
class Images:
    """Standardised colour images with their classes, for training and testing.

    x, y: the training images, float32 (N, 3, 32, 32), and their classes, int64 (N,).
    x_test, y_test: the same for testing.
    """

    x: torch.Tensor
    y: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


def load(name: str) -> Images:
    """Return a data set by name, 'digits' or 'cifar10'.

    Raises ValueError for another name, and FileNotFoundError if the data set is not on
    this machine; its message says where to put it.
    """
    if name not in ("digits", "cifar10"):
        raise ValueError(f"unknown data {name!r}: use 'digits' or 'cifar10'")
    return digits() if name == "digits" else cifar10()


def digits(n_train: int = 1400) -> Images:
    """Return scikit-learn's 8x8 digits, enlarged bilinearly to 32x32, in a fixed split.

    n_train: how many of the 1,797 images are for training. The remaining ones, at the
        end of the data set, are for testing.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.Generator(np.random.Philox(0)).permutation(len(labels))
    x = torch.from_numpy(pixels[order].astype(np.float32)).view(-1, 1, 8, 8) / 16
    x = torch.nn.functional.interpolate(
        x, size=32, mode="bilinear", align_corners=False
    )
    y = torch.from_numpy(labels[order]).long()
    x = x.expand(-1, 3, -1, -1)
    return _standardised(
        x[:n_train], y[:n_train], x[n_train:], y[n_train:], (0, 1, 2, 3)
    )


def cifar10() -> Images:
    """Return CIFAR-10, standardised: 50,000 training and 10,000 test images."""
    folder = Path(os.environ.get("SYMLAB_DATA") or "data")
    if (folder / "cifar10" / "train.parquet").is_file():
        parts = [
            _parquet(folder / "cifar10" / f"{s}.parquet") for s in ("train", "test")
        ]
    else:
        parts = [_torchvision(folder, train) for train in (True, False)]
    (x, y), (x_test, y_test) = parts
    return _standardised(x, y, x_test, y_test, (0, 2, 3))


def _parquet(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    import pyarrow.parquet as pq
    from PIL import Image

    table = pq.read_table(path)
    encoded = table["img"].combine_chunks().field("bytes").to_pylist()
    pixels = np.stack(
        [np.asarray(Image.open(io.BytesIO(b)).convert("RGB")) for b in encoded]
    )  # (N, 32, 32, 3)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return x, torch.tensor(table["label"].to_pylist())


def _torchvision(folder: Path, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
    from symlab.models.vision import torchvision

    download = os.environ.get("SYMLAB_DOWNLOAD") == "1"
    try:
        data = torchvision().datasets.CIFAR10(str(folder), train, download=download)
    except RuntimeError:
        raise FileNotFoundError(
            f"no CIFAR-10 under {folder}: set SYMLAB_DATA to a folder with "
            "cifar10/train.parquet or cifar-10-batches-py, or SYMLAB_DOWNLOAD=1"
        ) from None
    x = torch.from_numpy(data.data).permute(0, 3, 1, 2).float() / 255
    return x, torch.tensor(data.targets)


def augmented(x: torch.Tensor, draws: np.random.Generator) -> torch.Tensor:
    """Return images (N, 3, H, W), each shifted by -4 to 4 pixels along both axes, with
    reflected borders, and mirrored or not at random.
    """
    n, _, height, width = x.shape
    shift, flip = draws.integers(0, 9, size=(2, n)), draws.random(n) < 0.5
    padded = torch.nn.functional.pad(x, (4, 4, 4, 4), mode="reflect")
    rows = torch.from_numpy(shift[0][:, None] + np.arange(height)).to(x.device)
    columns = shift[1][:, None] + np.arange(width)
    columns = np.where(flip[:, None], columns[:, ::-1], columns)
    columns = torch.from_numpy(columns.copy()).to(x.device)
    index = torch.arange(n, device=x.device)[:, None, None]
    # (N, H, W, C) from advanced indexing: already the bytes of channels_last
    return padded.permute(0, 2, 3, 1)[
        index, rows[:, :, None], columns[:, None, :]
    ].permute(0, 3, 1, 2)


def _standardised(x, y, x_test, y_test, axes: tuple[int, ...]) -> Images:
    mean, std = x.mean(axes, keepdim=True), x.std(axes, keepdim=True)
    return Images(
        ((x - mean) / std).contiguous(), y, ((x_test - mean) / std).contiguous(), y_test
    )
