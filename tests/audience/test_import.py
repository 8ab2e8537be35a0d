"""CSV import: every row is in exactly one count, nobody is revived, broken files import nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from newsletter.audience import (
    erase,
    find,
    mark_bounced,
    mark_complained,
    segments,
    show,
    subscribe,
    suppress,
    unsubscribe,
)
from newsletter.audience.importing import CHUNK_ROWS, Imported, import_csv
from newsletter.errors import BadInput
from newsletter.store import Store
from newsletter.store.schema import subscribers
from newsletter.workspace import Workspace
from support.site import FakeClock

Import = Callable[..., Imported]


@pytest.fixture
def load(store: Store, workspace: Workspace, clock: FakeClock, tmp_path: Path) -> Import:
    """Import a file of this content (text is written as UTF-8)."""

    def run(content: str | bytes, **options: Any) -> Imported:
        path = tmp_path / "people.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        result = import_csv(store, workspace, clock, path, **options)
        counted = result.added + result.updated + result.unchanged + result.suppressed
        assert result.read == counted + len(result.rejected)
        return result

    return run


def person(store: Store, email: str) -> dict[str, Any]:
    with store.read() as connection:
        return show(connection, email)


def people(store: Store) -> int:
    with store.read() as connection:
        return connection.scalar(select(func.count()).select_from(subscribers)) or 0


def counts(result: Imported) -> tuple[int, int, int, int, int, int]:
    return (
        result.read,
        result.added,
        result.updated,
        result.unchanged,
        result.suppressed,
        len(result.rejected),
    )


def test_columns_become_what_they_are_named(load: Import, store: Store) -> None:
    load(
        " EMAIL , First_Name,last_name,Topics,Skin type,Größe\n"
        'Ann@Example.COM, Ann ,Lee,"SPF; serum|spf",dry,165\n'
    )
    found = person(store, "ann@example.com")
    assert (found["email"], found["first_name"], found["last_name"]) == (
        "Ann@example.com",
        "Ann",
        "Lee",
    )
    assert found["topics"] == ["spf", "serum"]
    assert found["fields"] == {"skin_type": "dry", "größe": "165"}


def test_consent_makes_active_and_is_recorded_with_its_source(load: Import, store: Store) -> None:
    load("email\nann@example.com\n", consent="Fair in Leeds, March 2026")
    load("email\nbob@example.com\n")
    ann, bob = person(store, "ann@example.com"), person(store, "bob@example.com")
    assert (ann["state"], bob["state"]) == ("active", "pending")
    assert ann["consent"] == [
        {
            "at": "2026-11-24T09:00:00Z",
            "how": "import",
            "text": "Fair in Leeds, March 2026",
            "details": {"file": "people.csv"},
        }
    ]
    assert bob["consent"] == []
    assert [entry["event"] for entry in ann["history"]] == ["imported"]


def test_a_pending_person_becomes_active_with_consent_given_later(
    load: Import, store: Store
) -> None:
    load("email\nann@example.com\n")
    assert counts(load("email\nann@example.com\n", consent="form")) == (1, 0, 1, 0, 0, 0)
    assert counts(load("email\nann@example.com\n", consent="form")) == (1, 0, 0, 1, 0, 0)
    found = person(store, "ann@example.com")
    assert found["state"] == "active"
    assert len(found["consent"]) == 1
    assert [entry["event"] for entry in found["history"]] == ["imported", "consented"]


def test_importing_twice_changes_nothing_and_a_new_value_updates(
    load: Import, store: Store
) -> None:
    rows = "email,first_name,city\nann@example.com,Ann,Leeds\nbob@example.com,Bob,\n"
    assert counts(load(rows)) == (2, 2, 0, 0, 0, 0)
    assert counts(load(rows)) == (2, 0, 0, 2, 0, 0)
    assert counts(load("email,city,shoe\nANN@example.com,York,38\n")) == (1, 0, 1, 0, 0, 0)
    assert person(store, "ann@example.com")["fields"] == {"city": "York", "shoe": "38"}


def test_an_empty_cell_erases_nothing(load: Import, store: Store) -> None:
    load("email,first_name,topics,city\nann@example.com,Ann,spf,Leeds\n")
    assert load("email,first_name,topics,city\nann@example.com,, ,\n").unchanged == 1
    found = person(store, "ann@example.com")
    assert (found["first_name"], found["topics"], found["fields"]) == (
        "Ann",
        ["spf"],
        {"city": "Leeds"},
    )


def test_a_person_who_is_twice_in_a_file_is_added_once(load: Import, store: Store) -> None:
    result = load(
        "email,first_name\nann@example.com,\nANN@EXAMPLE.COM,\nann@example.com,Ann\n", consent="x"
    )
    assert counts(result) == (3, 1, 1, 1, 0, 0)
    assert person(store, "ann@example.com")["first_name"] == "Ann"


def test_people_are_put_in_a_segment(load: Import, store: Store) -> None:
    load("email\nann@example.com\nbob@example.com\n", consent="x")
    assert counts(load("email\nann@example.com\ncat@example.com\n", segment="vip")) == (
        *(2, 1, 1),
        *(0, 0, 0),
    )
    assert load("email\nann@example.com\n", segment="vip").unchanged == 1
    with store.read() as connection:  # Cat is pending: nobody writes to her yet
        assert segments(connection) == [{"name": "all", "size": 2}, {"name": "vip", "size": 1}]


@pytest.mark.parametrize("name", ["all", "VIP", "a b", "../x", "x" * 65])
def test_a_segment_needs_a_name_of_its_own(load: Import, store: Store, name: str) -> None:
    with pytest.raises(BadInput):
        load("email\nann@example.com\n", segment=name)
    assert people(store) == 0


def test_nobody_is_revived(
    load: Import, store: Store, workspace: Workspace, clock: FakeClock
) -> None:
    names = ["left", "bounced", "complained", "erased", "suppressed", "active"]
    rows = "email,first_name\n" + "".join(f"{name}@example.com,New\n" for name in names)
    load(rows.replace("New", "Old"), consent="x")
    now = clock.now()
    with store.begin() as connection:
        ids = {name: find(connection, f"{name}@example.com") for name in names}
        unsubscribe(connection, ids["left"], how="page", now=now)
        mark_bounced(connection, ids["bounced"], reason="", now=now)
        mark_complained(connection, ids["complained"], reason="", now=now)
        erase(connection, workspace.key, ids["erased"], now)
        for name in ("suppressed", "stranger"):
            suppress(connection, workspace.key, f"{name}@example.com", reason="r", now=now)
    result = load(rows + "stranger@example.com,New\n", consent="again")
    assert counts(result) == (7, 0, 1, 0, 6, 0)
    for name in ("left", "bounced", "complained", "suppressed"):
        assert person(store, f"{name}@example.com")["first_name"] == "Old"
    with store.read() as connection:
        assert segments(connection) == [{"name": "all", "size": 1}]


def test_an_erased_person_who_only_began_to_sign_up_is_not_made_active(
    load: Import, store: Store, workspace: Workspace, clock: FakeClock
) -> None:
    load("email\nann@example.com\n")
    with store.begin() as connection:
        erase(connection, workspace.key, find(connection, "ann@example.com"), clock.now())
        subscribe(
            connection, workspace.key, clock.now(), email="ann@example.com", consent_text="yes"
        )
    assert load("email\nann@example.com\n", consent="bought").suppressed == 1
    assert person(store, "ann@example.com")["state"] == "pending"


@pytest.mark.parametrize(
    "encoded",
    [
        "email,city\nann@example.com,Köln\n".encode("utf-8-sig"),
        "email,city\r\nann@example.com,Köln\r\n".encode("utf-16"),
        b"\xfe\xff" + "email;city\nann@example.com;Köln\n".encode("utf-16-be"),
        "email\tcity\rann@example.com\tKöln\r".encode(),
        "email|city\nann@example.com|Köln".encode(),
        '"email";"city"\n"ann@example.com";"Köln"\n'.encode(),
        "\n\nfirst,name;email;city\na,b;ann@example.com;Köln\n\n".encode(),
    ],
)
def test_encoding_delimiter_and_line_ends_are_found(
    load: Import, store: Store, encoded: bytes
) -> None:
    assert counts(load(encoded)) == (1, 1, 0, 0, 0, 0)
    assert person(store, "ann@example.com")["fields"]["city"] == "Köln"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", ["people.csv:1", "empty"]),
        (b"\n \n", ["empty"]),
        (b"name,city\nAnn,Leeds\n", ["people.csv:1", "no column `email`", "name, city"]),
        (b"email,city,Email\na@b.de,x,y\n", ["people.csv:1", "`Email` and `email`", "twice"]),
        (b"email,Skin type,skin_type\na@b.de,x,y\n", ["Skin type", "skin_type", "twice"]),
        (b"email,city\na@b.de,K\xf6ln\n", ["people.csv:2", "byte 20 is not UTF-8"]),
        (
            b"email,city\r\n" * 200_000 + b"a@b.de,K\xf6ln\r\n",
            ["people.csv:200001", "byte 2400009"],
        ),
        (b"\xff\xfe" + "email\na@b.de\n".encode("utf-16-le") + b"x", ["people.csv:3", "UTF-16"]),
        ("email\na@b.de\n".encode("utf-16-le"), ["people.csv:1", "NUL"]),
        (b"email," + b",".join(b"c%d" % n for n in range(600)), ["601 columns", "500"]),
        (b'email,"city\na@b.de,x\n', ["people.csv:1", "quote"]),
    ],
)
def test_a_file_that_cannot_be_read_imports_nothing(
    load: Import, store: Store, content: bytes, said: list[str]
) -> None:
    with pytest.raises(BadInput) as caught:
        load(content)
    for part in said:
        assert part in str(caught.value)
    assert people(store) == 0


def test_a_file_that_is_broken_at_its_end_imports_nothing(load: Import, store: Store) -> None:
    rows = b"".join(b"reader%d@example.com\n" % number for number in range(CHUNK_ROWS * 2))
    with pytest.raises(BadInput, match=f"people.csv:{CHUNK_ROWS * 2 + 2}"):
        load(b"email\n" + rows + b"caf\xe9@example.com\n")
    assert people(store) == 0


def test_bad_rows_are_reported_with_the_physical_line_where_they_start(
    load: Import, store: Store
) -> None:
    result = load(
        "email,first_name,note\r\n"  # 1
        'ann@example.com,Ann,"two\r\nlines"\r\n'  # 2-3
        "nobody,Bob,\r\n"  # 4
        "\r\n"  # 5
        "cat@example.com,Cat\r\n"  # 6
        'dan@example.com,Dan,"a\nb\nc",d\r\n'  # 7-9
        ",Eve,\r\n"  # 10
        f"fay@example.com,{'F' * 201},\r\n"  # 11
        "gus@example.com,G\0us,\r\n"  # 12
        'hal@example.com,"Hal,\r\n'  # 13: a quote that is never closed
        "ida@example.com,Ida,\r\n"  # 14
        'jon@example.com,"J"on,\r\n'  # 15
        'kim@example.com,Kim,"she said ""hi"""\r\n'  # 16
        "lee@example.com,5'11\",x\r\n"  # 17
    )
    assert [row["line"] for row in result.rejected] == [4, 6, 7, 10, 11, 12, 13, 15]
    reasons = {row["line"]: row["reason"] for row in result.rejected}
    assert "@" in reasons[4]
    assert reasons[6] == "2 columns where the header has 3"
    assert reasons[7] == "4 columns where the header has 3"
    assert "no address" in reasons[10]
    assert "201 characters" in reasons[11]
    assert "NUL" in reasons[12]
    assert "quote" in reasons[13]
    emails = {row["line"]: row["email"] for row in result.rejected}
    assert emails[4] == "nobody"
    assert emails[13] == "hal@example.com"
    assert emails[10] == ""
    assert (result.read, result.added) == (12, 4)
    assert person(store, "ann@example.com")["fields"] == {"note": "two\r\nlines"}
    assert person(store, "kim@example.com")["fields"] == {"note": 'she said "hi"'}
    assert person(store, "ida@example.com")["first_name"] == "Ida"


def test_a_quote_that_is_never_closed_costs_its_own_row_only(load: Import) -> None:
    rows = [f'r{number}@example.com,"x' if number % 7 == 0 else f"r{number}@example.com,x"
            for number in range(1, 701)]  # fmt: skip
    result = load("email,note\n" + "\n".join(rows) + "\n")
    assert [row["line"] for row in result.rejected] == [n + 1 for n in range(7, 701, 7)]
    assert result.added == 600


def test_a_line_without_end_is_rejected_and_the_next_one_read(load: Import) -> None:
    result = load("email,note\na@example.com," + "x" * 2_500_000 + "\nb@example.com,x\n")
    assert [(row["line"], row["reason"]) for row in result.rejected] == [
        (2, "the line has more than 1000000 characters")
    ]
    assert result.added == 1


def test_two_hundred_columns_are_fields(load: Import, store: Store) -> None:
    names = [f"column {number}" for number in range(199)]
    load(",".join(["email", *names]) + "\nann@example.com," + ",".join(["v"] * 199) + "\n")
    assert len(person(store, "ann@example.com")["fields"]) == 199


def test_a_value_under_no_column_name_is_not_lost_silently(load: Import) -> None:
    result = load("email,city,\nann@example.com,Leeds,\nbob@example.com,York,lost\n")
    assert result.added == 1
    assert "column 3, which has no name" in result.rejected[0]["reason"]


def test_cells_of_another_file_are_taken_as_they_are(load: Import, store: Store) -> None:
    load("email,note\nann@example.com,'=1+1\n")
    assert person(store, "ann@example.com")["fields"] == {"note": "'=1+1"}


def test_a_pipe_is_read_like_a_file(
    store: Store, workspace: Workspace, clock: FakeClock, tmp_path: Path
) -> None:
    import os
    import threading

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"email\nann@example.com\n",))
    writer.start()
    assert import_csv(store, workspace, clock, pipe).added == 1
    writer.join()


@pytest.mark.parametrize("name", ["nothing.csv", "."])
def test_a_file_that_is_not_there_is_bad_input(
    store: Store, workspace: Workspace, clock: FakeClock, tmp_path: Path, name: str
) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        import_csv(store, workspace, clock, tmp_path / name)
