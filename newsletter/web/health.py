"""For machines that watch the site: liveness, readiness and Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from newsletter.errors import NewsletterError
from newsletter.reports import state_counts
from newsletter.store import Store
from newsletter.store.database import schema_is_current
from newsletter.web.context import site


async def healthz(request: Request) -> Response:
    """`GET /healthz`: the process answers."""
    return PlainTextResponse("ok\n", headers={"Cache-Control": "no-store"})


async def readyz(request: Request) -> Response:
    """`GET /readyz`: the database answers and every migration has run."""
    ready = await run_in_threadpool(_is_ready, site(request).store)
    return PlainTextResponse(
        "ready\n" if ready else "the database is not ready\n",
        200 if ready else 503,
        headers={"Cache-Control": "no-store"},
    )


def _is_ready(store: Store) -> bool:
    try:
        return schema_is_current(store)
    except NewsletterError:
        return False


async def metrics(request: Request) -> Response:
    """`GET /metrics`: counted in the database when asked, so any process may be asked."""
    body = await run_in_threadpool(_metrics, site(request).store)
    return Response(
        body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store"}
    )


def _metrics(store: Store) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Counts(store))
    return generate_latest(registry)


class _Counts(Collector):
    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        with self._store.read() as connection:
            counted = state_counts(connection)
        for name, (what, counts) in counted.items():
            family = GaugeMetricFamily(f"newsletter_{name}", what, labels=["state"])
            for state, count in counts.items():
                family.add_metric([state], count)
            yield family
