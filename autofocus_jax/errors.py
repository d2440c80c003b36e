"""Every error that is meant for the user; other exceptions are faults of the program."""


class AutoFocusError(Exception):
    """An error whose message is meant for the user: what was wanted, what came, what to do."""


class ImageError(AutoFocusError):
    """An image file is missing or cannot be decoded."""


class RuleError(AutoFocusError):
    """A chip rule answered boxes that are no chips."""


class DetectorError(AutoFocusError):
    """A detector failed, or answered something that is no answer for its chips."""


class AnnotationError(AutoFocusError):
    """An annotation file is missing or malformed."""


class BadDataError(AutoFocusError):
    """The data have something wrong in them, and the training was told to be strict."""


class BucketError(AutoFocusError):
    """A chip is larger than every bucket."""


class BudgetError(AutoFocusError):
    """No thresholds meet the budget."""


class CheckpointError(AutoFocusError):
    """A checkpoint is missing, unreadable or of another config."""


class ChipsFileError(AutoFocusError):
    """A file of recorded chips is missing or malformed."""


class ClusterError(AutoFocusError):
    """There is no Ray, no such cluster, or not enough of it."""


class CompileError(AutoFocusError):
    """There is no room for another compiled program."""


class ConfigError(AutoFocusError):
    """A setting is missing, unknown or contradicts another."""


class DivergenceError(AutoFocusError):
    """The loss, the gradient or a parameter is no longer a number."""


class DropInError(AutoFocusError):
    """An argument of a program that slices has no meaning here, or its package is missing."""


class FitError(AutoFocusError):
    """A file of weights is sound but of another detector than the config's."""


class ForeignError(DetectorError):
    """A detector that is not ours cannot be loaded, understood or run."""


class InputError(AutoFocusError):
    """A path leads to nothing that images can be read from."""


class JobError(AutoFocusError):
    """An output folder is of another job."""


class LedgerError(AutoFocusError):
    """A folder holds something else than the results that were asked for, or another run is using it."""


class NoSplitError(AnnotationError):
    """The data are not split: all images are there to train on, and none to validate or evaluate."""


class ParallelError(AutoFocusError):
    """Several processes could not be made to work together."""


class PieceError(AutoFocusError):
    """A stored piece is damaged or missing."""


class PlanError(AutoFocusError):
    """The parts of a plan do not fit each other."""


class ProposalsError(AutoFocusError):
    """A file of proposals is missing, damaged or of other images."""


class StorageError(AutoFocusError):
    """A folder or file cannot be reached; not the fault of a single image."""


class WeightsError(AutoFocusError):
    """A file of weights is missing, broken, of another program or of another config."""


class WriteError(AutoFocusError):
    """A file or folder cannot be written."""
