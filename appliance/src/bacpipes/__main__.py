"""``python -m bacpipes``."""

from bacpipes.cli import main

main()
