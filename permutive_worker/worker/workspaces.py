"""The workspaces of a run: for each set of credentials its gate, its wire and its lane."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack

from permutive_worker.config import Settings
from permutive_worker.control.budget import Budget
from permutive_worker.credentials import Keyring
from permutive_worker.delivery.lane import Lane
from permutive_worker.http.gate import Gate
from permutive_worker.ports import Wire
from permutive_worker.telemetry.counts import Counts
from permutive_worker.worker.lanes import WireChoice, choose_wire, new_lane, open_wires
from permutive_worker.worker.limiters import open_gates


class Workspaces:
    """Empty until opened.

    Attributes:
        lanes: by the name of the workspace.
        gates: that are ours; those that were given obey whoever gave them.
        choice: which wire is used; None before it is known, and where one was given.
    """

    def __init__(
        self,
        keyring: Keyring,
        default: str | None,
        wire: Wire | Mapping[str, Wire] | None,
        gates: Mapping[str, Gate],
    ) -> None:
        """`default` is the workspace of lines that name none. Raises CredentialsError: there is none."""
        self.lanes: dict[str, Lane] = {}
        self.gates: dict[str, Gate] = {}
        self.choice: WireChoice | None = None
        self._keyring = keyring
        self._default = keyring.default(default)
        self._wire = wire
        self._given_gates = gates
        self._wires: Mapping[str, Wire] = {}

    async def open(
        self,
        stack: AsyncExitStack,
        settings: Settings,
        budget: Budget,
        counts: Counts,
        now: Callable[[], float],
        *,
        finite: bool,
        needed: bool,
        until_stopped: Callable[[], Awaitable[None]],
    ) -> None:
        """Make them all; `stack` closes what must be closed. Raises as `open_gates`, `choose_wire`, `open_wires`."""
        credentials = list(self._keyring)
        gates = await open_gates(stack, settings, credentials, self._given_gates, now)
        self.gates = {name: gate for name, gate in gates.items() if name not in self._given_gates}
        if self._wire is None:
            self.choice = await choose_wire(settings.http.wire)
            counts.wire_fallbacks += self.choice.fallback is not None
            self._wires = await open_wires(
                stack,
                self.choice.kind,
                settings,
                credentials,
                finite=finite,
                needed=needed,
                until_stopped=until_stopped,
            )
        for key in credentials:
            lane = new_lane(settings, key.name, len(credentials), budget, counts, now, gates[key.name])
            self._join(stack, lane)
            self.lanes[key.name] = lane

    def _join(self, stack: AsyncExitStack, lane: Lane) -> None:
        """Through a gate that was given others pass too: what they are refused holds this lane as well."""
        if lane.workspace in self._given_gates:
            lane.gate.watchers.append(lane.look_at_holds)
            stack.callback(lane.gate.watchers.remove, lane.look_at_holds)
            lane.look_at_holds()

    def lane_of(self, workspace: str | None) -> Lane | None:
        """Return the lane of a line's `workspace`; None: no credentials have that name."""
        key = self._default if workspace is None else self._keyring.of(workspace)
        return self.lanes[key.name] if key is not None else None

    def with_wires(self) -> Iterable[tuple[Lane, Wire]]:
        """Give each lane with its wire."""
        for name, lane in self.lanes.items():
            yield lane, self._wire_of(name)

    def _wire_of(self, workspace: str) -> Wire:
        if self._wire is None:
            return self._wires[workspace]
        return self._wire[workspace] if isinstance(self._wire, Mapping) else self._wire
