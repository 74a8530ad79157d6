"""The worker process: polls, commits, publishes, and carries out commands."""
