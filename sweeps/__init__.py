"""How it is run: packs, worker, executors, search, progress, command line."""
