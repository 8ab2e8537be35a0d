"""Addresses: what is kept as written, what is one person, what is refused and why."""

from __future__ import annotations

import pytest

from newsletter.audience import BadAddress, normalise_address


@pytest.mark.parametrize(
    ("written", "email"),
    [
        ("Ann.Lee@EXAMPLE.com", "Ann.Lee@example.com"),
        ("  ann@example.com\u200b\r\n", "ann@example.com"),
        ("\ufeffann@example.com", "ann@example.com"),
        ("ann@MÜNCHEN.de", "ann@münchen.de"),
        ("ann@xn--mnchen-3ya.de", "ann@münchen.de"),
        ("ａｎｎ＠ｅｘａｍｐｌｅ．ｃｏｍ", "ann@example.com"),
        ("Zoë@example.com", "Zoë@example.com"),
        ("o'brien+news@example.co.uk", "o'brien+news@example.co.uk"),
        ("reader@list.test", "reader@list.test"),
    ],
)
def test_an_address_is_kept_as_it_is_written_to(written: str, email: str) -> None:
    assert normalise_address(written).email == email


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ann@Example.com", "ANN@EXAMPLE.COM"),
        ("ann@münchen.de", "ann@XN--MNCHEN-3YA.de"),
        ("ZOË@example.com", "zoë@example.com"),
        ("zoe\u0308@example.com", "zo\u00eb@example.com"),
        ("ｚoe@example.com", "zoe@example.com"),
    ],
)
def test_spellings_of_one_address_share_a_key(one: str, other: str) -> None:
    assert normalise_address(one).key == normalise_address(other).key


@pytest.mark.parametrize(
    ("one", "other"),
    [("ann.lee@example.com", "annlee@example.com"), ("a@straße.de", "a@strasse.de")],
)
def test_different_addresses_do_not(one: str, other: str) -> None:
    assert normalise_address(one).key != normalise_address(other).key


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", "no address"),
        ("   ", "no address"),
        ("ann", "must have an @-sign"),
        ("ann@example", "should have a period"),
        ("ann@@example.com", "@"),
        ("ann lee@example.com", "SPACE"),
        ("Ann <ann@example.com>", "display name"),
        ("ann@example.com, bob@example.com", "invalid characters"),
        ("ann@example..com", "two periods"),
        ("ann@ex_ample.com", "_"),
        ("ann@[127.0.0.1]", "bracketed IP"),
        ("ann@example.com\r\nBcc: eve@example.com", "invalid characters"),
        ("a" * 65 + "@example.com", "too long"),
        ("a@" + "b" * 600 + ".com", "at most 254"),
        ("ann@nowhere.invalid", "special-use"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(written: str, reason: str) -> None:
    with pytest.raises(BadAddress, match=".*".join(reason.split())):
        normalise_address(written)
