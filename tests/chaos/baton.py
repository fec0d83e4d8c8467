"""Runs threads one at a time; at each pause the next one is chosen by what was drawn, so that a run can be repeated."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

_LONGEST_WAIT = 60.0

Turn = tuple[int, int]
"""A thread, and how many pauses long it goes on, or to its end."""


class Baton:
    """Whoever holds it runs. When the drawn turns are over, each thread goes on to its end."""

    def __init__(self, turns: Iterable[Turn]) -> None:
        self._turns = self._one_by_one(turns)
        self._gates: list[threading.Semaphore] = []
        self._waiting: list[int] = []
        self._errors: list[BaseException] = []
        self._mine = threading.local()

    @staticmethod
    def _one_by_one(turns: Iterable[Turn]) -> Iterator[int | None]:
        for thread, pauses in turns:
            yield from [thread] * pauses
        while True:
            yield None

    def run(self, acts: Sequence[Callable[[], None]]) -> None:
        """Run each act in a thread of its own. Raises: the first error of any of them."""
        self._gates = [threading.Semaphore(0) for _ in acts]
        self._waiting = list(range(len(acts)))
        threads = [threading.Thread(target=self._run, args=pair, daemon=True) for pair in enumerate(acts)]
        for thread in threads:
            thread.start()
        self._gates[self._next(0)].release()
        for thread in threads:
            thread.join(_LONGEST_WAIT)
            assert not thread.is_alive(), "the threads wait for each other"
        if self._errors:
            raise self._errors[0]

    def pause(self, _where: str = "") -> None:
        """Let another thread go on, or this one, as drawn. Outside of `run` nothing happens."""
        me = getattr(self._mine, "number", None)
        if me is None or self._errors:
            return
        chosen = self._next(me)
        if chosen != me:
            self._gates[chosen].release()
            self._wait(me)

    def _next(self, me: int) -> int:
        for drawn in self._turns:
            if drawn is None:
                return me if me in self._waiting else self._waiting[0]
            chosen = drawn % len(self._gates)
            if chosen in self._waiting:
                return chosen
        raise AssertionError("turns are endless")

    def _wait(self, me: int) -> None:
        assert self._gates[me].acquire(timeout=_LONGEST_WAIT), "nobody passed the baton on"

    def _run(self, me: int, act: Callable[[], None]) -> None:
        self._wait(me)
        self._mine.number = me
        try:
            act()
        except BaseException as error:
            self._errors.append(error)
        finally:
            self._waiting.remove(me)
            if self._waiting:
                self._gates[self._next(me)].release()
