"""Images: small, clean, named by content, and never from outside the issue's folder."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from newsletter.drafting import Issue
from newsletter.errors import BadInput
from newsletter.rendering import Rendered, compile_issue, compose, eml_bytes, neutral_recipient
from newsletter.workspace import Workspace

IMAGE = '::: image {src=a.jpg alt="A towel"}\n:::'
Render = Callable[..., Rendered]


def page(rendered: Rendered) -> str:
    return rendered.compiled.variants[""].render(neutral_recipient()).html


def widths(rendered: Rendered) -> list[int]:
    return sorted(Image.open(io.BytesIO(file.content)).width for file in rendered.media)


def test_an_image_is_scaled_for_once_and_twice(
    render: Render, make_image: Callable[..., None]
) -> None:
    make_image("a.jpg", (2400, 1200))
    rendered = render(IMAGE)
    assert widths(rendered) == [520, 1040]
    image = re.search(r"<img[^>]*towel[^>]*>", page(rendered))
    assert image is not None
    names = {file.asset.sha256: file for file in rendered.media}
    for sha256, file in names.items():
        assert hashlib.sha256(file.content).hexdigest() == sha256
        assert f"http://127.0.0.1:8000/media/{sha256}.{file.asset.extension}" in image[0]
    assert 'width="520"' in image[0]
    assert "2x" in image[0]


def test_a_small_image_is_not_made_larger(render: Render, make_image: Callable[..., None]) -> None:
    make_image("a.jpg", (200, 100))
    rendered = render(IMAGE)
    assert widths(rendered) == [200]
    assert 'width="200"' in page(rendered)


def test_exif_is_gone_and_the_orientation_applied(
    render: Render, make_image: Callable[..., None]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    exif[0x010F] = "Secret camera"
    make_image("a.jpg", (400, 200), exif=exif)
    rendered = render(IMAGE)
    (file,) = rendered.media
    stored = Image.open(io.BytesIO(file.content))
    assert stored.size == (200, 400)
    assert 'width="200"' in page(rendered), "its width is that of the upright image"
    assert not dict(stored.getexif())
    assert b"Secret" not in file.content


def test_an_animation_stays_one(workspace: Workspace, render: Render) -> None:
    (workspace.issues / "one").mkdir()
    frames = [Image.new("RGB", (300, 100), colour) for colour in ("red", "green", "blue")]
    frames[0].save(
        workspace.issues / "one" / "a.gif", save_all=True, append_images=frames[1:], duration=80
    )
    (file,) = render('::: image {src=a.gif alt="A"}\n:::').media
    assert Image.open(io.BytesIO(file.content)).n_frames == 3
    assert file.asset.content_type == "image/gif"


def test_webp_becomes_what_mail_programs_show(
    render: Render, make_image: Callable[..., None]
) -> None:
    make_image("a.webp", (300, 100))
    (file,) = render('::: image {src=a.webp alt="A"}\n:::').media
    assert Image.open(io.BytesIO(file.content)).format == "JPEG"


def test_transparency_is_kept(workspace: Workspace, render: Render) -> None:
    (workspace.issues / "one").mkdir()
    Image.new("RGBA", (300, 100), (255, 0, 0, 40)).save(workspace.issues / "one" / "a.png")
    (file,) = render('::: image {src=a.png alt="A"}\n:::').media
    assert Image.open(io.BytesIO(file.content)).convert("RGBA").getpixel((5, 5)) == (255, 0, 0, 40)


def test_images_in_text_and_features_are_handled_alike(
    render: Render, make_image: Callable[..., None]
) -> None:
    make_image("a.jpg", (2400, 1200))
    rendered = render('Text ![In text](a.jpg)\n\n::: feature {src=a.jpg alt="Hero"}\nBig\n:::')
    assert widths(rendered) == [520, 600, 1040, 1200]
    content = rendered.compiled.variants[""].render(neutral_recipient())
    assert "[In text]" in content.text
    assert "[Hero]" in content.text
    assert 'alt="In text"' in content.html


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.jpg", "no such image"),
        ("../../newsletter.toml", "outside the issue's folder"),
        ("/etc/passwd", "outside the issue's folder"),
        ("link.jpg", "outside the issue's folder"),
        ("big.jpg", "6.0 MB"),
        ("no.jpg", "no image that can be read"),
        ("half.jpg", "no image that can be read"),
        ("bomb.png", "million pixels"),
        ("a.svg", "no image that can be read"),
        ("issue.md\x00", "cannot be read"),
    ],
)
def test_a_bad_image_names_file_and_line(
    workspace: Workspace, render: Render, make_image: Callable[..., None], source: str, message: str
) -> None:
    make_image("whole.jpg")
    folder = workspace.issues / "one"
    (folder / "link.jpg").symlink_to(workspace.root / "newsletter.toml")
    (folder / "big.jpg").write_bytes(b"x" * 6_000_000)
    (folder / "no.jpg").write_bytes(b"GIF89a nothing")
    (folder / "half.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:3000])
    (folder / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    Image.new("1", (9000, 9000)).save(folder / "bomb.png")
    if "\x00" in source:
        source = "a%00.jpg"
        message = "no such image"
    with pytest.raises(BadInput, match=message) as caught:
        render(f'Text\n\n::: image {{src="{source}" alt="A"}}\n:::')
    assert str(caught.value.where) == "issues/one/issue.md:7"


def test_an_address_is_left_as_it_is(render: Render) -> None:
    rendered = render('::: image {src="https://cdn.example/a.png?b=1&c=2" alt="A"}\n:::')
    assert rendered.media == ()
    assert 'src="https://cdn.example/a.png?b=1&amp;c=2"' in page(rendered)


def test_images_can_go_with_the_message(
    make_workspace: Callable[..., Workspace],
    write_issue: Callable[..., Issue],
    make_image: Callable[..., None],
) -> None:
    make_image("a.jpg", (2400, 1200))
    workspace = make_workspace('[rendering]\nimages = "cid"\n')
    rendered = compile_issue(workspace, write_issue(IMAGE))
    media = {file.asset.sha256: file.content for file in rendered.media}
    message = compose(rendered.compiled, neutral_recipient(), media=media.__getitem__)
    (attachment,) = message.attachments
    assert f'src="cid:{attachment.cid}"' in message.html
    assert "cid:" not in rendered.compiled.web
    assert all(f"/media/{sha256}" in rendered.compiled.web for sha256 in media)
    mail = eml_bytes(message)
    assert mail == eml_bytes(message)
    assert f"Content-ID: <{attachment.cid}>".encode() in mail
    assert b"multipart/related" in mail


def test_a_logo_comes_from_the_workspace(
    make_workspace: Callable[..., Workspace], write_issue: Callable[..., Issue]
) -> None:
    issue = write_issue("Text")
    workspace = make_workspace('[theme]\nlogo = "logo.png"\n')
    Image.new("RGBA", (480, 96), (1, 2, 3, 255)).save(Path(workspace.root) / "logo.png")
    rendered = compile_issue(workspace, issue)
    assert widths(rendered) == [240, 480]
    assert 'alt="Glow Letter"' in page(rendered)
