"""The application: everything that is done in a run directory.

This is the training of a schedule, the search of its supernets, extraction and export of subnets, analyses, comparison
of runs, and the report.
"""
