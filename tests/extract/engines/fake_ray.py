"""A stand-in for Ray that runs every call in this process, and loses actors when it is told to."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    """As `ray.exceptions.RayError`."""


class RayTaskError(RayError):
    """As `ray.exceptions.RayTaskError`: a method raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class ActorDiedError(RayError):
    """As `ray.exceptions.ActorDiedError`."""

    preempted = False


@dataclass(eq=False)
class Call:
    actor: "Actor"
    method: str
    arguments: tuple[Any, ...]


@dataclass
class Method:
    actor: "Actor"
    name: str

    def options(self, **settings: object) -> "Method":
        return self

    def remote(self, *arguments: object) -> Call:
        return Call(self.actor, self.name, arguments)


@dataclass(eq=False)
class Actor:
    body: Any
    dead: bool = False

    def __getattr__(self, name: str) -> Method:
        return Method(self, name)


@dataclass
class FakeRay:
    """Runs a call when its result is fetched.

    Attributes:
        losses: number of a call of `encode`, from 0 on -> number of shards of it that are finished
            when its actor dies.
        lost_starts: numbers of the calls of `open` whose actor dies.
        cores: number of cores of the cluster.
    """

    losses: Mapping[int, int] = field(default_factory=dict)
    lost_starts: Sequence[int] = ()
    cores: int = 2
    calls: list[Call] = field(default_factory=list)
    actors: list[Actor] = field(default_factory=list)
    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def remote(self, **settings: object) -> Callable[[type], SimpleNamespace]:
        def kind(body: type) -> SimpleNamespace:
            def start(*arguments: object) -> Actor:
                self.actors.append(Actor(body(*arguments)))
                return self.actors[-1]

            return SimpleNamespace(remote=start)

        return kind

    def wait(
        self, calls: list[Call], *, num_returns: int, timeout: float
    ) -> tuple[list[Call], list[Call]]:
        return calls[:num_returns], calls[num_returns:]

    def get(self, call: Call) -> object:
        if call.actor.dead:
            raise ActorDiedError("The actor died.\nit was lost before")
        numbers = [one for one in self.calls if one.method == call.method]
        self.calls.append(call)
        try:
            if call.method == "open" and len(numbers) in self.lost_starts:
                self.die(call.actor)
            if call.method == "encode" and len(numbers) in self.losses:
                shards, again = call.arguments
                done = shards[: self.losses[len(numbers)]]
                kept = {shard: again[shard] for shard in done if shard in again}
                call.actor.body.encode(done, kept)
                self.die(call.actor)
            return getattr(call.actor.body, call.method)(*call.arguments)
        except RayError:
            raise
        except Exception as error:
            raise RayTaskError(error) from error

    def die(self, actor: Actor) -> None:
        self.kill(actor)
        raise ActorDiedError("The actor died.\nkilled on purpose")

    def kill(self, actor: Actor) -> None:
        actor.dead = True
        if pool := getattr(actor.body, "pool", None):
            pool.end()

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.cores)}
