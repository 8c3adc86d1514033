"""Integrations of other libraries. Each module is imported only by users of its library."""
