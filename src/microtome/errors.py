"""The exceptions whose text is meant for the user."""

import errno


class UserError(Exception):
    """An input or a setting is wrong. The text says what was expected, what was found and what to do; it is shown without a traceback."""


class StoppedError(UserError):
    """A signal asked the process to stop, and it saved first: the same command goes on. The process ends with status `STOPPED`."""


STOPPED = 75  # EX_TEMPFAIL of sysexits.h
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # of an OSError that is nobody's mistake
