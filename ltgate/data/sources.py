"""Where images come from: ``digits`` (bundled), ``mnist`` (downloaded), ``idx:FOLDER`` (yours).

Further ones are streams of events: ``events:FOLDER`` and other formats of recordings, and tasks
drawn from a seed, each in a file of its own.

Every source has a pool for training and validation, and a pool for testing. Reading one never
opens a file of the other; only the bundled digits come in one file and are divided in code. A new
source is one class and one entry in ``SOURCES``.
"""

import hashlib
import os
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import field_validator, model_validator

from ltgate import files, paths
from ltgate.data import idx
from ltgate.declare import FilePath, Group
from ltgate.done import content
from ltgate.errors import UserError, telling
from ltgate.registry import Registry

if TYPE_CHECKING:
    from ltgate.params import Params

SIDE = 28  # pixels of a side of MNIST's images, and of the digits brought to that

# Pool -> files of images and labels, as MNIST names them.
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
IDX_TESTS = ("t10k-*",)

# Of the uncompressed bytes: compressed copies of the same data differ between mirrors.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

# Tried in order: PyTorch's and TensorFlow's copies, then a public one on GitHub.
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
)

DIGITS_SHA256 = {
    "train": "52ee35b51c9e6effd8484b4569c8163d82e65fbec1e64795ad7b25c7417d5120",
    "test": "3e1c5762885e415dbb7a9725e93fd6abf05f96a1ab47ccec8c9d032b56969c29",
}


# name -> what makes the source; a name that ends in a colon is followed by a folder, which it gets.
SOURCES = Registry()


class SourceParameters(Group):
    """Images."""

    source: FilePath = "digits"
    """images: digits (offline), mnist, or idx:FOLDER; streams: warp, two_scales, delayed,
    events:FOLDER, shd:FOLDER, nmnist:FOLDER"""

    @field_validator("source")
    @classmethod
    def _known_source(cls, name: str) -> str:
        known(name)
        return name

    @model_validator(mode="after")
    def _known_classes(self) -> Self:
        for task in self.tasks:
            for label in task.classes:
                if label > 9 and self.source in ("digits", "mnist"):
                    raise ValueError(
                        f"tasks: class {label} of {task.name!r} is not in source "
                        f"{self.source!r}, which has 0 to 9"
                    )
        return self


class FolderParameters(Group, compute=True):
    """Where images lie."""

    data_folder: FilePath = ""
    """folder that already holds the MNIST files; empty = environment variable LTGATE_DATA, else
    download"""


class Source:
    """Labelled images or streams of one shape in two pools, ``train`` and ``test``.

    A source of streams also has a ``stream_shape`` (frames, channels, height, width), and reads
    :class:`ltgate.data.streams.Streams`.

    Attributes:
        test_files: What the paths of its files with test images match.
    """

    name: str
    test_files: ClassVar[tuple[str, ...]] = ()
    stream_shape: tuple[int, int, int, int]

    def given(self, params: "Params", seed: int) -> Self:
        """The source of these parameters and, if it is drawn, this seed."""
        return self

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width); cheap, reads no image."""
        return self.stream_shape[1:]

    def files(self, pool: str) -> list[Path]:
        """A pool's files on this disk; `UserError` where one is missing, none is opened."""
        return []

    def inputs(self, pool: str) -> list[Path]:
        """What a pool's content is known by: its files, or the folder in which there are many."""
        return self.files(pool)

    def identity(self, pool: str) -> str:
        """SHA-256 that changes when the pool's content does; cheap, reads no image."""
        raise NotImplementedError

    def read(self, pool: str) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels uint8 [N] of a pool, checked.

        Images are uint8 [N, channels, height, width], or [N, height, width] for one channel.

        Raises:
            UserError: A file is missing, damaged, or holds something else.
        """
        raise NotImplementedError


class Declared(Source):
    """A source of streams with parameters of its own, ``values``."""

    values: Group

    def given(self, params: "Params", seed: int) -> Self:
        kind = type(self.values)
        values = kind(**{name: getattr(params, name) for name in kind.model_fields})
        return replace(self, values=values)


@dataclass(frozen=True)
class Folder(Source):
    """A source whose files lie in a folder.

    Attributes:
        folder: The folder.
        values: Parameters that its content depends on.
        kind: Its name without the folder.
    """

    folder: Path
    values: Group | None = None
    kind: ClassVar[str]

    @property
    def name(self) -> str:
        """The kind and the folder."""
        return f"{self.kind}:{self.folder}"

    def identity(self, pool: str) -> str:
        found = (content(path).encode() for path in self.inputs(pool))
        return digest(repr(self.values).encode(), *found)


def of(params: "Params", seed: int = 0) -> Source:
    """The source of ``params``; one that is drawn is that of ``seed``."""
    return source(params.source).given(params, seed)


def source(name: str) -> Source:
    """The source called ``digits``, ``idx:FOLDER`` or as a file entered it in ``SOURCES``.

    Relative folders start at the project's root, so that notebooks find them from anywhere.

    Raises:
        UserError: The name is unknown.
    """
    kind, folder = known(name)
    return SOURCES[kind](paths.own(folder)) if folder else SOURCES[kind]()


def own_files(params: "Params", *pools: str) -> dict[str, str]:
    """The user's own files, or folders, of these pools: path -> fingerprint of their content.

    None of a source whose content is fixed, or follows from parameters and code.
    """
    if ":" not in params.source:
        return {}
    found = source(params.source)
    return {str(path): content(path) for pool in pools for path in found.inputs(pool)}


def known(name: str) -> tuple[str, str]:
    """Name in ``SOURCES`` and folder; `UserError` where it is none, or lacks its folder."""
    kind, colon, folder = name.partition(":")
    if kind + colon not in SOURCES or bool(folder) != bool(colon):
        names = (f"{entry}FOLDER" if entry.endswith(":") else entry for entry in SOURCES)
        raise UserError(f"{name!r} is no source; allowed are {', '.join(names)}")
    return kind + colon, folder


@SOURCES.add("digits")
@dataclass(frozen=True)
class Digits(Source):
    """scikit-learn's bundled 8x8 handwritten digits (1797 images), brought to 28x28.

    Bilinear interpolation to 20x20 (MNIST's box) and a black border of 4 pixels, in whole numbers,
    so that every machine and library version gives the same bytes. Every fifth image of each class
    is the test pool.

    Source: Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI repository.
    """

    name: str = "digits"
    image_shape: tuple[int, int, int] = (1, SIDE, SIDE)

    def identity(self, pool: str) -> str:
        return DIGITS_SHA256[pool]

    def read(self, pool: str) -> tuple[np.ndarray, np.ndarray]:
        import sklearn
        from sklearn.datasets import load_digits

        bundle = load_digits()
        fifth = np.zeros(len(bundle.target), bool)
        for label in range(10):
            fifth[np.flatnonzero(bundle.target == label)[4::5]] = True
        chosen = fifth == (pool == "test")
        images = enlarge(bundle.images[chosen].astype(np.int64))
        labels = bundle.target[chosen].astype(np.uint8)
        if digest(images, labels) != DIGITS_SHA256[pool]:
            raise UserError(
                f"source='digits': scikit-learn {sklearn.__version__} bundles other images; "
                "allowed are those of 1.7.2 to 1.9.1"
            )
        return images, labels


def enlarge(images: np.ndarray) -> np.ndarray:
    """Bring 8x8 images of 0..16 to 28x28 of 0..255; int64 [N, 8, 8] -> uint8 [N, 28, 28].

    Bilinear interpolation with aligned pixel centres and black outside, to 20x20; all weights are
    multiples of 1/40, so the sums are exact. Halves round up.
    """
    small, large = 8, 20
    one = 2 * large
    weights = np.zeros((large, small + 2), np.int64)  # one black pixel beyond each edge
    for i in range(large):
        left, rest = divmod((2 * i + 1) * small - large, one)  # pixel i's centre, in 1/one
        weights[i, left + 1 : left + 3] = one - rest, rest
    weights = weights[:, 1:-1]
    white = 16 * one**2
    sums = weights @ images @ weights.T
    border = (SIDE - large) // 2
    scaled = (sums * 255 + white // 2) // white
    return np.pad(scaled, ((0, 0), (border, border), (border, border))).astype(np.uint8)


@SOURCES.add("mnist")
@dataclass(frozen=True)
class Mnist(Source):
    """MNIST: 60,000 images for training and validation, 10,000 for testing.

    All files are checked by the SHA-256 of their uncompressed bytes. They lie, raw or ``.gz``, in
    the folder of the parameter ``data_folder``, else of the environment variable ``LTGATE_DATA``;
    else they are downloaded into ``data/mnist``.

    Attributes:
        folder: Where the files lie; None: they are downloaded.
        named: What names the folder, for messages.

    Source: LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document
    recognition".
    """

    test_files = IDX_TESTS
    folder: Path | None = None
    named: str = "mnist"
    name: str = "mnist"
    image_shape: tuple[int, int, int] = (1, SIDE, SIDE)

    def given(self, params: "Params", seed: int) -> Self:
        places = {"data_folder": params.data_folder, "LTGATE_DATA": os.environ.get("LTGATE_DATA")}
        for named, folder in places.items():
            if folder:
                return replace(self, folder=paths.own(folder), named=named)
        return self

    def identity(self, pool: str) -> str:
        return digest(*(MNIST_SHA256[name].encode() for name in FILES[pool]))

    def read(self, pool: str) -> tuple[np.ndarray, np.ndarray]:
        with telling(self.named):
            images, labels = map(self._file, FILES[pool])
        return images, labels

    def files(self, pool: str) -> list[Path]:
        with telling(self.named):
            return [_idx(self.folder / name) for name in FILES[pool] if self.folder]

    def _file(self, name: str) -> np.ndarray:
        if self.folder:
            return _checked(_idx(self.folder / name), name)
        path = paths.data() / "mnist" / f"{name}.gz"
        with files.lock(path.with_suffix(".lock")):
            if path.exists():
                try:
                    return _checked(path, name)
                except UserError as error:
                    warnings.warn(f"{error}; downloading it again", stacklevel=2)
            return _download(name, path)


@SOURCES.add("idx:")
@dataclass(frozen=True)
class Idx(Folder):
    """Any images in IDX files with MNIST's four file names, raw or ``.gz``.

    Images are [N, height, width] or, with colours or other channels, [N, channels, height, width].
    """

    kind = "idx"
    test_files = IDX_TESTS

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """See `Source.image_shape`: of the training images."""
        images, labels = self.files("train")
        shape = idx.shape(images)
        idx.check(shape, shape[:1], images, labels)
        return (1, *shape[1:])[-3:]

    def read(self, pool: str) -> tuple[np.ndarray, np.ndarray]:
        found = self.files(pool)
        images, labels = (idx.read(path)[0] for path in found)
        idx.check(images.shape, labels.shape, *found)
        return images[:, 0] if images.shape[1:-2] == (1,) else images, labels

    def files(self, pool: str) -> list[Path]:
        return [_idx(self.folder / name) for name in FILES[pool]]


def find(path: Path) -> Path:
    """``path``; `UserError` where there is no such file."""
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    return path


def _idx(path: Path) -> Path:
    """An IDX file, raw or, with ``.gz`` after its name, compressed."""
    compressed = path.with_name(f"{path.name}.gz")
    return compressed if compressed.is_file() and not path.is_file() else find(path)


def _checked(path: Path, name: str) -> np.ndarray:
    """Read a file of MNIST and compare its hash."""
    data, found = idx.read(path)
    if found != MNIST_SHA256[name]:
        raise UserError(
            f"{path} is not MNIST's {name}: SHA-256 of its uncompressed bytes is {found}; "
            f"allowed is {MNIST_SHA256[name]}"
        )
    return data


def _download(name: str, path: Path) -> np.ndarray:
    """Download one file of MNIST from the first mirror that has it; only a sound file is kept."""
    import pooch
    import requests

    print(f"Downloading {path.name} to {path.parent}", file=sys.stderr)
    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=1 << 16, timeout=30)
    failures = []
    for mirror in MNIST_MIRRORS:
        try:
            with files.atomic(path) as temporary:
                download(mirror + path.name, str(temporary), None)
                return _checked(temporary, name)
        except requests.RequestException as error:
            failures.append(f"{mirror} ({type(error).__name__})")
        except UserError as error:
            failures.append(f"{mirror} ({str(error).replace(str(temporary), 'the file')})")
    raise UserError(
        f"{path.name} could not be downloaded from {', '.join(failures)}; "
        "name a folder that holds MNIST with data_folder or the environment variable LTGATE_DATA"
    )


def digest(*parts: bytes | np.ndarray) -> str:
    """SHA-256 of parts, one after the other."""
    return hashlib.sha256(b"".join(parts)).hexdigest()
