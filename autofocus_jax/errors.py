"""Every error that is meant for users. Other exceptions are faults of the program."""


class AutoFocusError(Exception):
    """An error whose message is meant for the user: what is wrong, the value, the fix."""


class ImageError(AutoFocusError):
    """An image file is missing or cannot be decoded."""


class RuleError(AutoFocusError):
    """A chip rule returned boxes that are no valid chips."""


class DetectorError(AutoFocusError):
    """A detector failed, or returned something that is no valid answer for its chips."""


class AnnotationError(AutoFocusError):
    """An annotation file is missing or malformed."""


class BadDataError(AutoFocusError):
    """The data have faults, and the training was told to be strict."""


class BucketError(AutoFocusError):
    """A chip is larger than every bucket."""


class BudgetError(AutoFocusError):
    """No thresholds meet the budget."""


class CheckpointError(AutoFocusError):
    """A checkpoint is missing, unreadable or made with another config."""


class ChipsFileError(AutoFocusError):
    """A file of recorded chips is missing or malformed."""


class ClusterError(AutoFocusError):
    """Ray is not installed, the cluster cannot be reached, or the cluster is too small."""


class CompileError(AutoFocusError):
    """The process has no room for another compiled program."""


class ConfigError(AutoFocusError):
    """A setting is missing, unknown or contradicts another."""


class DivergenceError(AutoFocusError):
    """The loss, the gradient or a parameter is not finite."""


class DropInError(AutoFocusError):
    """An argument of a slicing function has no meaning here, or the function's package is missing."""


class FitError(AutoFocusError):
    """A weights file is sound but belongs to another detector than the config's."""


class ForeignError(DetectorError):
    """A foreign detector cannot be loaded, understood or run."""


class InputError(AutoFocusError):
    """No image can be read from a path."""


class JobError(AutoFocusError):
    """An output folder belongs to another job."""


class LedgerError(AutoFocusError):
    """A folder holds other results than the requested ones, or another run uses it."""


class NoSplitError(AnnotationError):
    """The data are not split: all images are for training, and none for validation or evaluation."""


class ParallelError(AutoFocusError):
    """Several processes could not start to work together."""


class PieceError(AutoFocusError):
    """A stored piece is damaged or missing."""


class PlanError(AutoFocusError):
    """The parts of a plan do not fit each other."""


class ProposalsError(AutoFocusError):
    """A proposals file is missing, damaged or made for other images."""


class StorageError(AutoFocusError):
    """A folder or file cannot be reached, for a reason that no single image causes."""


class WeightsError(AutoFocusError):
    """A weights file is missing, broken, of another program or made with another config."""


class WriteError(AutoFocusError):
    """A file or folder cannot be written."""
