"""Runs the command as `python -m shuyuan`."""

from .cli import main

main()
