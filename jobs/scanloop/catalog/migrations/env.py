"""Alembic's entry point; called by scanloop.catalog.migrate with an open connection."""

from alembic import context

from scanloop.catalog.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
