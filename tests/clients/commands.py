"""The `openstack` command, many times in one process: most of its time is for its start.

Reads JSON lists of arguments, one a line; answers each with a JSON list: exit status, output, errors.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import warnings

from openstackclient.shell import OpenStackShell


def run(arguments: list[str]) -> tuple[int, str, str]:
    """One command, as `main` of openstackclient does it; status, output, errors."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            status = OpenStackShell().run(arguments)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except Exception as error:
            status = 1
            errors.write(str(error))
    return int(status or 0), out.getvalue(), errors.getvalue()


warnings.simplefilter("ignore")
answers = sys.stdout
for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), file=answers, flush=True)
