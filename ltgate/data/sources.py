"""Where images come from: ``digits`` (bundled), ``mnist`` (downloaded), ``idx:FOLDER`` (yours).

Further ones are streams of events: ``events:FOLDER`` and other formats of recordings, and tasks
drawn from a seed (:class:`Drawn`), each in a file of its own.

Every source has a pool for training and validation, and a pool for testing. Reading one never
opens a file of the other; only the bundled digits come in one file and are divided in code. A new
source is one class and one entry in ``SOURCES``.
"""

import contextlib
import functools
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from pydantic import field_validator, model_validator

from ltgate import files, paths
from ltgate.data import idx
from ltgate.declare import FilePath, Group
from ltgate.errors import UserError
from ltgate.registry import Registry

if TYPE_CHECKING:
    from ltgate.params import Params

SIDE = 28  # pixels of a side of MNIST's images, and of the digits brought to that

# Pool -> files of images and labels, as MNIST names them.
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

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


# name -> what makes the source from ``data_folder``, or a class of the kind Drawn; a name that ends
# in a colon takes what follows.
SOURCES = Registry()


class ControlParameters(Group, since="0.2"):
    """Control of streams."""

    shuffled_frames: bool = False
    """streams drawn from a seed keep each channel's number of events and lose their order"""


class SourceParameters(Group):
    """Images."""

    source: FilePath = "digits"
    """images: digits (offline), mnist, or idx:FOLDER; streams: warp, two_scales, delayed,
    events:FOLDER, shd:FOLDER, nmnist:FOLDER"""

    @field_validator("source")
    @classmethod
    def _known_source(cls, name: str) -> str:
        if not known(name):
            raise ValueError(f"allowed: {allowed()}")
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


class Source(Protocol):
    """A set of labelled images or streams of one shape in two pools, ``train`` and ``test``.

    A source of streams also has a ``stream_shape`` (frames, channels, height, width), and reads
    :class:`ltgate.data.streams.Streams`.
    """

    name: str

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width); cheap, reads no image."""
        ...

    def identity(self, pool: str) -> str:
        """SHA-256 that changes when the pool's content does; cheap, reads no image."""
        ...

    def read(self, pool: str) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels uint8 [N] of a pool, checked.

        Images are uint8 [N, channels, height, width], or [N, height, width] for one channel.

        Raises:
            UserError: A file is missing, damaged, or holds something else.
        """
        ...


class Declared:
    """A source of streams with parameters of its own.

    Attributes:
        values: The parameters, JSON; those that it lacks have their defaults.
        parameters: The group that declares them; their names begin alike.
    """

    values: str
    parameters: ClassVar[type[Group]]

    def given(self, params: "Params", seed: int) -> Self:
        """The source of these parameters and this seed."""
        fields = self.parameters.model_fields
        values = json.dumps({name: getattr(params, name) for name in fields}, sort_keys=True)
        return replace(self, values=values)

    def __getitem__(self, name: str) -> Any:
        fields = self.parameters.model_fields
        name = f"{next(iter(fields)).partition('_')[0]}_{name}"
        return json.loads(self.values).get(name, fields[name].get_default())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """See `Source.image_shape`."""
        return self.stream_shape[1:]


@dataclass(frozen=True)
class Drawn(Declared):
    """A source of streams that are drawn from parameters and a seed.

    Attributes:
        name: Its name.
        values: See :class:`Declared`.
        seed: Seeds the classes and the samples.
        shuffled: Whether each channel's frames come in random order.
    """

    name: str
    values: str = "{}"
    seed: int = 0
    shuffled: bool = False

    def given(self, params: "Params", seed: int) -> Self:
        """The source of these parameters and this seed."""
        found = replace(super().given(params, seed), seed=seed)
        return replace(found, shuffled=params.shuffled_frames)

    def in_order(self, frames: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Frames [N, F, channels] as they are, or the control: each channel's in random order."""
        return generator.permuted(frames, axis=1) if self.shuffled else frames

    def generator(self, part: str) -> np.random.Generator:
        """The source of the random numbers of one part of the draw, by its name."""
        return np.random.default_rng([self.seed, *part.encode()])

    def identity(self, pool: str) -> str:
        """See `Source.identity`: the same draw is the same content."""
        order = " shuffled" * self.shuffled
        return digest(f"{self.name} {self.values} {self.seed} {pool}{order}".encode())


def of(params: "Params", seed: int = 0) -> Source:
    """The source of ``params``; one that is drawn is that of ``seed``."""
    found = source(params.source, params.data_folder)
    return found.given(params, seed) if isinstance(found, Declared) else found


def source(name: str, data_folder: str = "") -> Source:
    """The source called ``digits``, ``mnist``, ``idx:FOLDER`` or as another file entered it.

    Args:
        name: The parameter ``source``.
        data_folder: For ``mnist``: folder that holds its files, raw or ``.gz``. Empty: the folder
            named by the environment variable ``LTGATE_DATA``, else they are downloaded into
            ``data/mnist``.

    Relative folders start at the project's root, so that notebooks find them from anywhere.

    Raises:
        UserError: The name is unknown.
    """
    if not known(name):
        raise UserError(f"source={name!r}; allowed are {allowed()}")
    kind, colon, argument = name.partition(":")
    maker = SOURCES[kind + colon]
    drawn = isinstance(maker, type) and issubclass(maker, Drawn)
    return maker() if drawn else maker(argument or data_folder)


def locate(name: str, data_folder: str = "") -> None:
    """Look for the files of a source that a folder is named for; `UserError` where one is missing.

    None is opened.
    """
    found = source(name, data_folder)
    if hasattr(found, "files"):
        for pool in FILES:
            found.files(pool)


def known(name: str) -> bool:
    """Whether ``name`` is a source; one that takes an argument needs it."""
    kind, colon, argument = name.partition(":")
    return kind + colon in SOURCES and bool(argument) == bool(colon)


def allowed() -> str:
    """The names of all sources."""
    return ", ".join(f"{name}FOLDER" if name.endswith(":") else name for name in SOURCES)


@dataclass(frozen=True)
class Digits:
    """scikit-learn's bundled 8x8 handwritten digits (1797 images), brought to 28x28.

    Bilinear interpolation to 20x20 (MNIST's box) and a black border of 4 pixels, in whole numbers,
    so that every machine and library version gives the same bytes. Every fifth image of each class
    is the test pool.

    Source: Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI repository.
    """

    name: str = "digits"
    image_shape: tuple[int, int, int] = (1, SIDE, SIDE)

    def identity(self, pool: str) -> str:
        """See `Source.identity`."""
        return DIGITS_SHA256[pool]

    def read(self, pool: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Source.read`."""
        import sklearn
        from sklearn.datasets import load_digits

        bundle = load_digits()
        labels = bundle.target.astype(np.uint8)
        rank = np.zeros(len(labels), int)  # position of an image within its class
        for label in range(10):
            members = labels == label
            rank[members] = np.arange(members.sum())
        chosen = (rank % 5 == 4) == (pool == "test")
        images, labels = enlarge(bundle.images[chosen].astype(np.int64)), labels[chosen]
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
        left, rest = divmod(
            (2 * i + 1) * small - large, one
        )  # centre of pixel i, in units of 1/one
        weights[i, left + 1 : left + 3] = one - rest, rest
    weights = weights[:, 1:-1]
    white = 16 * one**2
    sums = weights @ images @ weights.T
    border = (SIDE - large) // 2
    scaled = (sums * 255 + white // 2) // white
    return np.pad(scaled, ((0, 0), (border, border), (border, border))).astype(np.uint8)


@dataclass(frozen=True)
class Mnist:
    """MNIST: 60,000 images for training and validation, 10,000 for testing.

    All files are checked by the SHA-256 of their uncompressed bytes.

    Attributes:
        folder: Where the files lie; None: they are downloaded.
        named: What names the folder, for messages.

    Source: LeCun, Bottou, Bengio & Haffner 1998, "Gradient-based learning applied to document
    recognition".
    """

    folder: Path | None = None
    named: str = "data_folder"
    name: str = "mnist"
    image_shape: tuple[int, int, int] = (1, SIDE, SIDE)

    def identity(self, pool: str) -> str:
        """See `Source.identity`."""
        return digest(*(MNIST_SHA256[name].encode() for name in FILES[pool]))

    def read(self, pool: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Source.read`."""
        if self.folder is None:
            images, labels = map(_fetch_mnist, FILES[pool])
            return images, labels
        found = self.files(pool)
        with self._told():
            images, labels = map(_checked, found, FILES[pool])
        return images, labels

    def files(self, pool: str) -> list[Path]:
        """A pool's files in the folder; none where they are downloaded."""
        with self._told():
            return [_find(self.folder, name) for name in FILES[pool]] if self.folder else []

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Tell in an error what names the folder."""
        try:
            yield
        except UserError as error:
            raise UserError(f"{self.named}: {error}") from None


@dataclass(frozen=True)
class Idx:
    """Any images in IDX files with MNIST's four file names, raw or ``.gz``.

    Images are [N, height, width] or, with colours or other channels, [N, channels, height, width].
    """

    folder: Path

    @property
    def name(self) -> str:
        """``idx:`` and the absolute folder."""
        return f"idx:{self.folder}"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """See `Source.image_shape`: of the training images."""
        images, labels = (_find(self.folder, name) for name in FILES["train"])
        shape = idx.shape(images)
        idx.check(shape, shape[:1], images, labels)
        return (1, *shape[1:])[-3:]

    def identity(self, pool: str) -> str:
        """See `Source.identity`."""
        return digest(*(file_sha256(path).encode() for path in self.files(pool)))

    def read(self, pool: str) -> tuple[np.ndarray, np.ndarray]:
        """See `Source.read`."""
        image_path, label_path = self.files(pool)
        images, labels = idx.read(image_path)[0], idx.read(label_path)[0]
        idx.check(images.shape, labels.shape, image_path, label_path)
        if images.shape[1:-2] == (1,):  # one channel
            images = images[:, 0]
        return images, labels

    def files(self, pool: str) -> list[Path]:
        """A pool's files."""
        return [_find(self.folder, name) for name in FILES[pool]]


def folder(text: str) -> Path:
    """A folder named in a parameter; a relative one starts at the project's root."""
    return paths.own(text)


def _mnist(data_folder: str) -> Mnist:
    if data_folder:
        return Mnist(folder(data_folder))
    named = os.environ.get("LTGATE_DATA", "")
    return Mnist(folder(named), "LTGATE_DATA") if named else Mnist()


SOURCES.update(
    {"digits": lambda _: Digits(), "mnist": _mnist, "idx:": lambda text: Idx(folder(text))}
)


def _find(folder: Path, name: str) -> Path:
    """The file ``name`` in ``folder``, raw or compressed."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise UserError(f"{folder / name} does not exist, nor does {name}.gz beside it")


def _checked(path: Path, name: str) -> np.ndarray:
    """Read a file of MNIST and compare its hash."""
    data, found = idx.read(path)
    if found != MNIST_SHA256[name]:
        raise UserError(
            f"{path} is not MNIST's {name}: SHA-256 of its uncompressed bytes is {found}; "
            f"allowed is {MNIST_SHA256[name]}"
        )
    return data


def _fetch_mnist(name: str) -> np.ndarray:
    """A file of MNIST from ``data/mnist``, downloaded when it is not there or damaged."""
    path = paths.data() / "mnist" / f"{name}.gz"
    with files.lock(path.with_suffix(".lock")):
        if path.exists():
            try:
                return _checked(path, name)
            except UserError as error:
                warnings.warn(f"{error}; downloading it again", stacklevel=2)
        return _download(name, path)


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
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, computed once for each of its versions."""
    found = path.stat()
    return _file_sha256(path, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _file_sha256(path: Path, size: int, modified_ns: int) -> str:
    return files.sha256(path)
