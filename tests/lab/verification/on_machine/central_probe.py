"""What central's database answers a site that wants more than its own. Runs in the worker's container."""

import os

import psycopg


def main(attempts):
    url = os.environ["BACPIPES_CENTRAL_DATABASE_URL"]
    return [knock(url, attempt) for attempt in attempts]


def knock(url, attempt):
    """`accepted`, or `refused: …`; nothing that is accepted stays."""
    try:
        with psycopg.connect(url, connect_timeout=10, **attempt.get("as", {})) as connection:
            connection.execute(attempt["statement"])
            connection.rollback()
    except psycopg.Error as error:
        return f"refused: {' '.join(str(error).split())}"
    return "accepted"
