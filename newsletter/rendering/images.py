"""Images of an issue: read from its folder, made small and clean, named by their content.

Each becomes one file for twice its shown width (and one for once, where that is smaller), without
EXIF, always the same bytes for the same input. It knows nothing of HTML.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image, ImageOps, UnidentifiedImageError

from newsletter.compiled import Asset
from newsletter.errors import BadInput, Where

MAX_BYTES = 5_000_000
MAX_PIXELS = 40_000_000

_FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
_TYPES = {"png": "image/png", "jpg": "image/jpeg", "gif": "image/gif"}


@dataclass(frozen=True, slots=True)
class MediaFile:
    """One file to be served under /media, or to be attached."""

    asset: Asset
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as HTML needs it: `width` and `height` in CSS pixels, 0 where they are unknown."""

    src: str
    srcset: str = ""
    width: int = 0
    height: int = 0


@dataclass
class Images:
    """The images of one issue. `embed`: they go with the message instead of by address."""

    folder: Path
    base: str
    embed: bool
    files: dict[str, MediaFile] = field(default_factory=dict)
    _done: dict[tuple[str, int], Picture] = field(default_factory=dict)

    def picture(self, source: str, width: int, where: Where) -> Picture:
        """The image `source` shown at most `width` CSS pixels wide.

        `source` is a file in the issue's folder, or an address, which is left as it is. Raises
        `BadInput` for what is no image, too big, outside the folder or not there.
        """
        if urlsplit(source).scheme in ("http", "https"):
            return Picture(source)
        key = (source, width)
        if key not in self._done:
            self._done[key] = self._make(source, width, where)
        return self._done[key]

    def _make(self, source: str, width: int, where: Where) -> Picture:
        image = _open(self._read(source, where), source, where)
        shown = min(width, image.width)
        large = self._keep(_encode(image, min(image.width, 2 * shown)))
        height = max(1, round(image.height * shown / image.width))
        if self.embed or image.width <= shown:
            return Picture(self._address(large), "", shown, height)
        small = self._keep(_encode(image, shown))
        srcset = f"{self._address(small)} 1x, {self._address(large)} 2x"
        return Picture(self._address(large), srcset, shown, height)

    def _read(self, source: str, where: Where) -> bytes:
        path = self.folder / source
        problem = ""
        try:
            resolved = path.resolve()
            if not resolved.is_relative_to(self.folder.resolve()):
                problem = f"the image {source!r} lies outside the issue's folder"
            elif not resolved.is_file():
                problem = f"no such image: {source!r}"
            elif (size := resolved.stat().st_size) > MAX_BYTES:
                problem = (
                    f"the image {source!r} has {size / 1e6:.1f} MB; {MAX_BYTES // 10**6} MB fit"
                )
            else:
                return resolved.read_bytes()
        except (OSError, ValueError, RuntimeError) as error:
            problem = f"the image {source!r} cannot be read: {error}"
        raise BadInput(problem, where=where, hint="Put the image beside issue.md, at most 5 MB.")

    def _keep(self, encoded: tuple[bytes, str]) -> Asset:
        content, extension = encoded
        sha256 = hashlib.sha256(content).hexdigest()
        cid = f"{sha256[:32]}@newsletter" if self.embed else ""
        asset = Asset(sha256, extension, _TYPES[extension], cid)
        self.files.setdefault(sha256, MediaFile(asset, content))
        return asset

    def _address(self, asset: Asset) -> str:
        if asset.cid:
            return f"cid:{asset.cid}"
        return f"{self.base}/media/{asset.sha256}.{asset.extension}"


@dataclass(frozen=True, slots=True)
class _Source:
    """A decoded image; `original` are its bytes where they can be kept as they are."""

    image: Image.Image
    format: str
    original: bytes

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def height(self) -> int:
        return self.image.height

    @property
    def animated(self) -> bool:
        return bool(getattr(self.image, "is_animated", False))


def _open(content: bytes, source: str, where: Where) -> _Source:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(content), formats=_FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.load()
            kind = str(image.format)
            if not getattr(image, "is_animated", False):  # upright first: its size is taken then
                image = ImageOps.exif_transpose(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(
            f"the image {source!r} has more than {MAX_PIXELS // 10**6} million pixels",
            where=where,
            hint="Scale it down: a newsletter shows at most 1,200 pixels in width.",
        ) from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise BadInput(
            f"{source!r} is no image that can be read", where=where,
            hint="Save it as PNG, JPEG, GIF or WebP.",
        ) from error  # fmt: skip
    return _Source(image, kind, content)


def _encode(source: _Source, width: int) -> tuple[bytes, str]:
    """The image at `width` pixels: PNG where it has transparency or few colours, else JPEG."""
    if source.animated and source.format == "GIF":
        return source.original, "gif"
    image = source.image
    # A profile of another colour model (print, grey) would be wrong for what is written here.
    icc = source.image.info.get("icc_profile") if image.mode in ("RGB", "RGBA") else None
    alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    as_png = alpha or source.format in ("PNG", "GIF")
    image = image.convert("RGBA" if alpha else "RGB")
    if image.width > width:
        height = max(1, round(image.height * width / image.width))
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    if as_png:
        image.save(out, "PNG", optimize=True, icc_profile=icc)
        if alpha or len(out.getvalue()) < 200_000:
            return out.getvalue(), "png"
        out = io.BytesIO()
    image.save(out, "JPEG", quality=84, optimize=True, progressive=True, icc_profile=icc)
    return out.getvalue(), "jpg"
