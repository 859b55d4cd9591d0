"""Puts this model's counts of tokens in the place of those of stories260K, where these stand in the tests themselves.

    adapt.py REASONS FOLDER
"""

import sys
import tomllib
from pathlib import Path

reasons, folder = (Path(argument) for argument in sys.argv[1:])
for theirs, ours in tomllib.loads(reasons.read_text())["replacements"].items():
    files = [file for file in folder.glob("*.py") if theirs in file.read_text()]
    if not files:
        sys.exit(f"error: {theirs} is in none of the tests: see {reasons}")
    for file in files:
        file.write_text(file.read_text().replace(theirs, ours))
