"""What a run will need, before anything is spent: memory, time, storage, from formulas and this machine's rates.

Other rooms use `plan` and `Plan`.
"""

from .planning import Plan, plan

__all__ = ["Plan", "plan"]
