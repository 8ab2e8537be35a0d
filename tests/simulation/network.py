"""The network between a process and a provider, as a twin of `providers.transport.Transport`.

A request travels, is worked on and is answered outside of the process that made it: neither its
death nor its time-out calls the request back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from newsletter.providers.base import may_leave
from newsletter.providers.pieces import Body
from newsletter.providers.transport import InDoubt, NeverLeft, Response, Result
from simulation.loop import Killed

if TYPE_CHECKING:
    from simulation.process import Process
    from simulation.servers import Server
    from simulation.world import World

_HTML = Response(502, {"content-type": "text/html"}, b"<!doctype html><h1>Bad gateway</h1>")
_HTML_OK = Response(200, {"content-type": "text/html"}, b"<!doctype html><h1>Welcome</h1>")


@dataclass(slots=True)
class Request:
    """One request on its way. `ended` is when its client knew no more of it."""

    server: Server
    number: int
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    fault: str
    value: float
    ended: float | None = None
    finished: bool = False  # by the provider


class SimulatedTransport:
    """One process's way to a provider."""

    def __init__(self, world: World, process: Process, server: Server) -> None:
        self._world = world
        self._process = process
        self._server = server

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Body = b"",
        timeout: timedelta,  # noqa: ASYNC109 - the interface has it
    ) -> Result:
        if not self._process.alive:
            raise Killed
        try:
            return await self._request(method, url, headers, bytes(body), timeout)
        except Exception as error:  # which the engine would take for the provider's
            self._world.fail("no fault inside", f"the network: {type(error).__name__}: {error}")
            raise

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, within: timedelta
    ) -> Result:
        world, process = self._world, self._process
        request = Request(self._server, 0, method, url, headers, body, "", 0.0)
        sends = self._server.is_send(request)
        site = "request" if sends else "look-up"
        request.number, request.fault, request.value = world.fault_of_request(site)
        if request.fault == "killed before a request":
            process.kill()
        if not may_leave.get()():
            return NeverLeft("too late to leave")
        if sends:
            world.checker.before_request(process, request)
        answer: asyncio.Future[Result] = world.loop.create_future()
        seconds = within.total_seconds()
        _Journey(world, process, request, answer, seconds).begin()
        result = await answer
        process.last_told[self._server.attempt_of(request)] = site
        return result

    async def close(self) -> None:
        return None


class _Journey:
    """What becomes of one request, seen from outside of the processes."""

    def __init__(
        self,
        world: World,
        process: Process,
        request: Request,
        answer: asyncio.Future[Result],
        timeout: float,
    ) -> None:
        self.world = world
        self.process = process
        self.request = request
        self.answer = answer
        self.timeout = timeout
        self.is_down = world.provider_down > 0 and request.server is world.server

    def begin(self) -> None:
        world, request = self.world, self.request
        rng = world.network_rng
        there = rng.expovariate(1 / world.scenario.latency)
        there = min(there, self.timeout * 0.4, world.scenario.lag * 0.4)
        if request.fault == "no connection" or (self.is_down and rng.random() < 0.5):
            self._later(there, self._end, NeverLeft("no connection: simulated"))
            return
        self.process.at_death.append(self._lose)
        if request.fault == "stopped during a request":
            world.tell("network", f"{self.process.name} is stopped for {request.value:.0f} s")
            world.loop.suspend(self.process, request.value)
        self._later(self.timeout, self._end, InDoubt("ReadTimeout"))
        if self.is_down:
            self._later(there, self._end, Response(503, {}, b"down"))
        elif request.fault in {"request lost", "look-up lost"}:
            if rng.random() < 0.5:
                self._later(there, self._end, InDoubt("ReadError: reset"))
        elif request.fault == "accepted late":
            self._later(self.timeout, self._accept_late)
        else:
            self._later(there, self._arrive)
        if request.fault == "killed during a request":
            self._later(rng.uniform(0, 2.5 * there), self.process.die)

    def _arrive(self) -> None:
        """At the provider, in time."""
        world, request = self.world, self.request
        refusal = self._refusal()
        if refusal is not None:
            self._answer(refusal)
            return
        response = request.server.handle(request)
        request.finished = True
        match request.fault:
            case "answer lost":
                if world.network_rng.random() < 0.5:
                    self._answer(InDoubt("RemoteProtocolError: disconnected"))
            case "answer too slow":
                pass  # its time-out is over first
            case "error after acceptance" | "accepted in part":
                self._answer(Response(500, {}, request.server.error("internal error")))
            case "HTML after acceptance":
                self._answer(world.network_rng.choice((_HTML, _HTML_OK)))
            case "answer cut short":
                self._answer(request.server.cut(response))
            case _:
                self._answer(response)

    def _refusal(self) -> Response | None:
        """An answer without acceptance."""
        world, request = self.world, self.request
        if world.credentials_refused and request.server is world.server:
            return Response(401, {}, request.server.error("no such token"))
        match request.fault:
            case "throttled":
                headers = {"retry-after": f"{request.value:.0f}"}
                return Response(429, headers, request.server.error("slow down"))
            case "throttled without a time":
                return Response(429, {}, request.server.error("slow down"))
            case "error before acceptance" | "look-up fails":
                return Response(500, {}, request.server.error("internal error"))
            case "HTML before acceptance" | "look-up answered with HTML":
                return _HTML_OK
        return None

    def _accept_late(self) -> None:
        """After the time-out, but within what the provider declares as its lag."""
        self._end(InDoubt("ReadTimeout"))
        if not self.request.finished:
            self._later(self.request.value * self.world.scenario.lag * 0.7, self._finish)

    def _finish(self) -> None:
        if not self.request.finished:
            self.request.finished = True
            self.request.server.handle(self.request)

    def _lose(self) -> None:
        """Its process has died: the connection is gone, and what had left may still be taken."""
        request = self.request
        if request.ended is None:
            request.ended = self.world.loop.time()
        if request.fault == "accepted late" and not request.finished:
            self._later(request.value * self.world.scenario.lag * 0.5, self._finish)

    def _answer(self, result: Result) -> None:
        rng = self.world.network_rng
        back = min(rng.expovariate(1 / self.world.scenario.latency), self.timeout * 0.4)
        self._later(back, self._end, result)

    def _end(self, result: Result) -> None:
        request = self.request
        if request.ended is None:
            request.ended = self.world.loop.time()
        if not self.answer.done():
            said = result.status if isinstance(result, Response) else type(result).__name__
            self.world.tell("network", f"{request.method} {request.number} ends: {said}")
            self.answer.set_result(result)
        if self._lose in self.process.at_death:
            self.process.at_death.remove(self._lose)

    def _later(self, seconds: float, call: Any, *args: Any) -> None:
        self.world.loop.call_later(seconds, call, *args, context=Context())
