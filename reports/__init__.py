"""What it says: statistics, figures, claims, rendering."""
