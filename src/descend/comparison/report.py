"""The report: one HTML file (stub)."""


def write(comparison, path):
    path.write_text("x")
    return path
