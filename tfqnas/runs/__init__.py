"""The application: a run directory, and everything that is done in one.

Training of a schedule, search of its supernets, extraction and export of subnets, analyses, comparison, report.
"""
