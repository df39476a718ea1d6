"""Become a child process that can't outlive the supervisor, even if that is killed.

Run as a script with `-I -S`, so it starts in milliseconds and imports nothing of the product:
`child_launcher.py PARENT_PID PROGRAM [ARGUMENT…]`. It asks the kernel for a SIGKILL on the
parent's death, which survives `exec`, and then becomes the program.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Tie this process to its parent and become `argv[2:]`; 127 if the program can't be run."""
    parent_pid, program = int(argv[1]), argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        # The parent died before the request above was in force.
        os._exit(1)
    try:
        os.execvp(program[0], program)  # noqa: S606
    except OSError as problem:
        sys.stderr.write(f"can't run {program[0]}: {problem.strerror}\n")
        os._exit(127)


if __name__ == "__main__":
    main(sys.argv)
