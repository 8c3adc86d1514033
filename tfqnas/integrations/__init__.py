"""Other libraries' models. Each file is imported by those alone who use its library."""
