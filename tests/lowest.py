"""Print the lowest version of every package that pyproject.toml allows: constraints for `make test-lowest`.

Packages that a range does not name stay free.  Tools of development are left out: they are pinned.
"""

import re
import tomllib
from pathlib import Path

if __name__ == "__main__":
    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    extras = project["optional-dependencies"]
    named = (line for name in extras if name != "dev" for line in extras[name])
    for line in [*project["dependencies"], *named]:
        found = re.match(r"([A-Za-z0-9_.-]+)>=([0-9.a-z]+)", line)
        if found:
            print(f"{found[1]}=={found[2]}")
