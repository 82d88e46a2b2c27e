"""What can be wrong with a model, its input or an explanation, by name."""


class ModelUnavailableError(RuntimeError):
    """A model cannot be loaded: file missing, hash changed, not trusted, or not understood."""


class UnsuitableInputError(ValueError):
    """An image is outside what the model is meant for; the message names the criterion."""


class InvalidOutputError(RuntimeError):
    """A network's output holds NaN or infinity, so that nothing it says is a result."""


class ExplanationError(RuntimeError):
    """An explainer cannot work on this network or with these parameters."""


class NetworkChangedError(RuntimeError):
    """An explainer left the network changed: nothing that it says from now on is a result.

    Deliberately no ``ExplanationError``: an analysis does not go on after it.
    """


class TrainingModeError(ExplanationError):
    """The network, or a module inside it, is in training mode."""


class InputTensorError(ExplanationError):
    """The tensor to explain is not a finite float tensor [B, C, *S]."""


class UnknownLayerError(ExplanationError):
    """The network has no layer of the name that was asked for; the message names the nearest."""


class UnsuitableLayerError(ExplanationError):
    """A layer gives no feature map that leads to the target, or the network has no such layer."""


class OpaqueNetworkError(ExplanationError):
    """The method must look inside the network, which is a compiled or scripted graph."""


class UndifferentiableError(ExplanationError):
    """The network cannot be run with gradients: an operation has no derivative, for one."""


class InputChangedError(ExplanationError):
    """The network or the explainer changed its input: what was explained is another image."""


class TargetError(ExplanationError):
    """A target does not fit the network's output: channel out of range, mask of another grid."""


class BaselineError(ExplanationError):
    """A baseline does not fit the input, or means nothing to this network."""


class BudgetError(ExplanationError):
    """The budget does not reach for the least that the method needs."""


class ExplanationCancelledError(ExplanationError):
    """The caller cancelled before there was anything to return."""


class MeasureError(ValueError):
    """A measure was asked of values that it is not defined for."""


class CalibrationError(ValueError):
    """Known cases do not determine what was to be fitted: too few, all alike, or all answered."""


class ReliabilityError(RuntimeError):
    """What was fitted to a model cannot be read, or belongs to other weights or other widths."""
