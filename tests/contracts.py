"""RF contracts for tests: one to change, and any."""

import hypothesis.strategies as st

from s2d_zoo.contract import ClassContract, FeatureContract, FilterSelection, ForestContract, PixelSize, RFContract
from s2d_zoo.rf_adapter.features import FeatureSelection

NUCLEI = (ClassContract(name="glass", role="background"), ClassContract(name="nucleus", role="foreground"))
SMOOTHED = FeatureContract(filters=(FilterSelection(name="GaussianSmoothing", scales=(1.0,)),), compute_in_2d=True)


def contract(**changes):
    fields = {
        "ndim": 2,
        "classes": NUCLEI,
        "channels": (1,),
        "forest": ForestContract(implementation="sklearn", labels="strokes"),
        "features": SMOOTHED,
        "pixel_size": PixelSize(y=0.5, x=0.5),
    }
    return RFContract(**{**fields, **changes})


roles = st.sampled_from(["background", "foreground", "other"])
contracts = st.builds(
    contract,
    ndim=st.sampled_from([2, 3]),
    classes=st.lists(st.builds(ClassContract, name=st.text(min_size=1), role=roles), min_size=2, max_size=4),
    channels=st.lists(st.integers(0, 1), min_size=1, max_size=2),
    features=st.sampled_from([None, SMOOTHED, FeatureSelection().to_contract()]),
    pixel_size=st.none() | st.builds(PixelSize, y=st.floats(0.01, 100), x=st.floats(0.01, 100)),
)
