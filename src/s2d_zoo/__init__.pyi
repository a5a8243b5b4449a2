# The public names for type checkers and editors; __init__.py loads them when they are used.

from s2d_zoo._version import __version__ as __version__
from s2d_zoo.contract import RFContract as RFContract
from s2d_zoo.data.images import read_image as read_image
from s2d_zoo.data.images import read_labels as read_labels
from s2d_zoo.data.images import write_image as write_image
from s2d_zoo.data.network import apply_network as apply_network
from s2d_zoo.data.network import load_network as load_network
from s2d_zoo.enhancer.prediction import Enhancer as Enhancer
from s2d_zoo.enhancer.pretrained import load_enhancer as load_enhancer
from s2d_zoo.errors import S2DZooError as S2DZooError
from s2d_zoo.export.description import Attribution as Attribution
from s2d_zoo.export.description import Author as Author
from s2d_zoo.finetune.pseudo_labels import consensus_labels as consensus_labels
from s2d_zoo.pipeline.adapt import AdaptResult as AdaptResult
from s2d_zoo.pipeline.adapt import adapt as adapt
from s2d_zoo.pipeline.inputs import AdaptInputs as AdaptInputs
from s2d_zoo.pipeline.job import AdaptSettings as AdaptSettings
from s2d_zoo.pipeline.report import write_report as write_report
from s2d_zoo.rf_adapter.classifier import ForestSettings as ForestSettings
from s2d_zoo.rf_adapter.classifier import PixelClassifier as PixelClassifier
from s2d_zoo.rf_adapter.features import FeatureSelection as FeatureSelection
from s2d_zoo.rf_adapter.persistence import load_classifier as load_classifier
from s2d_zoo.rf_adapter.persistence import save_classifier as save_classifier
from s2d_zoo.validate.validation import validate_package as validate_package
from s2d_zoo.zoo.collection import find_model as find_model

__all__ = [
    "AdaptInputs",
    "AdaptResult",
    "AdaptSettings",
    "Attribution",
    "Author",
    "Enhancer",
    "FeatureSelection",
    "ForestSettings",
    "PixelClassifier",
    "RFContract",
    "S2DZooError",
    "__version__",
    "adapt",
    "apply_network",
    "consensus_labels",
    "find_model",
    "load_classifier",
    "load_enhancer",
    "load_network",
    "read_image",
    "read_labels",
    "save_classifier",
    "validate_package",
    "write_image",
    "write_report",
]
