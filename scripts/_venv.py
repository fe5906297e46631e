"""Run a script with the project's own Python: `import _venv` and `_venv.ensure()` come first."""

import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_VENV = _ROOT / ".venv"


def ensure() -> None:
    """Return inside .venv; elsewhere replace this process by the same script in .venv.

    A missing or half-made .venv is set up first; a set-up that fails ends the process with its
    exit code.
    """
    if Path(sys.prefix).resolve() == _VENV.resolve():
        return
    # Written last of what Python needs.
    if not (_VENV / ".locks" / "pyproject.toml").exists():
        status = subprocess.run([str(_ROOT / "scripts" / "setup")], check=False).returncode
        if status:
            sys.exit(status)
    python = str(_VENV / "bin" / "python")
    sys.stdout.flush()
    os.execv(python, [python, *sys.argv])
