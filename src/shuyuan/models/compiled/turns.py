"""Whose turn it is in a step: as many tokens are computed for each tenant, however many sequences it has.

Reference: counters of tokens are those of Sheng et al., "Fairness in serving large language models", 2024, kept at each step.
"""

from __future__ import annotations

from collections.abc import Collection

AHEAD_TOKENS = 16  # that a tenant may be ahead of the one for whom least was computed, so that a step is seldom smaller than it could be
Tenant = str | None


class Turns:
    """Counts what was computed for each tenant that has sequences on their way. Who comes, or comes again, begins with the least."""

    def __init__(self) -> None:
        self._computed: dict[Tenant, int] = {}

    def resting(self, there: Collection[Tenant]) -> set[Tenant]:
        """Of those who have something to be computed, whoever is ahead and waits for the others."""
        known = {tenant: count for tenant, count in self._computed.items() if tenant in there}
        least = min(known.values(), default=0)
        self._computed = {tenant: known.get(tenant, least) - least for tenant in there}
        return {tenant for tenant, count in self._computed.items() if count > AHEAD_TOKENS}

    def count(self, tenant: Tenant, tokens: int) -> None:
        """Notes what is computed."""
        self._computed[tenant] += tokens
