"""Every coded concept that Pellucid writes, with the context group it is taken from."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 section 8): value, coding scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str


#: Coding scheme of our own concepts, identified in every object that uses it (PS3.3 C.12.1).
PRIVATE_SCHEME = "99PELLUCID"
PRIVATE_SCHEME_NAME = "Pellucid concepts of explained imaging AI"

#: Longest Code Value (VR SH) and Code Meaning (VR LO), PS3.5 6.2.
LONGEST_VALUE = 16
LONGEST_MEANING = 64

# What is explained, and by which family of methods (CID 217 and its neighbors in PS3.16 Annex D).
VISUAL_EXPLANATION = Code("130401", "DCM", "Visual explanation")
CLASS_ACTIVATION = Code("130402", "DCM", "Class activation")
GRADIENT_CLASS_ACTIVATION = Code("130403", "DCM", "Gradient-weighted class activation")
SALIENCY = Code("130404", "DCM", "Saliency")
INPUT_X_GRADIENT = Code("INPUT-X-GRADIENT", PRIVATE_SCHEME, "Input times gradient")
INTEGRATED_GRADIENTS = Code("IG", PRIVATE_SCHEME, "Integrated gradients")
EXPECTED_GRADIENTS = Code("EXPECTED-GRAD", PRIVATE_SCHEME, "Expected gradients")
DEEPLIFT = Code("DEEPLIFT", PRIVATE_SCHEME, "DeepLIFT")
DEEPLIFT_SHAP = Code("DEEPLIFT-SHAP", PRIVATE_SCHEME, "DeepLIFT averaged over references")
KERNEL_SHAP = Code("KERNEL-SHAP", PRIVATE_SCHEME, "Shapley values of image regions")
LIME = Code("LIME", PRIVATE_SCHEME, "Local linear model of image regions")
OCCLUSION = Code("OCCLUSION", PRIVATE_SCHEME, "Occlusion")
RISE = Code("RISE", PRIVATE_SCHEME, "Randomized masks of the input")
LAYER_WISE_RELEVANCE = Code("LRP", PRIVATE_SCHEME, "Layer-wise relevance propagation")
ATTENTION_ROLLOUT = Code("ATTN-ROLLOUT", PRIVATE_SCHEME, "Attention rollout")
GRADIENT_ATTENTION = Code("GRAD-ATTENTION", PRIVATE_SCHEME, "Gradient-weighted attention")
OWN_EVIDENCE = Code("OWN-EVIDENCE", PRIVATE_SCHEME, "Evidence that the network itself summed up")

# Document and its parts (TID 1500, TID 1501, TID 1600).
IMAGING_MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
SOURCE_OF_MEASUREMENT = Code("121112", "DCM", "Source of Measurement")
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
PROCEDURE_REPORTED = Code("121058", "DCM", "Procedure reported")
DEVICE = Code("121007", "DCM", "Device")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
CONCLUSION = Code("121077", "DCM", "Conclusion")
ALGORITHM_PARAMETERS = Code("111002", "DCM", "Algorithm Parameters")
ENGLISH = Code("en-US", "RFC5646", "English (United States)")

# Key Object Selection (TID 2010, TID 1004), titles of CID 7010.
OF_INTEREST = Code("113000", "DCM", "Of Interest")
REJECTED_FOR_QUALITY = Code("113001", "DCM", "Rejected for Quality Reasons")
REJECTED_FOR_SAFETY = Code("113037", "DCM", "Rejected for Patient Safety Reasons")
RETENTION_EXPIRED = Code("113039", "DCM", "Data Retention Policy Expired")
#: What a PACS understands as a withdrawal (IHE Imaging Object Change Management).
REJECTION_TITLES = (REJECTED_FOR_QUALITY, REJECTED_FOR_SAFETY, RETENTION_EXPIRED)
KEY_OBJECT_DESCRIPTION = Code("113012", "DCM", "Key Object Description")
OBSERVER_TYPE = Code("121005", "DCM", "Observer Type")
DEVICE_OBSERVER_UID = Code("121012", "DCM", "Device Observer UID")
DEVICE_OBSERVER_NAME = Code("121013", "DCM", "Device Observer Name")

# CID 6047 and CID 240: what came out.
SUCCEEDED_WITHOUT_FINDINGS = Code("111241", "DCM", "All algorithms succeeded; without findings")
SUCCEEDED_WITH_FINDINGS = Code("111242", "DCM", "All algorithms succeeded; with findings")
PARTLY_WITHOUT_FINDINGS = Code("111243", "DCM", "Not all algorithms succeeded; without findings")
PARTLY_WITH_FINDINGS = Code("111244", "DCM", "Not all algorithms succeeded; with findings")
DETECTION_RESULT = Code("DETECTION-RESULT", PRIVATE_SCHEME, "Result of the analysis")
PRESENCE = Code("121052", "DCM", "Presence of property")
PRESENT = Code("52101004", "SCT", "Present")
ABSENT = Code("272519000", "SCT", "Absent")

# Numbers.
PROBABILITY = Code("122157", "DCM", "Probability")
OPERATING_POINT = Code("OPERATING-POINT", PRIVATE_SCHEME, "Operating point of the model")
VOLUME = Code("118565006", "SCT", "Volume")
CENTER_OF_MASS = Code("CENTER-OF-MASS", PRIVATE_SCHEME, "Center of mass")
VOXEL_COUNT = Code("VOXEL-COUNT", PRIVATE_SCHEME, "Number of voxels")
NO_UNITS = Code("1", "UCUM", "no units")
MILLILITER = Code("ml", "UCUM", "ml")

# How far a finding, and the analysis of an image, can be trusted.
CALIBRATION = Code("CALIBRATION", PRIVATE_SCHEME, "Calibration of the probability")
CALIBRATED = Code("CALIBRATED", PRIVATE_SCHEME, "Calibrated on cases of known diagnosis")
CONFIDENCE_LEVEL = Code("CONFIDENCE-LEVEL", PRIVATE_SCHEME, "Level of the possible answers")
POSSIBLE_ANSWERS = Code("POSSIBLE-ANSWERS", PRIVATE_SCHEME, "Possible answers at this level")
ANSWER_PRESENT = Code("ONLY-PRESENT", PRIVATE_SCHEME, "Present alone")
ANSWER_ABSENT = Code("ONLY-ABSENT", PRIVATE_SCHEME, "Not present alone")
ANSWER_OPEN = Code("BOTH-POSSIBLE", PRIVATE_SCHEME, "Both: present and not present")
ANSWER_NONE = Code("NONE-CERTAIN", PRIVATE_SCHEME, "Neither is as probable as right answers are")
RELIABILITY = Code("RELIABILITY", PRIVATE_SCHEME, "Reliability of the result")
FAMILIARITY = Code("FAMILIARITY", PRIVATE_SCHEME, "Likeness to the images of the validation")
FAMILIAR = Code("FAMILIAR", PRIVATE_SCHEME, "Like the images of the validation")
UNFAMILIAR = Code("UNFAMILIAR", PRIVATE_SCHEME, "Unlike the images of the validation")
FEATURE_DISTANCE = Code("DISTANCE", PRIVATE_SCHEME, "Mahalanobis distance of the features")
DISTANCE_LIMIT = Code("DISTANCE-LIMIT", PRIVATE_SCHEME, "Largest familiar distance")
ENERGY = Code("ENERGY", PRIVATE_SCHEME, "Energy of the logits")
ENERGY_LIMIT = Code("ENERGY-LIMIT", PRIVATE_SCHEME, "Largest familiar energy")

# Words of the explanation group.
EXPLANATION_METHOD = Code("EXPLAIN-METHOD", PRIVATE_SCHEME, "Explanation method")
EXPLANATION_OF = Code("EXPLANATION-OF", PRIVATE_SCHEME, "Evidence for")
EXPLANATION_AGAINST = Code("EXPLAIN-AGAINST", PRIVATE_SCHEME, "Rather than")
GATE_VERDICT = Code("GATE-VERDICT", PRIVATE_SCHEME, "Verdict on the explanation")
GATE_PASSED = Code("GATE-PASSED", PRIVATE_SCHEME, "All checks passed")
GATE_LABELLED = Code("GATE-LABELLED", PRIVATE_SCHEME, "Shown although a check failed")
GATE_WITHHELD = Code("GATE-WITHHELD", PRIVATE_SCHEME, "Withheld because a check failed")
GATE_NOT_RUN = Code("GATE-NOT-RUN", PRIVATE_SCHEME, "Not measured")
EXPLANATION_GRADE = Code("EXPLAIN-GRADE", PRIVATE_SCHEME, "Grade of the explanation")
#: Grades from the best to none, by the letter.
EXPLANATION_GRADES = {
    "A": Code("GRADE-A", PRIVATE_SCHEME, "A: all checks passed"),
    "B": Code("GRADE-B", PRIVATE_SCHEME, "B: checks passed, but not all were made"),
    "C": Code("GRADE-C", PRIVATE_SCHEME, "C: a check failed, read with care"),
    "D": Code("GRADE-D", PRIVATE_SCHEME, "D: may not show what the model used"),
    "not measured": Code("GRADE-NONE", PRIVATE_SCHEME, "Not measured: no grade"),
}
GATE_REASON = Code("GATE-REASON", PRIVATE_SCHEME, "Reason of the verdict")
MEASURE_LIMIT = Code("MEASURE-LIMIT", PRIVATE_SCHEME, "Limit of a measure")
EXPLANATION_FAILED = Code("EXPLAIN-FAILED", PRIVATE_SCHEME, "Explanation that could not be made")
EXPLANATION_WARNING = Code("EXPLAIN-WARNING", PRIVATE_SCHEME, "Warning of the method")
MODEL_NOTICE = Code("MODEL-NOTICE", PRIVATE_SCHEME, "Notice of the model's maker")
INTENDED_USE = Code("INTENDED-USE", PRIVATE_SCHEME, "Intended use of the model")
USE_RESTRICTION = Code("USE-RESTRICTION", PRIVATE_SCHEME, "Restriction of use")
RESPONSIBLE_CONTACT = Code("CONTACT", PRIVATE_SCHEME, "Whom to ask")

# References, algorithms and equipment.
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
SEGMENTATION_DERIVATION = Code("113076", "DCM", "Segmentation")
QUANTITY = Code("246205007", "SCT", "Quantity")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")

# CID 7150: categories of segments.
TISSUE = Code("85756007", "SCT", "Tissue")
ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
BODY_SUBSTANCE = Code("91720002", "SCT", "Body Substance")
SPATIAL_CONCEPT = Code("309825002", "SCT", "Spatial and Relational Concept")

#: Of the phantom's planted lesions; deliberately no clinical concept.
SYNTHETIC_LESION = Code("SYNTHETIC-LESION", PRIVATE_SCHEME, "Synthetic lesion of a QA phantom")

#: What a fractional segmentation holds.
RELEVANCE_FRACTION = Code("RELEVANCE", PRIVATE_SCHEME, "Relevance as a fraction of the peak")
#: Lower limits (fraction of the peak of the positive relevance) and their concepts.
RELEVANCE_BANDS: tuple[tuple[float, Code], ...] = (
    (0.2, Code("RELEVANCE-20-40", PRIVATE_SCHEME, "Relevance 20 to 40 percent of the peak")),
    (0.4, Code("RELEVANCE-40-60", PRIVATE_SCHEME, "Relevance 40 to 60 percent of the peak")),
    (0.6, Code("RELEVANCE-60-80", PRIVATE_SCHEME, "Relevance 60 to 80 percent of the peak")),
    (0.8, Code("RELEVANCE-80", PRIVATE_SCHEME, "Relevance at least 80 percent of the peak")),
)

_TISSUES = (
    Code("389080008", "SCT", "White Matter"),
    Code("389081007", "SCT", "Gray Matter"),
    Code("68523003", "SCT", "Cerebral White Matter"),
    Code("40146001", "SCT", "Cerebral cortex"),
    Code("33060004", "SCT", "Cerebellar White Matter"),
    Code("25991003", "SCT", "Cerebellar Cortex"),
)
_SUBSTANCES = (Code("65216001", "SCT", "Cerebrospinal Fluid"),)
_ANATOMY = (
    Code("12738006", "SCT", "Brain"),
    Code("66720007", "SCT", "Lateral Ventricle"),
    Code("53118009", "SCT", "Inferior Horn of Lateral Ventricle"),
    Code("49841001", "SCT", "Third ventricle"),
    Code("35918002", "SCT", "Fourth Ventricle"),
    Code("42695009", "SCT", "Thalamus"),
    Code("11000004", "SCT", "Caudate Nucleus"),
    Code("89278009", "SCT", "Putamen"),
    Code("14738005", "SCT", "Globus Pallidus"),
    Code("119238007", "SCT", "Brain Stem"),
    Code("5366008", "SCT", "Hippocampus"),
    Code("4958002", "SCT", "Amygdala"),
    Code("427667007", "SCT", "Nucleus Accumbens"),
    Code("110700", "DCM", "Ventral Diencephalon"),
    Code("113305005", "SCT", "Cerebellum"),
    Code("10200004", "SCT", "Liver"),
    Code("64033007", "SCT", "Kidney"),
    Code("78961009", "SCT", "Spleen"),
    Code("15776009", "SCT", "Pancreas"),
    Code("69695003", "SCT", "Stomach"),
    Code("28231008", "SCT", "Gallbladder"),
    Code("32849002", "SCT", "Esophagus"),
    Code("80891009", "SCT", "Heart"),
    Code("39607008", "SCT", "Lung"),
    Code("15825003", "SCT", "Aorta"),
    Code("41216001", "SCT", "Prostate"),
    Code("51282000", "SCT", "Vertebra"),
    Code("113197003", "SCT", "Rib"),
)
_ABNORMALITIES = (
    Code("52988006", "SCT", "Lesion"),
    Code("27925004", "SCT", "Nodule"),
    Code("4147007", "SCT", "Mass"),
    Code("108369006", "SCT", "Neoplasm"),
    Code("79654002", "SCT", "Edema"),
    Code("6574001", "SCT", "Necrosis"),
    Code("50960005", "SCT", "Hemorrhage"),
    Code("367643001", "SCT", "Cyst"),
    Code("36118008", "SCT", "Pneumothorax"),
    Code("60046008", "SCT", "Pleural effusion"),
    Code("41699000", "SCT", "Effusion"),
    Code("287272002", "SCT", "Cardiomegaly"),
    SYNTHETIC_LESION,
)

#: Other spellings that published models use, normalized as ``_normalized`` does.
_SYNONYMS = {
    "wm": "white matter",
    "gm": "gray matter",
    "grey matter": "gray matter",
    "csf": "cerebrospinal fluid",
    "cortical gray matter": "cerebral cortex",
    "cerebellum white matter": "cerebellar white matter",
    "cerebellum cortex": "cerebellar cortex",
    "inferior lateral ventricle": "inferior horn of lateral ventricle",
    "inf lat vent": "inferior horn of lateral ventricle",
    "3rd ventricle": "third ventricle",
    "4th ventricle": "fourth ventricle",
    "thalamus proper": "thalamus",
    "caudate": "caudate nucleus",
    "pallidum": "globus pallidus",
    "brainstem": "brain stem",
    "accumbens": "nucleus accumbens",
    "accumbens area": "nucleus accumbens",
    "ventraldc": "ventral diencephalon",
    "ventral dc": "ventral diencephalon",
    "tumor": "neoplasm",
    "tumour": "neoplasm",
    "oedema": "edema",
    "haemorrhage": "hemorrhage",
    "oesophagus": "esophagus",
    "gall bladder": "gallbladder",
    "synthetic lesion": "synthetic lesion of a qa phantom",
}

_MEASURES = {
    "integrity": "Integrity of the heatmap",
    "residual": "Axiom residual, relative",
    "comprehensiveness": "Comprehensiveness above displaced masks",
    "comprehensiveness_top": "Comprehensiveness of the most relevant tenth",
    "specificity": "Loss of the class against that of another",
    "sufficiency": "Sufficiency of the focus",
    "stability": "Rank correlation under mild noise",
    "plausibility": "Relevance inside the body or organ",
    "edges": "Correlation with edges",
    "intensity": "Correlation with intensity",
    "agreement": "Agreement of two method families",
    "pointing": "Pointing game",
    "mass_accuracy": "Relevance mass accuracy",
    "rank_accuracy": "Relevance rank accuracy",
    "iou": "Intersection over union",
}

#: Method, as routes write it, to what people call it and to the concept of its family.
_METHODS = {
    "saliency": ("saliency", SALIENCY),
    "smoothgrad": ("SmoothGrad", SALIENCY),
    "input_x_gradient": ("input x gradient", INPUT_X_GRADIENT),
    "integrated_gradients": ("integrated gradients", INTEGRATED_GRADIENTS),
    "expected_gradients": ("expected gradients", EXPECTED_GRADIENTS),
    "deeplift": ("DeepLIFT", DEEPLIFT),
    "deeplift_shap": ("DeepLIFT-SHAP", DEEPLIFT_SHAP),
    "kernel_shap": ("KernelSHAP", KERNEL_SHAP),
    "lime": ("LIME", LIME),
    "occlusion": ("occlusion", OCCLUSION),
    "rise": ("RISE", RISE),
    "cam": ("CAM", CLASS_ACTIVATION),
    "eigen_cam": ("EigenCAM", CLASS_ACTIVATION),
    "grad_cam": ("Grad-CAM", GRADIENT_CLASS_ACTIVATION),
    "grad_cam_pp": ("Grad-CAM++", GRADIENT_CLASS_ACTIVATION),
    "hires_cam": ("HiResCAM", GRADIENT_CLASS_ACTIVATION),
    "layer_cam": ("LayerCAM", GRADIENT_CLASS_ACTIVATION),
    "xgrad_cam": ("XGrad-CAM", GRADIENT_CLASS_ACTIVATION),
    "lrp": ("LRP", LAYER_WISE_RELEVANCE),
    "attention_rollout": ("attention rollout", ATTENTION_ROLLOUT),
    "evidence": ("the network's own evidence", OWN_EVIDENCE),
    "grad_attention": ("gradient-weighted attention", GRADIENT_ATTENTION),
}
#: What people call the rules of one method, which are methods of their own to them.
_RULES = {
    ("lrp", "epsilon"): "LRP-epsilon",
    ("lrp", "gamma"): "LRP-gamma",
    ("lrp", "zplus"): "LRP-z+",
    ("lrp", "cp"): "CP-LRP",
    ("lrp", "attn"): "AttnLRP",
}

_UNITS = {"1": NO_UNITS, "ml": MILLILITER, "%": Code("%", "UCUM", "percent")}

#: ASCII words, joined by nothing that could mean something.
_WORDS = re.compile(r"[A-Za-z0-9]+(?:[ _-][A-Za-z0-9]+)*")


def code_for_label(text: str) -> Code:
    """Return the concept that a model's label means, or a private one derived from the text.

    Case, spaces and what joins words make no difference, a sign beside a word does; a label that
    is not in the table always gets the same private code, never a guessed SNOMED CT number.
    """
    wanted = _normalized(text)
    wanted = _SYNONYMS.get(wanted, wanted)
    for code in (*_TISSUES, *_SUBSTANCES, *_ANATOMY, *_ABNORMALITIES):
        if _normalized(code.meaning) == wanted:
            return code
    return private_code(text)


def private_code(text: str) -> Code:
    """Return the concept of our own scheme that ``text`` always gets: value of at most 16."""
    meaning = " ".join(text.split())[:LONGEST_MEANING].strip() or "Unnamed"
    # A code value must be readable under every character set: ASCII letters, digits, hyphens.
    plain = unicodedata.normalize("NFKD", meaning).encode("ascii", "ignore").decode()
    value = re.sub(r"[^A-Z0-9]+", "-", plain.upper()).strip("-")
    # A sign that gets lost may be all the difference there is: "HER2+", "HER2-".
    if len(value) > LONGEST_VALUE or not _WORDS.fullmatch(meaning):
        digest = hashlib.sha256(text.encode()).hexdigest()[:6].upper()
        value = f"{value[:9].strip('-')}-{digest}".strip("-")
    return Code(value, PRIVATE_SCHEME, meaning)


def measure_code(name: str) -> Code:
    """Return the concept of a measure by its snake-case name."""
    meaning = _MEASURES.get(name, name.replace("_", " ").capitalize())
    return Code(private_code(name).value, PRIVATE_SCHEME, meaning)


def method_code(name: str) -> Code:
    """Return the concept of an explainer's family: CID 217 where it has one, else our own."""
    return _METHODS[name][1] if name in _METHODS else private_code(name)


def method_name(name: str, rule: str = "") -> str:
    """Return what people call an explainer: ``Grad-CAM++``, and with its rule ``LRP-gamma``."""
    called = _METHODS[name][0] if name in _METHODS else name
    return _RULES.get((name, rule)) or (f"{called} ({rule})" if rule else called)


def unit_code(ucum: str) -> Code:
    """Return the unit with this UCUM symbol."""
    return _UNITS.get(ucum) or Code(ucum, "UCUM", ucum)


def segment_category(concept: Code) -> Code:
    """Return the Segmented Property Category (CID 7150) that a segment's concept belongs to."""
    if concept in _TISSUES:
        return TISSUE
    if concept in _SUBSTANCES:
        return BODY_SUBSTANCE
    if concept in _ABNORMALITIES:
        return MORPHOLOGICALLY_ABNORMAL
    if concept in _ANATOMY:
        return ANATOMICAL_STRUCTURE
    return SPATIAL_CONCEPT


def _normalized(text: str) -> str:
    # A hyphen joins words; before or behind them it is a minus.
    joined = re.sub(r"(?<=\w)[_-](?=\w)", " ", text)
    return " ".join(joined.replace("_", " ").lower().split())
