"""What durably costs, beside the floors of the machine: `hatch run bench`.

A program, not tests: a figure depends on the neighbours' load, so none of them is asserted. What counts is the
ratio to a floor that was measured in the same minutes:

    L   a plain loop on `sqlite3`: the engine's tables and statements, one commit for each
    C   the same through a bare closure on `aiosqlite`'s thread
"""
