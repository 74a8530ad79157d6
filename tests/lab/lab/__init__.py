"""The lab: the whole system on one machine, with real containers (docs/lab.md)."""
