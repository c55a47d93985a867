"""What a process does that multiprocessing has started. No torch here."""

import multiprocessing
import os
import threading


def kill_children() -> None:
    """Kill the processes that this one has started by multiprocessing."""
    for child in multiprocessing.active_children():
        child.kill()


def exit_with_parent() -> None:
    """End this process when the one that asked for it ends, also if that is killed.

    A fork server is only the process that forks: `os.getppid()` stays the same then.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
