"""For processes under libfaketime alone, which refuses what `time.sleep` asks for while the monotonic clock is left as it is."""

import threading
import time


def _sleep(seconds: float) -> None:
    threading.Event().wait(seconds)


time.sleep = _sleep
