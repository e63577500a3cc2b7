"""The one exception whose text is meant for the user."""


class UserError(Exception):
    """An input or a setting is wrong. The text says what was expected, what was found and what to do; it is shown without a traceback."""
