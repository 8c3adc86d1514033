"""The integer operations of exported files, a file for each kind (`base.Operation`)."""
