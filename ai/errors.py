"""What can be wrong with a model, its input or an explanation, by name."""


class ModelUnavailableError(RuntimeError):
    """A model cannot be loaded: file missing, hash changed, not trusted, or not understood."""


class UnsuitableInputError(ValueError):
    """An image is outside what the model is meant for; the message names the criterion."""


class ExplanationError(RuntimeError):
    """An explainer cannot work on this network or with these parameters."""
