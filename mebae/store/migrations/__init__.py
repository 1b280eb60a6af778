"""The steps from an empty database to today's tables, in order; `mebae.store.migrate` walks them."""
