"""The errors a user can meet. Each message names the place and the remedy."""


class KGToolError(Exception):
    """A failure at work. The command line prints the message and exits with `exit_code`."""

    exit_code = 1


class DataError(KGToolError):
    """Input data that cannot be used: the message names file, line and remedy."""

    exit_code = 2


class ConfigError(KGToolError):
    """A configuration that cannot be used: the message names the key and the nearest right one."""

    exit_code = 2


class RunError(KGToolError):
    """A run folder that is missing, incomplete, damaged or does not fit the data."""

    exit_code = 2


class FetchError(KGToolError):
    """A data set that could not be fetched. The message names the address and the reason."""


class TrainingError(KGToolError):
    """Training that cannot go on, such as a loss that is not finite."""


class ScoreError(KGToolError):
    """Scores that cannot be ranked: NaN or infinite. The message names the query."""
