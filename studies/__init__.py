"""What is asked and what is known: specification, stage tree, schemas, store, queries, catalogue."""
