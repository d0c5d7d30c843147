"""The one descent loop, and what it keeps: points, history, health, a result."""
