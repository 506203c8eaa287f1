"""The same step over a list: which items there are, and executing them side by side."""

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast, overload

from durably.codec import Codec, codec_for, codec_of_result
from durably.errors import DuplicateStepError, MapFailed, StepFailed, StoredValueError, ValidationError
from durably.models import Seconds
from durably.naming import StepNames, call_site
from durably.options import LONGEST_NAME, is_text, whole
from durably.policies import Policy, policy_of
from durably.retries import Retry

T = TypeVar("T")
Item = TypeVar("Item")

Body: TypeAlias = Callable[[], object]

MOST_AT_A_TIME = 10_000
KEYS: Codec[object] = codec_for(cast("object", list[str]))
"""How the list of a map's keys is stored: under the map's own name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """One call of `step.map`."""

    place: str
    """The map's full name."""
    bodies: Mapping[str, Body]
    """What to call for each item, by its key, in order."""
    codec: Codec[object]
    call_site: str
    limit: int | None
    """How many execute at a time; None: all."""
    policy: Policy | None

    def name(self, key: str) -> str:
        """The full name of an item's step."""
        return f"{self.place}[{key}]"


def bodies_of(
    place: str, fn: Callable[[Item], object], items: Iterable[Item], key: Callable[[Item], str | int] | None
) -> dict[str, Body]:
    """What to call for each item, by its key.

    Raises:
        ValidationError: A key cannot be used; says what is allowed.
        DuplicateStepError: Two items have the same key.
    """
    bodies: dict[str, Body] = {}
    for index, item in enumerate(items):
        chosen = index if key is None else key(item)
        text = str(chosen) if isinstance(chosen, int) else chosen
        if not _is_key(text):
            raise ValidationError(
                f"{chosen!r} is no key for an item of {place!r}: use a number, or 1 to {LONGEST_NAME} "
                "characters without [ ] and NUL"
            )
        if text in bodies:
            first = list(bodies).index(text)
            raise DuplicateStepError(f"{place}[{text}]", f"item {first}", f"item {index}")
        bodies[text] = partial(fn, item)
    return bodies


class StepMaps(StepNames):
    """Steps over a list."""

    @overload
    async def map(
        self,
        name: str,
        fn: Callable[[Item], object],
        items: Iterable[Item],
        /,
        *,
        key: Callable[[Item], str | int] | None = None,
        limit: int | None = None,
        result: type[T],
        retry: Retry | int | None = None,
        timeout: Seconds | None = None,
    ) -> list[T]: ...
    @overload
    async def map(
        self,
        name: str,
        fn: Callable[[Item], Awaitable[T]],
        items: Iterable[Item],
        /,
        *,
        key: Callable[[Item], str | int] | None = None,
        limit: int | None = None,
        result: None = None,
        retry: Retry | int | None = None,
        timeout: Seconds | None = None,
    ) -> list[T]: ...
    @overload
    async def map(
        self,
        name: str,
        fn: Callable[[Item], T],
        items: Iterable[Item],
        /,
        *,
        key: Callable[[Item], str | int] | None = None,
        limit: int | None = None,
        result: None = None,
        retry: Retry | int | None = None,
        timeout: Seconds | None = None,
    ) -> list[T]: ...
    def map(
        self,
        name: str,
        fn: Callable[[Item], object],
        items: Iterable[Item],
        /,
        *,
        key: Callable[[Item], str | int] | None = None,
        limit: int | None = None,
        result: object = None,
        retry: Retry | int | None = None,
        timeout: Seconds | None = None,
    ) -> "Coroutine[object, object, list[Any]]":
        """Call `fn(item)` for each item as a step of its own, `name[key]`, side by side.

        The list of keys is stored by the first call and holds from then on: an item that is new is
        passed over. Once an item has failed no further one begins, and those that execute go on to
        their end.

        Args:
            name: Unique in the run, like a step's.
            fn: The body; its item's step is known to it by `idempotency_key`.
            items: What to call it with.
            key: What tells the items apart. Default: their places in the list.
            limit: How many execute at a time. Default: all.
            result: As in `run`.
            retry: As in `run`, for each item.
            timeout: As in `run`, for each attempt at an item.

        Returns:
            The results, in the order of the items.

        Raises:
            MapFailed: Items failed; `failures` has them all.
            DuplicateStepError: Two items have the same key; nothing was called.
            StoredValueError: An unfinished item is not in the list any more.
            ValidationError, ConfigurationError: A key or an option cannot be used.
        """
        place = self._place(name)
        return self._map(
            Items(
                place=place,
                bodies=bodies_of(place, fn, items, key),
                codec=codec_of_result(fn) if result is None else codec_for(result),
                call_site=call_site(),
                limit=None if limit is None else whole(limit, "limit", least=1, most=MOST_AT_A_TIME),
                policy=None if retry is None and timeout is None else policy_of(retry, timeout),
            )
        )

    @abstractmethod
    async def _map(self, items: Items) -> list[object]: ...


async def execute(
    items: Items,
    keys: Sequence[str],
    *,
    call: Callable[[str, Body], Coroutine[object, object, object]],
    ended: Callable[[str], bool | None],
) -> list[object]:
    """Execute the items that have no checkpoint, a bounded number at a time; answers all results.

    Once an item has failed no further one begins, those that execute go on to their end. A replay
    that finds a failure begins none either, so it fails of the same items.

    Args:
        items: The call.
        keys: The keys as they were stored by the first call.
        call: Executes an item's step, or answers its checkpoint.
        ended: Whether the step of this name has a checkpoint; False for one that is a failure.

    Raises:
        MapFailed: Items failed.
        StoredValueError: An item that was in the list at first, and has not ended, is in it no more.
    """
    names = [items.name(key) for key in keys]
    results: dict[str, object] = {}
    failures: dict[str, StepFailed] = {}
    broken: list[Exception] = []
    has_failed = any(ended(name) is False for name in names)
    if not has_failed:
        _require_all(items, keys, ended)
    queue = iter(zip(keys, names, strict=True))

    async def work() -> None:
        for key, name in queue:
            if (has_failed or failures or broken) and ended(name) is None:
                continue
            try:
                results[name] = await call(name, items.bodies.get(key, _gone))
            except StepFailed as error:
                failures[name] = error
            except Exception as error:  # noqa: BLE001 - told once the others have come to their end
                broken.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(items.limit or len(names), len(names))):
            group.create_task(work())
    if broken:
        raise broken[0]
    if failures:
        raise MapFailed(items.place, [failures[name] for name in names if name in failures], len(names))
    if len(results) < len(names):
        # In a group the cancellation of a child is no error: the whole is being cut off.
        raise asyncio.CancelledError(f"map {items.place!r} was cut off")
    return [results[name] for name in names]


def _require_all(items: Items, keys: Sequence[str], ended: Callable[[str], bool | None]) -> None:
    for key in keys:
        if key not in items.bodies and ended(items.name(key)) is None:
            raise StoredValueError(
                f"step {items.name(key)!r} has not ended, and its item is not in the list any more: a map "
                "goes on with the list of its first call, so that must give the same keys every time"
            )


def _gone() -> None:
    """Stands for an item that has ended and is in the list no more; never called."""


def _is_key(text: object) -> bool:
    return (
        isinstance(text, str)
        and 0 < len(text) <= LONGEST_NAME
        and not {"[", "]"} & set(text)
        and is_text(text)
    )
