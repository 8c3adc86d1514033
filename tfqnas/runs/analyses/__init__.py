"""What the paper asks of its supernets (OQA, figures 2, 4, 5 and 6), asked of the user's own.

An analysis is a module: `NAME` (of its files), `obstacle` (why it cannot be made), `wants` (which subnets it has to
have scored), `result` (JSON data, from scores), `draw` (its figure) and `section` (its part of the report).
"""
