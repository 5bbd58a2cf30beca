"""Instant checks: one module per notebook, one function per exercise, named like the function it checks."""
