"""What starts next on free devices: a pure rule, and the queue that applies it for the driver. Knows no Ray."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from orchestrator.order import Waiting, affordable, breadth_first, longest_first

Nodes = Sequence[int]
"""How many devices each node has. A trial runs on one of them; where it may spread, all devices are one node."""


@dataclass(frozen=True, slots=True)
class Running:
    """A trial that holds devices of a node, and in how many seconds it is expected to give them back."""

    devices: int
    seconds_left: float
    node: int = 0


@dataclass(frozen=True, slots=True)
class Start:
    """A trial and the node it starts on now."""

    trial: Waiting
    node: int


Choose = Callable[[Sequence[Waiting], Sequence[Running], Nodes], Start | None]


def next_to_start(waiting: Sequence[Waiting], running: Sequence[Running], nodes: Nodes) -> Start | None:
    """The trial that starts now, and where; None to leave free devices free.

    A trial as long as all that is left would take on all devices is served first, since it would end last. Else the
    order given holds. Where its first trial finds no node with enough free devices, the node on which it can start
    soonest is reserved for it: a later trial starts there only if it ends before that, or leaves enough for the first
    (backfilling with one reservation, known as EASY). So wide trials do not starve, and what is free works meanwhile.
    Of several nodes the fullest that fits is taken, which keeps room for wide trials. A trial wider than every node is
    passed over: it waits for other nodes.
    """
    widest = max(nodes, default=0)
    possible = [trial for trial in waiting if trial.devices <= widest]
    free = _free(running, nodes)
    if not possible or max(free) <= 0:
        return None
    first = _critical(possible, running, sum(nodes)) or possible[0]
    if (node := _fullest(free, first.devices)) is not None:
        return Start(first, node)
    return _backfilled(possible, free, _reserve(first, running, nodes))


def _free(running: Sequence[Running], nodes: Nodes) -> list[int]:
    free = list(nodes)
    for trial in running:
        free[trial.node] -= trial.devices
    return free


def _fullest(free: Sequence[int], devices: int) -> int | None:
    fitting = [node for node, number in enumerate(free) if number >= devices]
    return min(fitting, key=lambda node: free[node], default=None)


def _critical(waiting: Sequence[Waiting], running: Sequence[Running], num_devices: int) -> Waiting | None:
    """The longest trial, if it alone takes as long as everything that is left spread over all devices."""
    longest = max(waiting, key=lambda trial: trial.seconds)
    work = sum(trial.work for trial in waiting) + sum(trial.devices * trial.seconds_left for trial in running)
    return longest if longest.seconds * num_devices >= work else None


@dataclass(frozen=True, slots=True)
class _Reservation:
    """The node a trial waits for, in how many seconds it can start there, and how many devices it leaves free then."""

    node: int
    seconds: float
    spare: int


def _reserve(first: Waiting, running: Sequence[Running], nodes: Nodes) -> _Reservation:
    """Where the first trial can start soonest, were every running one to end as expected."""
    free = _free(running, nodes)
    for trial in sorted(running, key=lambda trial: trial.seconds_left):
        free[trial.node] += trial.devices
        if free[trial.node] >= first.devices:
            return _Reservation(trial.node, trial.seconds_left, free[trial.node] - first.devices)
    raise AssertionError("the first trial fits on a node once that is empty")


def _backfilled(waiting: Sequence[Waiting], free: Sequence[int], reserved: _Reservation) -> Start | None:
    elsewhere = [0 if node == reserved.node else number for node, number in enumerate(free)]
    for trial in waiting:
        if (node := _fullest(elsewhere, trial.devices)) is not None:
            return Start(trial, node)
        in_time = trial.seconds <= reserved.seconds or trial.devices <= reserved.spare
        if in_time and trial.devices <= free[reserved.node]:
            return Start(trial, reserved.node)
    return None


@dataclass(frozen=True, slots=True)
class _Started:
    forecast: Waiting
    start: Start
    since: float

    @property
    def expected(self) -> Waiting:
        return self.start.trial

    def seconds_left(self, now: float) -> float:
        return max(self.since + self.expected.seconds - now, 0.0)

    def work_so_far(self, now: float) -> float:
        return self.expected.devices * (now - self.since)


class TrialQueue:
    """Trials that wait, trials that run, and what has been spent. Time comes in as `now`, in seconds of any clock.

    Without a budget the longest trials come first; with one (device-seconds of this run) breadth first, and a trial
    that does not fit into what is left is not started. Then, and where lengths are not known, what finished trials
    took corrects what is expected of the others.
    """

    def __init__(
        self, waiting: Iterable[Waiting], *, budget: float | None = None, choose: Choose = next_to_start
    ) -> None:
        self._arrange = longest_first if budget is None else breadth_first
        self._budget = budget
        self._choose = choose
        self._forecasts = {trial.trial_id: trial for trial in waiting}
        self._running: dict[str, _Started] = {}
        self._spent = 0.0
        self._paces: dict[bool, list[float]] = {True: [], False: []}
        self._is_learning = budget is not None or not all(trial.is_known for trial in self._forecasts.values())
        self._waiting = self._arrange(self._forecasts.values())

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """What has not started, in its order."""
        return tuple(self._waiting)

    @property
    def running(self) -> tuple[str, ...]:
        """What has started and not ended."""
        return tuple(self._running)

    def take(self, nodes: Nodes, now: float) -> Waiting | None:
        """The trial that starts now on these nodes, if any: it counts as running from here on."""
        running = [Running(i.expected.devices, i.seconds_left(now), i.start.node) for i in self._running.values()]
        start = self._choose(self.startable(now), running, nodes)
        if start is None:
            return None
        self._running[start.trial.trial_id] = _Started(self._forecasts.pop(start.trial.trial_id), start, now)
        self._waiting.remove(start.trial)
        return start.trial

    def end(self, trial_id: str, now: float, *, is_done: bool = True) -> None:
        """A running trial gave its devices back; how long it took tells something of the others if it is done."""
        ended = self._running.pop(trial_id)
        self._spent += ended.work_so_far(now)
        if is_done and self._is_learning and ended.forecast.seconds > 0:
            self._paces[ended.forecast.is_known].append((now - ended.since) / ended.forecast.seconds)
            self._waiting = self._arrange(self._paced(self._forecasts.values()))

    def put_back(self, trial: Waiting) -> None:
        """A trial waits again, with what is left of it."""
        self._forecasts[trial.trial_id] = trial
        self._waiting = self._arrange([*self._waiting, *self._paced([trial])])

    def spent(self, now: float) -> float:
        """Device-seconds of this run so far, those of running trials included."""
        return self._spent + sum(item.work_so_far(now) for item in self._running.values())

    def is_over(self, now: float) -> bool:
        """Whether nothing will start any more: nothing waits, or nothing runs and nothing fits into the budget."""
        return not self._waiting or (not self._running and not self.startable(now))

    def startable(self, now: float) -> list[Waiting]:
        """What could start now on as many devices as it likes, in its order: what fits into the budget."""
        if self._budget is None:
            return self._waiting
        if not all(item.expected.is_known for item in self._running.values()):
            return []  # what runs may take all that is left
        promised = sum(item.expected.devices * item.seconds_left(now) for item in self._running.values())
        return affordable(self._waiting, self._budget - self.spent(now) - promised)

    def _paced(self, trials: Iterable[Waiting]) -> list[Waiting]:
        """Trials of the lengths that finished ones suggest: the median of their times over their forecasts."""
        pace = {is_known: median(paces) for is_known, paces in self._paces.items() if paces}
        return [
            replace(trial, seconds=trial.seconds * pace[trial.is_known], is_known=True)
            if trial.is_known in pace
            else trial
            for trial in trials
        ]
