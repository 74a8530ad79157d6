"""Alembic's environment: it is always called by `bacpipes.central.migrate` with a connection at hand."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transactional_ddl=True, version_table="bacpipes_schema")
with context.begin_transaction():
    context.run_migrations()
