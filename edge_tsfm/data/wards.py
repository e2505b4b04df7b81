"""Two simulated wards: their patients, their care, and how their monitors record.

Levels, spreads, autocorrelations, missing shares and steps between readings of ward A are near those of an
adult intensive care unit in public hourly data (PhysioNet/CinC Challenge 2019, hospital A). Ward B differs in
ways that a forecast can learn: the hour of care rounds, cuff instead of arterial line, patient mix, rounding,
missing stretches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Time constants of the noise in hours: from beat-to-beat scatter to days; their sum has a long memory.
TIME_CONSTANTS_H = (0.05, 0.6, 4.0, 24.0)
SIMULATED = ("HR", "MAP", "SBP", "DBP", "SpO2", "RESP", "TEMP")


@dataclass(frozen=True, kw_only=True)
class Vital:
    """How one vital sign behaves on a ward, in its signal's unit."""

    level: float
    between: float  # standard deviation of patients' levels
    within: float  # standard deviation around a patient's level, before episodes
    memory: tuple[float, float, float, float]  # share of that variance at each time constant
    circadian: float  # half the swing between 4 in the morning and 4 in the afternoon
    admission: float  # how far from the level patients arrive; fades over a day or two
    low: float
    high: float
    rounding: float
    missing: float  # share of single readings never written down


@dataclass(frozen=True, kw_only=True)
class Ward:
    """One ward; rates are per patient and day, hours are of the day."""

    name: str
    vitals: Mapping[str, Vital]  # HR MAP RESP SpO2 TEMP and PP, the pulse pressure that SBP and DBP come from
    care_hours: tuple[float, ...]
    care_width_h: float
    care_effect: Mapping[str, float]
    hypotension_rate: float
    pressor_share: float  # of hypotensions that are treated, ending higher than before
    fever_rate: float
    agitation_rate: float
    desaturation_rate: float
    artefact_rate: float
    away_rate: float  # to theatre, scanner: everything missing
    away_hours: float
    lost_rate: float  # one signal's lead, cuff or probe off
    lost_hours: float
    temperature_every_h: float  # charted by hand at this spacing where the interval is an hour or longer


WARD_A = Ward(
    name="A",
    vitals=MappingProxyType(
        {
            "HR": Vital(
                level=81, between=13, within=8.5, memory=(0.08, 0.14, 0.36, 0.42),
                circadian=2.0, admission=5, low=25, high=220, rounding=1, missing=0.04,
            ),
            "MAP": Vital(
                level=78, between=9, within=9.5, memory=(0.36, 0.16, 0.26, 0.22),
                circadian=2.5, admission=-4, low=25, high=180, rounding=1, missing=0.05,
            ),
            "PP": Vital(
                level=60, between=10, within=12, memory=(0.45, 0.15, 0.20, 0.20),
                circadian=1.0, admission=0, low=15, high=120, rounding=1, missing=0.04,
            ),
            "SpO2": Vital(
                level=97.4, between=1.3, within=2.1, memory=(0.28, 0.20, 0.28, 0.24),
                circadian=0.2, admission=-0.5, low=60, high=100, rounding=1, missing=0.06,
            ),
            "RESP": Vital(
                level=17.5, between=3.2, within=3.7, memory=(0.34, 0.16, 0.28, 0.22),
                circadian=0.8, admission=2, low=4, high=60, rounding=1, missing=0.05,
            ),
            "TEMP": Vital(
                level=36.9, between=0.35, within=0.35, memory=(0.05, 0.10, 0.45, 0.40),
                circadian=0.2, admission=-0.4, low=33, high=42, rounding=0.1, missing=0.05,
            ),
        }
    ),
    care_hours=(6.0, 18.0),
    care_width_h=0.8,
    care_effect=MappingProxyType({"HR": 9.0, "MAP": 12.0, "RESP": 3.0, "SpO2": -0.8}),
    hypotension_rate=0.5,
    pressor_share=0.7,
    fever_rate=0.12,
    agitation_rate=0.5,
    desaturation_rate=0.4,
    artefact_rate=1.5,
    away_rate=0.4,
    away_hours=1.5,
    lost_rate=0.6,
    lost_hours=1.0,
    temperature_every_h=4.0,
)  # fmt: skip

WARD_B = Ward(
    name="B",
    vitals=MappingProxyType(
        {
            "HR": Vital(
                level=78, between=12, within=7.0, memory=(0.10, 0.10, 0.35, 0.45),
                circadian=6.0, admission=12, low=25, high=220, rounding=1, missing=0.06,
            ),
            "MAP": Vital(
                level=88, between=12, within=9.0, memory=(0.20, 0.10, 0.30, 0.40),
                circadian=7.0, admission=10, low=25, high=180, rounding=2, missing=0.12,
            ),
            "PP": Vital(
                level=66, between=14, within=11, memory=(0.30, 0.10, 0.30, 0.30),
                circadian=3.0, admission=6, low=15, high=130, rounding=2, missing=0.12,
            ),
            "SpO2": Vital(
                level=95.4, between=1.9, within=1.9, memory=(0.25, 0.15, 0.30, 0.30),
                circadian=0.6, admission=-1.0, low=60, high=100, rounding=1, missing=0.08,
            ),
            "RESP": Vital(
                level=21, between=4.0, within=3.2, memory=(0.25, 0.15, 0.30, 0.30),
                circadian=2.0, admission=4, low=4, high=60, rounding=2, missing=0.10,
            ),
            "TEMP": Vital(
                level=37.2, between=0.4, within=0.4, memory=(0.05, 0.10, 0.45, 0.40),
                circadian=0.35, admission=0.3, low=33, high=42, rounding=0.1, missing=0.05,
            ),
        }
    ),
    care_hours=(0.0, 4.0, 8.0, 12.0, 16.0, 20.0),
    care_width_h=0.5,
    care_effect=MappingProxyType({"HR": 7.0, "MAP": 10.0, "RESP": 3.0, "SpO2": -1.2}),
    hypotension_rate=0.25,
    pressor_share=0.3,
    fever_rate=0.35,
    agitation_rate=0.3,
    desaturation_rate=0.9,
    artefact_rate=3.0,
    away_rate=0.2,
    away_hours=3.0,
    lost_rate=1.0,
    lost_hours=2.0,
    temperature_every_h=2.0,
)  # fmt: skip

WARDS: Mapping[str, Ward] = MappingProxyType({ward.name: ward for ward in (WARD_A, WARD_B)})
