"""What ours is measured against, each in a process of its own: `python -m bench.baselines …`.

`bare` posts requests of one form by httpx, encoded by orjson, with no database and no look at the
answer but its status; the whole messages are not even personal. `encoded` posts one body over and
over: what httpx alone costs. `anymail` is the loop that a Django site would write: a message with
merge data for each batch of recipients, sent by its backend, without personal headers or metadata.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import orjson

IN_FLIGHT = 4
BATCH = {"sendgrid": 1000, "postmark": 500, "postmark-whole": 500, "mailbox": 500}
PATHS = {
    "sendgrid": "/v3/mail/send",
    "postmark": "/email/batchWithTemplates",
    "postmark-whole": "/email/batch",
    "mailbox": "/v1/batches",
}
_LINK = "http://127.0.0.1:9/unsubscribe/"


def personal(number: int) -> dict[str, str]:
    """The values of one recipient, as long as ours."""
    return {"name": f"First{number % 97}", "token": f"{number:034d}", "id": f"{number:032x}"}


def address(number: int) -> str:
    return f"reader{number}@inbox.example"


def list_headers(values: dict[str, str]) -> dict[str, str]:
    """The headers that differ between recipients."""
    return {
        "List-Unsubscribe": f"<{_LINK}{values['token']}>",
        "Message-ID": f"<{values['id']}@bench.example>",
    }


# --- bare loops -----------------------------------------------------------------------------------


def sendgrid_body(html: str, text: str, numbers: range) -> bytes:
    people = []
    for number in numbers:
        values = personal(number)
        people.append(
            {
                "to": [{"email": address(number)}],
                "headers": list_headers(values),
                "substitutions": {"-name-": values["name"], "-token-": values["token"]},
                "custom_args": {"attempt": "0" * 32, "delivery": f"1.{number}", "send": "bench.1"},
            }
        )
    return orjson.dumps(
        {
            "personalizations": people,
            "from": {"email": "bench@bench.example", "name": "Bench"},
            "subject": "Bench",
            "content": [
                {"type": "text/plain", "value": text},
                {"type": "text/html", "value": html},
            ],
        }
    )


def template_body(_html: str, _text: str, numbers: range) -> bytes:
    return orjson.dumps(
        {
            "Messages": [
                {
                    "From": "Bench <bench@bench.example>",
                    "To": address(number),
                    "TemplateAlias": "bench",
                    "TemplateModel": {"name": values["name"], "token": values["token"]},
                    "Headers": [
                        {"Name": name, "Value": value}
                        for name, value in list_headers(values).items()
                    ],
                    "Metadata": {"attempt": "0" * 32, "delivery": f"1.{number}"},
                    "MessageStream": "broadcast",
                }
                for number, values in ((number, personal(number)) for number in numbers)
            ]
        }
    )


def whole_body(html: str, text: str, numbers: range) -> bytes:
    return orjson.dumps(
        [
            {
                "From": "Bench <bench@bench.example>",
                "To": address(number),
                "Subject": "Bench",
                "HtmlBody": html,
                "TextBody": text,
                "Headers": [
                    {"Name": name, "Value": value}
                    for name, value in list_headers(personal(number)).items()
                ],
                "Metadata": {"attempt": "0" * 32, "delivery": f"1.{number}"},
                "MessageStream": "broadcast",
            }
            for number in numbers
        ]
    )


def mailbox_body(html: str, text: str, numbers: range) -> bytes:
    return orjson.dumps(
        {
            "messages": [
                {
                    "to": address(number),
                    "from": "Bench <bench@bench.example>",
                    "subject": "Bench",
                    "html": html,
                    "text": text,
                    "headers": list_headers(personal(number)),
                    "metadata": {"attempt": "0" * 32, "delivery": f"1.{number}"},
                }
                for number in numbers
            ]
        }
    )


BODIES: dict[str, Callable[[str, str, range], bytes]] = {
    "sendgrid": sendgrid_body,
    "postmark": template_body,
    "postmark-whole": whole_body,
    "mailbox": mailbox_body,
}


def batches(form: str, people: int) -> Iterator[range]:
    for start in range(0, people, BATCH[form]):
        yield range(start, min(start + BATCH[form], people))


def bare(form: str, url: str, people: int, html: str, text: str, *, once: bool = False) -> float:
    """Seconds to post every recipient's share, `IN_FLIGHT` requests at once; encoded anew each time
    unless `once`."""

    async def loop() -> float:
        left = batches(form, people)
        first = BODIES[form](html, text, range(min(BATCH[form], people)))
        headers = {"Content-Type": "application/json"}
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:

            async def post() -> None:
                for numbers in left:
                    body = first if once else BODIES[form](html, text, numbers)
                    answer = await client.post(url + PATHS[form], content=body, headers=headers)
                    assert answer.status_code in {200, 202}

            started = time.perf_counter()
            await asyncio.gather(*[post() for _ in range(IN_FLIGHT)])
            return time.perf_counter() - started

    return asyncio.run(loop())


# --- django-anymail -------------------------------------------------------------------------------


def anymail(form: str, url: str, people: int, html: str, text: str) -> float:
    """Seconds for the loop over django-anymail's backend, on one keep-alive session."""
    import django
    from django.conf import settings

    esp = {"sendgrid": "SENDGRID_API_URL", "postmark": "POSTMARK_API_URL"}[form]
    suffix = {"sendgrid": "/v3/", "postmark": "/"}[form]
    settings.configure(
        ANYMAIL={
            "SENDGRID_API_KEY": "bench",
            "POSTMARK_SERVER_TOKEN": "bench",
            "SENDGRID_MERGE_FIELD_FORMAT": "-{}-",
            esp: url + suffix,
        },
        EMAIL_BACKEND=f"anymail.backends.{form}.EmailBackend",
        USE_TZ=True,
    )
    django.setup()
    from django.core.mail import EmailMultiAlternatives, get_connection

    started = time.perf_counter()
    with get_connection() as connection:
        for numbers in batches(form, people):
            values = {address(number): personal(number) for number in numbers}
            message: Any = EmailMultiAlternatives(
                "Bench",
                text if form == "sendgrid" else "",
                "Bench <bench@bench.example>",
                list(values),
                connection=connection,
            )
            if form == "sendgrid":
                message.attach_alternative(html, "text/html")
            else:
                message.template_id = "bench"
            message.merge_data = values
            assert message.send() == 1
    return time.perf_counter() - started


def main() -> None:
    what, form, url, people = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    html, text = json.load(sys.stdin)
    if what == "anymail":
        seconds = anymail(form, url, people, html, text)
    else:
        seconds = bare(form, url, people, html, text, once=what == "encoded")
    print(json.dumps({"seconds": seconds, "recipients": people}))


if __name__ == "__main__":
    main()
