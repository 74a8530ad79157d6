"""Setpoint writes: the command, its validation, its execution, and the book of what was done."""
